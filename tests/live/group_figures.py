"""Times of a run of a group, and how they are said."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from tests.live.group_history import Heard


@dataclass
class Figures:
    all_partitions: list[float] = field(default_factory=list)
    first_commit: list[float] = field(default_factory=list)
    all_commits: list[float] = field(default_factory=list)
    revocations_by_kills: int = 0
    join: list[float] = field(default_factory=list)
    leave: list[float] = field(default_factory=list)
    unowned: list[float] = field(default_factory=list)


def summary(times_ms: list[float]) -> dict[str, object]:
    if not times_ms:
        return {}
    return {
        "p50": round(statistics.median(times_ms), 1),
        "worst": round(max(times_ms), 1),
        "each": [round(each, 1) for each in times_ms],
    }


def conclusion(report: dict[str, Any]) -> str:
    """The figures that are looked for, on a line."""
    said = [f"{','.join(report['clients'])}: {'sound' if report['is_sound'] else 'NOT SOUND'}"]
    for name in ("kill_to_all_partitions", "kill_to_first_commit", "join", "leave"):
        if times := report[f"{name}_ms"]:
            said.append(f"{name} p50 {times['p50']:.0f} worst {times['worst']:.0f} ms")
    return ", ".join([*said, f"{report['seconds']:.0f} s"])


def first_record_ns(heard: list[Heard], partition: int, offset: int) -> int:
    return min(
        each.at_ns
        for each in heard
        if each.line["event"] == "records"
        and any(p == partition and a <= offset <= b for p, a, b in each.line["runs"])
    )


def first_commit_ns(heard: list[Heard], partition: int, offset: int) -> int:
    return min(
        each.at_ns
        for each in heard
        if each.line["event"] == "committed"
        and each.line["offsets"].get(str(partition), -1) > offset
    )
