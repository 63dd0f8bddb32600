"""Files of a log, whole and damaged, as `dump` tells them: all that is sound, and where it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kcluster.client.dump import NAMES, Fact, dump, kind_of
from kcluster.client.dump_log import Flaw, Remark
from kcluster.client.segment_files import partitions_of, read_segments
from kcluster.core.log import checkpoints
from kcluster.core.log.index import OffsetIndex, TimeIndex
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.producers import Producers
from kcluster.core.log.segment import INDEX, LOG, SNAPSHOT, TIME_INDEX, file_name
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.segments import encode_batch
from kcluster.core.metadata.snapshot import encode_snapshot
from kcluster.model import TopicPartition
from kcluster.wire.compression import Compression
from kcluster.wire.group_records import OffsetCommitKey, OffsetCommitValue, encode_key, encode_value
from kcluster.wire.records import HEADER, Record, build_batch, crc_of

NOW_MS = 1_800_000_000_000
BASE = 100


def batches(count: int = 5) -> list[bytes]:
    """Of three records each, compressed in turn, from offset 100 on."""
    return [
        bytes(
            build_batch(
                [Record(b"value %d" % n, b"key", (), NOW_MS + n) for n in range(3)],
                base_offset=BASE + 3 * number,
                leader_epoch=number // 3,
                compression=Compression(number % 5),
                producer_id=7,
                producer_epoch=0,
                base_sequence=3 * number,
            )
        )
        for number in range(count)
    ]


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    place = tmp_path / "broker-1" / "orders-0"
    place.mkdir(parents=True)
    (place / file_name(BASE, LOG)).write_bytes(b"".join(batches()))
    return place


def told(path: Path, **options: bool) -> tuple[list[Any], list[Flaw], list[Remark]]:
    entries = list(dump(path, **options))
    flaws = [entry for entry in entries if isinstance(entry, Flaw)]
    remarks = [entry for entry in entries if isinstance(entry, Remark)]
    return [e for e in entries if not isinstance(e, Flaw | Remark)], flaws, remarks


def test_a_whole_log_is_shown_batch_by_batch(partition: Path) -> None:
    found, flaws, remarks = told(partition / file_name(BASE, LOG), with_records=True)
    assert (flaws, remarks) == ([], [])
    assert [(b.base_offset, b.last_offset, b.count, b.leader_epoch) for b in found] == [
        (100, 102, 3, 0), (103, 105, 3, 0), (106, 108, 3, 0), (109, 111, 3, 1), (112, 114, 3, 1),
    ]  # fmt: skip
    assert [b.codec for b in found] == ["none", "gzip", "snappy", "lz4", "zstd"]
    assert all(b.is_crc_ok and b.producer_id == 7 for b in found)
    assert [b.base_sequence for b in found] == [0, 3, 6, 9, 12]
    assert found[4].records[2] == {
        "offset": 114, "timestamp": NOW_MS + 2, "key": "key", "value": "value 2",
    }  # fmt: skip


def test_a_batch_with_a_wrong_crc_is_shown_and_the_walk_goes_on_behind_it(partition: Path) -> None:
    path = partition / file_name(BASE, LOG)
    parts = batches()
    start = len(parts[0])
    data = bytearray(path.read_bytes())
    data[start + 70] ^= 1
    path.write_bytes(data)
    found, flaws, _ = told(path)
    assert [b.is_crc_ok for b in found] == [True, False, True, True, True]
    [flaw] = flaws
    assert flaw.position == start
    assert "CRC" in flaw.damage and f"next sound batch is at {start + len(parts[1])}" in flaw.damage


def test_junk_between_batches_is_stepped_over(partition: Path) -> None:
    path = partition / file_name(BASE, LOG)
    parts = batches()
    path.write_bytes(parts[0] + b"junk" * 50 + b"".join(parts[1:]))
    found, flaws, _ = told(path)
    assert [b.base_offset for b in found] == [100, 103, 106, 109, 112]
    assert [flaw.position for flaw in flaws] == [len(parts[0])]


def test_an_offset_out_of_order_is_damage_of_a_batch_that_is_shown(partition: Path) -> None:
    path = partition / file_name(BASE, LOG)
    parts = batches()
    path.write_bytes(b"".join(parts[:2] + parts[3:]))
    found, flaws, _ = told(path)
    assert [b.base_offset for b in found] == [100, 103, 109, 112]
    assert [flaw.position for flaw in flaws] == [len(parts[0] + parts[1])]
    assert "109" in flaws[0].damage


def test_the_torn_end_of_the_last_segment_is_a_remark_and_of_a_sealed_one_damage(
    partition: Path,
) -> None:
    path = partition / file_name(BASE, LOG)
    path.write_bytes(path.read_bytes()[:-13])
    found, flaws, remarks = told(path)
    assert len(found) == 4 and not flaws
    assert f"{len(batches()[4]) - 13} bytes" in remarks[0].remark
    (partition / file_name(BASE + 15, LOG)).write_bytes(b"")
    found, flaws, remarks = told(path)
    assert len(flaws) == 1 and not remarks
    assert flaws[0].position == sum(map(len, batches()[:4]))


def test_whatever_byte_is_flipped_is_found_and_nothing_crashes(partition: Path) -> None:
    path = partition / file_name(BASE, LOG)
    (partition / file_name(BASE + 15, LOG)).write_bytes(b"")
    whole = path.read_bytes()
    starts = [sum(map(len, batches()[:n])) for n in range(6)]
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 0x10
        path.write_bytes(data)
        number = next(n for n in range(5) if starts[n] <= position < starts[n + 1])
        found, flaws, _ = told(path, with_records=True)
        in_epoch = position - starts[number] in range(12, 16)
        # Without the epoch cache an epoch that only rises is nobody's fault.
        assert flaws or in_epoch, position
        if flaws and not in_epoch:
            assert flaws[0].position == starts[number], position
        assert len([b for b in found if b.is_crc_ok]) >= 4


def test_a_batch_whose_records_cannot_be_read_is_damage(partition: Path) -> None:
    path = partition / file_name(BASE, LOG)
    batch = build_batch([Record(b"v")], base_offset=BASE)
    HEADER.pack_into(batch, 0, *(*HEADER.unpack_from(batch)[:12], 9))
    batch[17:21] = crc_of(batch, 0, len(batch)).to_bytes(4, "big")
    path.write_bytes(batch)
    assert told(path)[1] == []
    [flaw] = told(path, with_records=True)[1]
    assert "records cannot be read" in flaw.damage


def test_what_is_no_text_comes_as_base64(partition: Path) -> None:
    path = partition / file_name(BASE, LOG)
    path.write_bytes(build_batch([Record(b"\xff\x00", None)], base_offset=BASE))
    [batch], _, _ = told(path, with_records=True)
    assert batch.records[0] == {
        "offset": BASE, "timestamp": -1, "key": None, "value_base64": "/wA=",
    }  # fmt: skip


def test_records_of_the_metadata_log_and_of_groups_say_what_they_mean(tmp_path: Path) -> None:
    place = tmp_path / "__cluster_metadata-0"
    place.mkdir()
    (place / file_name(0, LOG)).write_bytes(
        encode_batch([r.TopicCreated("orders", b"t" * 16)], 0, 3, 0, NOW_MS)
    )
    [batch], _, _ = told(place / file_name(0, LOG), with_records=True)
    [record] = batch.records
    assert record["metadata"]["type"] == "TopicCreated" and record["committed"] == 0
    assert record["metadata"]["topic_id"] == "dHR0dHR0dHR0dHR0dHR0dA"
    place = tmp_path / "__consumer_offsets-3"
    place.mkdir()
    key = encode_key(OffsetCommitKey(group="g", topic="orders", partition=2))
    value = encode_value(OffsetCommitValue(offset=17))
    (place / file_name(0, LOG)).write_bytes(
        build_batch([Record(value, key), Record(None, key), Record(b"\0\3!", key)], base_offset=0)
    )
    [batch], _, _ = told(place / file_name(0, LOG), with_records=True)
    commit, tombstone, damaged = batch.records
    assert (commit["key"]["group"], commit["value"]["offset"]) == ("g", 17)
    assert tombstone["value"] is None
    assert "problem" in damaged


# --- the other files ------------------------------------------------------------------------


def small_files() -> dict[str, bytes]:
    index, times, epochs, producers = OffsetIndex(), TimeIndex(), LeaderEpochs(), Producers()
    position = 0
    for number, data in enumerate(batches()):
        header = HEADER.unpack_from(data)
        index.append(3 * number + 2, position)
        times.append_if_later(NOW_MS + number, 3 * number + 2)
        producers.update(header, header[0], NOW_MS)
        position += len(data)
    epochs.assign(0, 100)
    epochs.assign(1, 109)
    image = ClusterImage()
    image.replay(r.ClusterCreated("cluster"))
    image.next_offset = 1
    return {
        file_name(BASE, INDEX): index.encode(),
        file_name(BASE, TIME_INDEX): times.encode(),
        file_name(BASE + 15, SNAPSHOT): producers.encode(),
        "leader-epoch-checkpoint": epochs.encode(),
        checkpoints.HIGH_WATERMARKS: checkpoints.format_offsets({TopicPartition("orders", 0): 115}),
        "00000000000000000001.checkpoint": encode_snapshot(image),
        "partition.metadata": b"version: 0\ntopic_id: dHR0dHR0dHR0dHR0dHR0dA",
    }


SHOWN = {
    file_name(BASE, INDEX): "IndexEntry(offset=102, position=0)",
    file_name(BASE, TIME_INDEX): f"TimeEntry(timestamp={NOW_MS}, offset=102)",
    file_name(BASE + 15, SNAPSHOT): "last_sequence=14, base_offset=112, last_offset=114",
    "leader-epoch-checkpoint": "EpochStart(leader_epoch=1, start_offset=109)",
    checkpoints.HIGH_WATERMARKS: "topic='orders', partition=0, offset=115",
    "00000000000000000001.checkpoint": "next_offset",
    "partition.metadata": "dHR0dHR0dHR0dHR0dHR0dA",
}


@pytest.mark.parametrize("name", SHOWN)
def test_other_files_are_shown_whole_and_every_flip_is_survived(partition: Path, name: str) -> None:
    path = partition / name
    whole = small_files()[name]
    path.write_bytes(whole)
    found, flaws, _ = told(path)
    assert not flaws and kind_of(name)
    assert SHOWN[name] in str(found)
    unseen = 0
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 0x40
        path.write_bytes(data)
        unseen += not told(path)[1]
        path.write_bytes(whole[:position])
        list(dump(path))
    # A time index has no checksum, and its log is not asked; nor has a topic's id.
    if name.endswith(TIME_INDEX) or name == "partition.metadata":
        return
    assert unseen == 0


def test_every_name_that_is_offered_is_known_and_no_other() -> None:
    for name in NAMES:
        assert kind_of(name.replace("*", "00000000000000000000")), name
    assert kind_of("00000000000000000000.log.deleted") == kind_of("0.log.swap") == "log"
    assert kind_of("cluster.json") == kind_of("lock") == ""


def test_a_mark_of_damage_says_its_cause(partition: Path) -> None:
    (partition / "partition.damage").write_bytes(b"CRC\x1b[31m\xff")
    [fact], _, [remark] = told(partition / "partition.damage")
    assert isinstance(fact, Fact) and fact.value == "CRC\x1b[31m\\xff"
    assert "damaged" in remark.remark


# --- segments -------------------------------------------------------------------------------


def test_segments_are_what_their_headers_add_up_to(partition: Path, tmp_path: Path) -> None:
    tp = TopicPartition("orders", 0)
    (partition / file_name(BASE, INDEX)).write_bytes(small_files()[file_name(BASE, INDEX)])
    big = build_batch([Record(b"x" * 3_000_000, timestamp=NOW_MS)], base_offset=115, leader_epoch=4)
    (partition / file_name(115, LOG)).write_bytes(big + big[:50])
    assert partitions_of(tmp_path, 1) == [tp]
    sealed, active = read_segments(tmp_path, 1, tp, NOW_MS + 60_000)
    assert (sealed.base_offset, sealed.last_offset, sealed.records, sealed.batches) == (
        100, 114, 15, 5,
    )  # fmt: skip
    assert (sealed.index_entries, sealed.time_index_entries) == (5, None)
    assert (sealed.first_timestamp, sealed.last_timestamp) == (NOW_MS, NOW_MS + 2)
    assert (sealed.age_ms, sealed.leader_epochs, sealed.is_active) == (59_998, [0, 1], False)
    assert (active.records, active.bytes, active.is_active) == (1, len(big) + 50, True)
    assert (active.leader_epochs, active.problem) == ([4], f"no whole batch at byte {len(big)}")


def test_an_empty_segment_has_no_last_offset(partition: Path, tmp_path: Path) -> None:
    (partition / file_name(BASE, LOG)).write_bytes(b"")
    [empty] = read_segments(tmp_path, 1, TopicPartition("orders", 0), NOW_MS)
    assert (empty.last_offset, empty.age_ms, empty.records, empty.problem) == (None, None, 0, "")
