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

    @property
    def is_on(self) -> bool:
        return self.phase in ("starting", "running", "ending")
