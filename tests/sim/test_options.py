"""What seeds have: much differs between them, and nothing goes beyond the fault contract."""

from __future__ import annotations

import pytest

from kcluster.sim.disk_faults import CORRUPT, POWER
from kcluster.sim.faults import KINDS
from kcluster.sim.options import CHANGES, draw

SEEDS = range(1, 1001)
DRAWN = [draw(seed) for seed in SEEDS]


def test_a_seed_has_the_same_options_every_time() -> None:
    assert draw(7) == draw(7)
    assert "\n" not in str(draw(7))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_exists_in_some_seeds_and_not_in_others(kind: str) -> None:
    count = sum(kind in options.faults for options in DRAWN)
    assert 0.05 * len(DRAWN) < count < 0.9 * len(DRAWN)


def test_some_seeds_have_one_kind_of_fault_and_some_nearly_all() -> None:
    counts = [len(options.faults) for options in DRAWN]
    assert counts.count(1) > len(DRAWN) / 10
    assert sum(count >= 0.8 * len(KINDS) for count in counts) > len(DRAWN) / 20


def test_bytes_are_lost_on_fewer_brokers_than_acknowledge_a_write() -> None:
    for options in DRAWN:
        lowest = min(options.min_isr, int(options.settings["min.insync.replicas"]))
        if POWER in options.faults:
            assert options.flushes or options.victims < lowest
        if CORRUPT in options.faults:
            assert options.victims < lowest


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_in_some_seeds(change: str) -> None:
    assert sum(change in options.changes for options in DRAWN) > len(DRAWN) / 20
