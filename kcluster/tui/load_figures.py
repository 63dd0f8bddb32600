"""The checked load that this screen runs: what it has told so far, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from kcluster.chaos.report import Figures, Report


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
