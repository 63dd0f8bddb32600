from __future__ import annotations

import pytest

from kcluster.chaos.judge import Verdict
from kcluster.chaos.ledger import Meter
from kcluster.chaos.report import Described, ReplicaReport, Report, make_report


def report(
    *names: str, acks: int = -1, lost: int = 0, is_settled: bool = True, end_offset: int = 9
) -> Report:
    meter = Meter(1)
    meter.sending(10)
    meter.acknowledge(0, [(0, 8)], 2_000_000)
    meter.give_up(2, "REQUEST_TIMED_OUT", is_refused=False)
    verdict = Verdict(lost=lost)
    for name in names:
        verdict.add(name, lambda: "an example")
    described = Described("c", "load", "run", acks, acks == -1, 1, 0, None, 1000, 100, 1, 2.0)
    replicas = [ReplicaReport(0, 1, True, True, 8, end_offset, "")]
    return make_report(described, meter, verdict, replicas, [], 0, is_settled=is_settled)


@pytest.mark.parametrize(
    ("made", "verdict", "exit_code"),
    [
        (report(), "ok", 0),
        (report("lost-write", lost=1), "violated", 11),
        (report("duplicate"), "violated", 11),
        (report("diverged-logs", acks=0), "violated", 11),
        (report("lost-write", acks=1, lost=1), "lost", 11),
        (report("lost-write", acks=0, lost=1), "ok", 0),
        (report("duplicate", acks=1), "ok", 0),
        (report(is_settled=False), "incomplete", 10),
        (report(end_offset=-1), "incomplete", 10),
        (report("lost-write", lost=1, is_settled=False), "violated", 11),
    ],
)
def test_the_exit_code_says_whether_something_acknowledged_is_missing(
    made: Report, verdict: str, exit_code: int
) -> None:
    assert (made.verdict, made.exit_code) == (verdict, exit_code)


def test_figures_are_those_of_acknowledgements() -> None:
    made = report()
    assert (made.acknowledged, made.unknown, made.sent) == (8, 2, 10)
    assert made.records_per_s == 4.0
    assert made.p50_ms == pytest.approx(2, rel=0.03)
    assert made.longest_gap_ms == 2.0


def test_with_acks_0_everything_is_unknown_and_nothing_is_timed() -> None:
    made = report(acks=0)
    assert (made.acknowledged, made.unknown) == (0, 10)
    assert made.p50_ms is made.longest_gap_ms is None
