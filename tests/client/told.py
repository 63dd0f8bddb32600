"""Events as a cluster would tell them, written by hand."""

from __future__ import annotations

import time

from kcluster.core import traces as t
from kcluster.processes.chronicle import Chronicle, Fields
from kcluster.wire.events import ClusterEvent

NOON_MS = 12 * 3_600_000
"""Of the first of January 1970."""


def clock(at_ms: int) -> str:
    text = time.strftime("%H:%M:%S", time.gmtime(at_ms // 1000))
    return f"{text}.{at_ms % 1000:03d}"


class Told:
    """Times are in ms since noon. Each start of a process is an incarnation of its own."""

    def __init__(self, first_seq: int = 1) -> None:
        self.events: list[ClusterEvent] = []
        self.chronicle = Chronicle(first_seq, self.events.extend)
        self.incarnations: dict[int, int] = {}

    def by(self, at: float, process: int, *traces: t.Trace) -> None:
        """What happened in one turn of a process, 0 for the coordinator."""
        self.chronicle.heard(process, self.incarnations.get(process, 1), *_times(at), traces=traces)

    def coordinator(self, at: float, *traces: t.Trace) -> None:
        self.by(at, 0, *traces)

    def signalled(self, at: float, id: int, signal: str = "SIGKILL") -> None:
        self._did(at, "chaos", "Signalled", f"{signal} sent", id, {"signal": signal})

    def asked(self, at: float, id: int) -> None:
        self._did(at, "chaos", "Asked", "asked to stop", id)

    def paused(self, at: float, id: int) -> None:
        self._did(at, "chaos", "Paused", "SIGSTOP sent", id, {"for_ms": 0})

    def resumed(self, at: float, id: int) -> None:
        self._did(at, "chaos", "Resumed", "SIGCONT sent", id)

    def died(self, at: float, id: int, how: str = "SIGKILL by command", reason: str = "") -> None:
        self._did(at, "process", "Died", f"ended: {how}", id, {"how": how, "reason": reason})

    def started(self, at: float, id: int) -> None:
        self.incarnations[id] = self.incarnations.get(id, 1) + 1
        self._did(at, "process", "Started", "started", id)

    def ready(self, at: float, id: int) -> None:
        self._did(at, "process", "Ready", "serves", id)

    def missing(self, count: int) -> None:
        """So many events were told, and are not in the journal."""
        self.chronicle.next_seq += count

    def killed(self, at: float, id: int) -> None:
        self.signalled(at, id)
        self.died(at + 3, id)

    def _did(
        self, at: float, type: str, event: str, text: str, id: int, fields: Fields | None = None
    ) -> None:
        wall_ms, ns = _times(at)
        self.chronicle.did(
            type, event, text, broker=id, incarnation=self.incarnations.get(id, 1),
            at_ms=wall_ms, monotonic_ns=ns, fields=fields,
        )  # fmt: skip


def _times(at: float) -> tuple[int, int]:
    return NOON_MS + int(at), int((1_000_000 + at) * 1e6)
