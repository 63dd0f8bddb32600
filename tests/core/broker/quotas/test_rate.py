"""The rate of a client against Kafka's arithmetic, with the figures of Kafka's own tests."""

from __future__ import annotations

from kcluster.core.broker.quotas.rate import LONGEST_MS, Rate


def rate(limit: float, samples: int = 11) -> Rate:
    return Rate(limit, samples, 1000)


def test_a_spike_waits_until_the_rate_is_within_the_limit_again() -> None:
    """Kafka's `ClientQuotaManagerTest.testQuotaViolation`."""
    bytes_rate = rate(500)
    now_ms = 0
    for _ in range(10):
        assert bytes_rate.record(400, now_ms) == 0
        now_ms += 1000
    now_ms += 500
    # (400 * 10 + 2300) / 10.5 s = 600; (600 - 500) / 500 * 10.5 s
    assert bytes_rate.record(2300, now_ms) == 2100
    now_ms += 2100
    for _ in range(10):
        bytes_rate.record(400, now_ms)
        now_ms += 1000
    assert bytes_rate.record(0, now_ms) == 0


def test_time_is_a_percentage_by_the_same_rule() -> None:
    """Kafka's `ClientQuotaManagerTest.testRequestPercentageQuotaViolation`."""
    time_rate = rate(1)
    now_ms = 0
    for _ in range(10):
        assert time_rate.record(0.4, now_ms) == 0
        now_ms += 1000
    assert time_rate.record(6.71, now_ms + 500) == 210


def test_who_begins_anew_may_have_at_once_what_all_windows_but_one_hold() -> None:
    fresh = rate(100)
    assert fresh.at_once == 1000
    assert fresh.record(1000, 5) == 0
    assert fresh.record(1, 5) == 10


def test_a_wait_over_the_limit_is_enough_and_one_ms_less_is_not() -> None:
    fresh = rate(1000, samples=2)
    wait_ms = fresh.record(3000, 0)
    assert wait_ms == 2000
    too_early = rate(1000, samples=2)
    too_early.record(3000, 0)
    assert too_early.record(0, 1900) > 0


def test_what_is_older_than_all_windows_is_forgotten() -> None:
    old = rate(100, samples=3)
    assert old.record(900, 0) > 0
    assert old.record(0, 2999) > 0
    assert old.record(0, 3000) == 0
    assert old.record(200, 100_000) == 0


def test_what_was_not_taken_after_all_does_not_count() -> None:
    fetched = rate(100)
    assert fetched.record(5000, 0) > 0
    fetched.add(-5000, 0)
    assert fetched.record(1000, 0) == 0


def test_memory_stays_the_same_and_a_long_run_keeps_the_limit() -> None:
    steady = rate(1000)
    taken, now_ms = 0, 0
    while now_ms < 1_000_000:
        taken += 350
        now_ms += max(steady.record(350, now_ms), 1)
    assert 0.97 < taken / now_ms < 1.03
    assert len(steady._samples) == 12


def test_one_window_alone_and_the_longest_wait_are_numbers() -> None:
    alone = Rate(1, 1, 1000)
    assert alone.at_once == 0
    assert alone.record(10**12, 7) == LONGEST_MS
