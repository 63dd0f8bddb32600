"""The journal of events: bounded, read back, and going on where it was."""

from __future__ import annotations

from pathlib import Path

from kcluster.processes.journal import FILES, Journal, read_events
from kcluster.wire.events import ClusterEvent


def event(seq: int, text: str = "x") -> ClusterEvent:
    return ClusterEvent(seq, 1000 + seq, seq, -1, 1, "process", "Started", text, broker=1)


def seqs(directory: Path) -> list[int]:
    return [each.seq for each in read_events(directory)]


def test_what_is_kept_is_read_back_and_counted_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.next_seq == 1
    journal.append([event(1), event(2, "line\nend → ü")])
    journal.close()
    assert list(read_events(tmp_path)) == [event(1), event(2, "line\nend → ü")]
    assert Journal(tmp_path).next_seq == 3


def test_an_empty_directory_has_no_events(tmp_path: Path) -> None:
    assert seqs(tmp_path) == []


def test_the_journal_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    journal = Journal(tmp_path, file_bytes=1000)
    for seq in range(1, 101):
        journal.append([event(seq)])
    kept = seqs(tmp_path)
    assert kept == list(range(kept[0], 101))
    assert len(kept) >= 3
    assert all((tmp_path / name).stat().st_size <= 1000 for name in FILES)
    journal.close()
    assert Journal(tmp_path).next_seq == 101


def test_a_journal_that_has_just_turned_over_goes_on_counting(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([event(1)])
    journal.close()
    (tmp_path / FILES[1]).rename(tmp_path / FILES[0])
    assert Journal(tmp_path).next_seq == 2


def test_a_torn_line_is_skipped_and_does_not_tear_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([event(1), event(2)])
    journal.close()
    path = tmp_path / FILES[1]
    path.write_bytes(path.read_bytes()[:-20])
    journal = Journal(tmp_path)
    assert journal.next_seq == 2
    journal.append([event(2, "again")])
    assert list(read_events(tmp_path)) == [event(1), event(2, "again")]
