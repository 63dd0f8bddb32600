"""Numbers as people read them, at the borders between units."""

from __future__ import annotations

import pytest

from kcluster.tui import figures


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "-"), (0, "0"), (999, "999"), (1_000, "1.0k"), (9_140, "9.1k"), (9_949, "9.9k"),
     (9_950, "10k"), (999_499, "999k"), (999_500, "1.0M"), (4_200_000, "4.2M"), (10**15, "1000T")],
)  # fmt: skip
def test_counts(number: int | None, shown: str) -> None:
    assert figures.count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "-"), (0, "0B"), (1_023, "1023B"), (1_024, "1.0K"), (52_224, "51K"), (82 << 20, "82M"),
     (1 << 40, "1.0T")],
)  # fmt: skip
def test_sizes(number: int | None, shown: str) -> None:
    assert figures.size(number) == shown


@pytest.mark.parametrize(
    ("number", "shown", "short"),
    [(0, "0 B/s", "0"), (999, "999 B/s", "999"), (1_400_000, "1.4 MB/s", "1.4M"),
     (90_000, "90 kB/s", "90k"), (2.1e9, "2.1 GB/s", "2.1G")],
)  # fmt: skip
def test_rates(number: float, shown: str, short: str) -> None:
    assert figures.rate(number) == shown
    assert figures.short_rate(number) == short


def test_times() -> None:
    assert [figures.age(ms) for ms in (-5, 8_000, 60_000, 7_200_000, 10**9)] == [
        "0s", "8s", "1m", "2h", "11d"
    ]  # fmt: skip
    assert figures.uptime(751_000) == "00:12:31"
    assert figures.uptime(90_061_000) == "1d 01:01:01"
    assert [figures.latency(ms) for ms in (None, 3.1, 17.6, 1_234.0)] == [
        "-", "3.1 ms", "18 ms", "1.2 s"
    ]  # fmt: skip
    assert figures.clock(1_700_049_871_207) == "12:04:31.207"
