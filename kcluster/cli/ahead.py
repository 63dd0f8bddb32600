"""A supervisor that was started before it was known what it shall do."""

from __future__ import annotations

from kcluster.processes.launch import Launch

_started: Launch | None = None


def launch() -> None:
    global _started  # noqa: PLW0603 - there is one command line in a process
    _started = Launch()


def take() -> Launch:
    """The one that was started ahead, or one started now."""
    global _started
    started, _started = _started, None
    return started or Launch()
