from __future__ import annotations

from pathlib import Path

from kcluster.core.traces import BecameLeader, Warned
from kcluster.world.events import TraceLog


def test_each_trace_is_one_line_with_its_time(tmp_path: Path) -> None:
    log = TraceLog(tmp_path / "logs" / "broker-1.log")
    log.write(1700, [BecameLeader("t", 0, 3, 10), Warned("two\nlines")])
    log.close()
    log.write(1701, [Warned("after the end")])
    assert log.path.read_text().splitlines() == [
        "1700 BecameLeader(topic='t', partition=0, leader_epoch=3, log_end_offset=10,"
        " high_watermark=-1)",
        "1700 Warned(text='two\\nlines')",
    ]


def test_the_file_is_bounded_with_one_predecessor(tmp_path: Path) -> None:
    log = TraceLog(tmp_path / "log", size_max=1000)
    for n in range(100):
        log.write(n, [Warned("x" * 50)])
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert log.path.read_text().splitlines()[-1].startswith("99 ")


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for n in range(2):
        log = TraceLog(tmp_path / "log")
        log.write(n, [Warned("x")])
        log.close()
    assert len(log.path.read_text().splitlines()) == 2
