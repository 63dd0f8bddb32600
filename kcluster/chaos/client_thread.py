"""What writers and readers of a load have in common: a thread with a client that may break."""

from __future__ import annotations

import threading


class ClientThread(threading.Thread):
    """Ends some time after it is told to; `load` does not go on as if nothing were wrong when it
    ended by itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.breaks = 0
        """How often its client had to be replaced."""
        self.problem = ""
        """Why, the last time."""
        self.crash = ""
        """A bug ended it."""

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.crash = repr(error)
            raise

    def work(self) -> None:
        raise NotImplementedError
