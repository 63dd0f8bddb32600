"""The supervisor's book of server processes: what each is, and what its death calls for.

      stopped --launch--> starting --Ready--> running <--pause/resume--> paused
         ^                   |                   |                          |
         '---- stop ---------+------- death -----+--------------------------'
                                        |
                    by command: killed | stopped         else: failed --backoff--> launch

Pure: times come in, decisions go out; the supervisor acts on them.
"""

from __future__ import annotations

import os
import signal

import msgspec

from kcluster.wire.bus import ProcessState

BACKOFF_FIRST_MS = 100
BACKOFF_MAX_MS = 10_000
HEALTHY_MS = 10_000
"""Who ran for so long starts its back-off anew."""

EXIT_REFUSED = 78
"""Of a process that cannot run as it was asked to (EX_CONFIG of sysexits.h): it is not started
again, because that would end the same way."""


class ServerProcess(msgspec.Struct):
    """One seat: broker or coordinator (id 0), and the incarnation that sits in it."""

    id: int
    state: str = "stopped"
    """starting, running, paused, stopped, killed, failed."""
    incarnation: int = 0
    pid: int = 0
    """0: no process."""
    endpoint: str = ""
    """Where its inbox is bound; empty until it has told so."""
    since_ms: int = 0
    """Wall clock of the last change of state."""
    started_ms: int = 0
    """Monotonic clock of the last start."""
    starts: int = 0
    was_ready: bool = False
    """This incarnation has served."""
    doom: str = ""
    """Why its death, when it comes, is by command: "killed" or "stopped"; empty when it is not."""
    last_words: str = ""
    last_end: str = ""
    ended_ns: int = 0
    """Monotonic clock when the last death was heard of."""
    failures: int = 0
    """Deaths in a row, each soon after its start."""

    @property
    def is_alive(self) -> bool:
        return self.pid != 0

    def launched(self, incarnation: int, now_ms: int, wall_ms: int) -> None:
        assert not self.is_alive, "a seat is taken by one process at a time"
        self.incarnation = incarnation
        self.endpoint = ""
        self.doom = self.last_words = ""
        self.was_ready = False
        self.starts += 1
        self.started_ms = now_ms
        self.enter("starting", wall_ms)

    def enter(self, state: str, wall_ms: int) -> None:
        self.state = state
        self.since_ms = wall_ms

    def died(self, status: int, policy: str, now_ms: int, wall_ms: int) -> int | None:
        """Its end, `status` as of waitpid. How long to wait before it is started again, in ms;
        None: not at all."""
        self.pid = 0
        self.endpoint = ""
        self.last_end = end_text(status)
        if self.doom:
            self.last_end += " by command"
            self.enter(self.doom, wall_ms)
            if self.doom == "killed" and policy == "always":
                return self._backoff(now_ms)
            return None
        if status == 0:
            self.enter("stopped", wall_ms)
            return self._backoff(now_ms) if policy == "always" else None
        self.enter("failed", wall_ms)
        is_hopeless = os.WIFEXITED(status) and os.WEXITSTATUS(status) == EXIT_REFUSED
        return None if policy == "no" or is_hopeless else self._backoff(now_ms)

    def _backoff(self, now_ms: int) -> int:
        if now_ms - self.started_ms >= HEALTHY_MS:
            self.failures = 0
        delay_ms: int = min(BACKOFF_FIRST_MS << min(self.failures, 16), BACKOFF_MAX_MS)
        self.failures += 1
        return delay_ms

    def as_state(self) -> ProcessState:
        """As the others are told: without an endpoint there is nobody to talk to."""
        return ProcessState(self.id, self.incarnation, self.endpoint, self.pid, self.state)


def end_text(status: int) -> str:
    """A wait status as people read it."""
    if status == -1:
        return "ended"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return signal.Signals(number).name
        except ValueError:
            return f"signal {number}"
    return f"exit {os.waitstatus_to_exitcode(status)}"
