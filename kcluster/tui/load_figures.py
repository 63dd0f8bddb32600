"""The checked load that this screen runs: what it has told so far, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Figures(msgspec.Struct, frozen=True):
    """What is shown of `kcluster.chaos.report.Figures`, whose room takes long to import."""

    seconds: float
    acknowledged: int
    failed: int
    unknown: int
    p50_ms: float | None
    p99_ms: float | None
    longest_gap_ms: float


class Report(msgspec.Struct, frozen=True):
    """The same of `kcluster.chaos.report.Report`."""

    verdict: str
    acknowledged: int
    lost: int
    duplicated: int
    reordered: int
    longest_gap_ms: float | None


@dataclass(slots=True)
class LoadState:
    phase: str = "off"
    """off, starting, running, ending (all is being read back), over, failed."""
    figures: Figures | None = None
    rate: float = 0.0
    """Records per second."""
    report: Report | None = None
    problem: str = ""
    command: str = ""

    def take(self, told: Figures | Report) -> None:
        if isinstance(told, Report):
            self.phase, self.report = "over", told
            return
        before = self.figures
        if before is not None and told.seconds > before.seconds:
            passed_s = told.seconds - before.seconds
            self.rate = (told.acknowledged - before.acknowledged) / passed_s
        self.figures = told
        if self.phase == "starting":
            self.phase = "running"

    def fail(self, problem: str) -> None:
        self.phase, self.problem = "failed", problem

    @property
    def is_on(self) -> bool:
        return self.phase in ("starting", "running", "ending")
