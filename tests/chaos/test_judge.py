from __future__ import annotations

from pathlib import Path

import pytest

from kcluster.chaos.judge import is_promised
from kcluster.chaos.ledger import FAIL, INFO
from kcluster.chaos.seen import Seen
from kcluster.chaos.workload import OTHER, token_of
from tests.chaos.logs import WORKLOAD, in_order, judged, sent, values, write

COUNT = 43
"""Nine batches in three segments."""


def three(tmp_path: Path, contents: list[bytes]) -> dict[int, Path]:
    """The same on brokers 1, 2 and 3."""
    return {broker: write(tmp_path / f"{broker}" / "load-0", contents) for broker in (1, 2, 3)}


def rewritten(tmp_path: Path, contents: list[bytes], broker: int = 2, **how: int) -> Path:
    return write(tmp_path / f"other-{broker}" / "load-0", contents, **how)


def test_three_equal_replicas_with_everything_are_sound(tmp_path: Path) -> None:
    verdict, replicas = judged(sent(COUNT, told_from=0), three(tmp_path, in_order(COUNT)))
    assert not verdict.anomalies, verdict.anomalies
    assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0)
    assert [(r.records, r.end_offset, r.problem) for r in replicas] == [(COUNT, COUNT, "")] * 3


def test_what_every_replica_lacks_is_lost_once(tmp_path: Path) -> None:
    contents = in_order(COUNT)
    del contents[20]
    verdict, _ = judged(sent(COUNT), three(tmp_path, contents))
    assert verdict.anomalies.counts == {"lost-write": 1}
    assert "20 of key" in verdict.anomalies.examples["lost-write"][0]
    assert verdict.lost == 1


def test_what_one_replica_lacks_is_lost_and_that_replica_has_diverged(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    replicas[3] = rewritten(tmp_path, in_order(COUNT - 2), 3)
    verdict, found = judged(sent(COUNT), replicas)
    assert verdict.anomalies.counts == {"lost-write": 2, "diverged-logs": 1}
    assert all("broker 3" in text for text in verdict.anomalies.examples["lost-write"])
    assert (verdict.lost, found[2].records) == (2, COUNT - 2)


def test_a_replica_without_its_last_batches_has_lost_them(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    max(replicas[2].glob("*.log")).unlink()
    verdict, _ = judged(sent(COUNT), replicas, end=COUNT)
    assert verdict.anomalies.counts == {"lost-write": 3, "diverged-logs": 1}
    assert "first at 40" in verdict.anomalies.examples["diverged-logs"][0]


def test_a_replica_whose_directory_is_missing_has_lost_everything(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    replicas[1] = tmp_path / "nowhere"
    verdict, _ = judged(sent(COUNT), replicas, end=COUNT)
    assert verdict.lost == COUNT
    assert "diverged-logs" in verdict.anomalies.counts


def test_a_replica_that_is_not_in_sync_may_lack_the_end(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    max(replicas[2].glob("*.log")).unlink()
    verdict, found = judged(sent(COUNT), replicas, out_of_sync=[2])
    assert not verdict.anomalies
    assert [r.records for r in found if r.broker == 2] == [40]


def test_a_value_at_two_offsets_is_a_duplicate(tmp_path: Path) -> None:
    contents = [*in_order(COUNT), *values((0, 7), (0, 8))]
    verdict, _ = judged(sent(COUNT), three(tmp_path, contents))
    assert verdict.anomalies.counts == {"duplicate": 2}
    assert f"at 7 and {COUNT}" in verdict.anomalies.examples["duplicate"][0]
    assert verdict.duplicated == 2


def test_the_order_of_a_key_is_that_of_its_sends(tmp_path: Path) -> None:
    contents = in_order(COUNT)
    contents[10], contents[11] = contents[11], contents[10]
    verdict, _ = judged(sent(COUNT), three(tmp_path, contents))
    assert verdict.anomalies.counts == {"reordering": 1}
    assert verdict.reordered == 1


def test_two_producers_may_be_interleaved_in_any_way(tmp_path: Path) -> None:
    contents = [*in_order(10, 1), *in_order(10, 0), *values((1, 10), (0, 10), (1, 11))]
    verdict, _ = judged(sent(11, 12), three(tmp_path, contents))
    assert not verdict.anomalies, verdict.anomalies


def test_another_value_in_one_replica_is_divergence_though_its_crc_holds(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    contents = in_order(COUNT)
    contents[30] = contents[30].replace(b"....", b":::.")
    replicas[2] = rewritten(tmp_path, contents)
    verdict, _ = judged(sent(COUNT), replicas)
    assert verdict.anomalies.counts == {"diverged-logs": 1, "lost-write": 1, "foreign-write": 1}
    assert "first at 30" in verdict.anomalies.examples["diverged-logs"][0]


def test_the_same_records_in_another_leader_epoch_are_divergence(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    replicas[2] = rewritten(tmp_path, in_order(COUNT), epoch=1)
    verdict, _ = judged(sent(COUNT), replicas)
    assert verdict.anomalies.counts == {"diverged-logs": 1}


def test_a_flipped_bit_is_damage_and_its_records_are_lost(tmp_path: Path) -> None:
    replicas = three(tmp_path, in_order(COUNT))
    [first, *_] = sorted(replicas[2].glob("*.log"))
    damaged = bytearray(first.read_bytes())
    damaged[-10] ^= 1
    first.write_bytes(damaged)
    verdict, found = judged(sent(COUNT), replicas)
    assert verdict.anomalies.counts["corrupt-log"] == 1
    assert verdict.lost == COUNT - 15
    assert found[1].problem.endswith(f"CRC of the batch at {len(damaged) // 4 * 3}")


def test_what_was_refused_must_not_be_there_and_what_is_unknown_may(tmp_path: Path) -> None:
    contents = [*in_order(4), *in_order(3, 1)]
    streams = sent(5, 5)
    streams[0].settle(3, 1, FAIL)
    streams[0].settle(4, 1, FAIL)
    streams[1].settle(2, 3, INFO)
    verdict, _ = judged(streams, three(tmp_path, contents))
    assert verdict.anomalies.counts == {"phantom-write": 1}
    assert verdict.unknown_written == 1


def test_an_unknown_send_that_is_there_twice_is_a_duplicate(tmp_path: Path) -> None:
    contents = [*in_order(4), *values((0, 3))]
    streams = sent(4)
    streams[0].settle(3, 1, INFO)
    verdict, _ = judged(streams, three(tmp_path, contents))
    assert verdict.anomalies.counts == {"duplicate": 1}


def test_a_value_of_this_run_that_nobody_sent_is_foreign(tmp_path: Path) -> None:
    contents = [*in_order(4), WORKLOAD.value(0, 99), b"c0ffee00 nonsense", b"somebody else's"]
    verdict, found = judged(sent(4), three(tmp_path, contents))
    assert verdict.anomalies.counts == {"foreign-write": 2}
    assert found[0].records == 6


def test_an_acknowledged_offset_is_where_the_record_stands(tmp_path: Path) -> None:
    streams = sent(COUNT, told_from=0)
    streams[0].offsets[5] = 6
    verdict, _ = judged(streams, three(tmp_path, in_order(COUNT)))
    assert verdict.anomalies.counts == {"inconsistent-offsets": 1}
    verdict, _ = judged(streams, {1: tmp_path / "1" / "load-0"}, acks=1)
    assert not verdict.anomalies


def test_the_offset_of_a_duplicate_is_one_of_its_places(tmp_path: Path) -> None:
    contents = [*in_order(COUNT), *values((0, 7))]
    streams = sent(COUNT, told_from=0)
    streams[0].offsets[7] = COUNT
    verdict, _ = judged(streams, three(tmp_path, contents))
    assert verdict.anomalies.counts == {"duplicate": 1}
    streams[0].offsets[7] = COUNT + 1
    verdict, _ = judged(streams, {1: tmp_path / "1" / "load-0"})
    assert verdict.anomalies.counts == {"duplicate": 1, "inconsistent-offsets": 1}


def test_what_stood_there_before_the_load_is_not_judged(tmp_path: Path) -> None:
    contents = [*in_order(9, 1), *in_order(COUNT)]
    verdict, _ = judged(sent(COUNT, told_from=9), three(tmp_path, contents), begin=9)
    assert not verdict.anomalies, verdict.anomalies


def test_what_retention_took_is_not_lost(tmp_path: Path) -> None:
    log = write(tmp_path / "load-0", in_order(COUNT)[20:], base_offset=20)
    verdict, _ = judged(sent(COUNT, told_from=0), {1: log}, log_start=20)
    assert not verdict.anomalies, verdict.anomalies
    assert verdict.expired == 20


def test_with_acks_0_what_was_handed_over_and_is_missing_counts_as_lost(tmp_path: Path) -> None:
    verdict, _ = judged(sent(COUNT), three(tmp_path, in_order(COUNT - 1)), acks=0)
    assert (verdict.lost, verdict.anomalies.counts) == (1, {"lost-write": 1})
    assert not is_promised("lost-write", 0, is_idempotent=True)


@pytest.mark.parametrize(
    ("name", "acks", "is_idempotent", "promised"),
    [
        ("lost-write", -1, False, True),
        ("lost-write", 1, False, False),
        ("duplicate", -1, True, True),
        ("duplicate", -1, False, False),
        ("reordering", 1, True, False),
        ("diverged-logs", 0, False, True),
        ("inconsistent-offsets", 1, False, True),
    ],
)
def test_what_is_promised_depends_on_acks_and_idempotence(
    name: str, acks: int, is_idempotent: bool, promised: bool
) -> None:
    assert is_promised(name, acks, is_idempotent=is_idempotent) is promised


# --- polls ----------------------------------------------------------------------------------


def read(*runs: range, reader: str = "reader-0") -> Seen:
    """Everything at these offsets, as `in_order` puts it."""
    seen = Seen(0)
    for run in runs:
        for offset in run:
            seen.give(reader, offset, token_of(0, offset))
    return seen


def polled(tmp_path: Path, seen: Seen, *, is_drained: bool = True) -> dict[str, int]:
    log = write(tmp_path / "load-0", in_order(COUNT))
    verdict, _ = judged(sent(COUNT), {1: log}, seen=seen, is_drained=is_drained)
    return verdict.anomalies.counts


def test_a_reader_that_is_given_everything_in_order_is_content(tmp_path: Path) -> None:
    assert polled(tmp_path, read(range(COUNT))) == {}


def test_a_reader_that_is_given_an_offset_again_is_told(tmp_path: Path) -> None:
    assert polled(tmp_path, read(range(20), range(18, COUNT))) == {"nonmonotonic-poll": 2}


def test_a_reader_that_begins_again_may_be_given_old_offsets(tmp_path: Path) -> None:
    seen = read(range(20))
    seen.begin("reader-0")
    for offset in range(10, COUNT):
        seen.give("reader-0", offset, token_of(0, offset))
    assert polled(tmp_path, seen) == {}
    assert seen.repeated == 10


def test_a_record_between_two_polls_was_skipped_and_never_seen(tmp_path: Path) -> None:
    assert polled(tmp_path, read(range(20), range(22, COUNT))) == {"poll-skip": 2, "unseen": 2}


def test_what_a_reader_had_no_time_for_is_not_unseen(tmp_path: Path) -> None:
    assert polled(tmp_path, read(range(20)), is_drained=False) == {}
    assert polled(tmp_path / "again", read(range(20))) == {"unseen": COUNT - 20}


def test_a_polled_value_that_the_log_does_not_hold_is_inconsistent(tmp_path: Path) -> None:
    seen = read(range(COUNT))
    seen.tokens[5] = token_of(0, 99)
    seen.give("reader-0", COUNT, token_of(0, COUNT))
    assert polled(tmp_path, seen) == {"inconsistent-offsets": 2}


def test_a_replica_that_is_not_in_sync_may_lack_what_readers_were_given(tmp_path: Path) -> None:
    log = write(tmp_path / "load-0", in_order(COUNT - 5))
    verdict, _ = judged(sent(COUNT), {1: log}, out_of_sync=[1], seen=read(range(COUNT)))
    assert not verdict.anomalies
    seen = read(range(COUNT))
    seen.tokens[5] = token_of(0, 99)
    verdict, _ = judged(sent(COUNT), {1: log}, out_of_sync=[1], seen=seen)
    assert verdict.anomalies.counts == {"inconsistent-offsets": 1}


def test_where_none_is_in_sync_each_may_end_elsewhere(tmp_path: Path) -> None:
    logs = {
        broker: write(tmp_path / f"{broker}" / "load-0", in_order(length))
        for broker, length in ((1, 10), (2, 25), (3, 15))
    }
    verdict, found = judged(sent(COUNT), logs, out_of_sync=logs)
    assert not verdict.anomalies, verdict.anomalies
    assert [replica.records for replica in found] == [10, 25, 15]
    logs[3] = rewritten(tmp_path, in_order(14), 3)
    verdict, _ = judged(sent(COUNT), logs, out_of_sync=logs)
    assert verdict.anomalies.counts == {"diverged-logs": 1}


def test_two_readers_that_are_given_two_values_are_told(tmp_path: Path) -> None:
    seen = read(range(COUNT))
    seen.give("reader-1", 3, OTHER)
    assert polled(tmp_path, seen) == {"inconsistent-offsets": 1}


def test_what_is_read_behind_the_bound_is_not_judged(tmp_path: Path) -> None:
    seen = Seen(0, 20)
    for offset in range(COUNT):
        seen.give("reader-0", offset, token_of(0, offset))
    assert (len(seen.tokens), seen.is_cut) == (20, True)
    assert polled(tmp_path, seen) == {}
