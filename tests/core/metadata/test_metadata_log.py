"""The metadata log: durable before it is told, whole after any crash (invariant 17)."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest
from fastcrc import crc32
from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.metadata_log import COMMITTED_FILE, DIRECTORY, MetadataLog
from kcluster.core.metadata.snapshot import decode_snapshot, encode_snapshot
from kcluster.core.turn import Append, DiskOperation, Replace, Sync, Synced, Truncate, Turn
from kcluster.errors import CorruptLogError, DiskError
from kcluster.sim.disk import SimDisk
from kcluster.wire.records import HEADER_BYTES, Record, build_batch, crc_of


class Rig:
    """A metadata log on a simulated disk; syncs come back when asked to."""

    def __init__(self, disk: SimDisk | None = None, **options: Any) -> None:
        self.disk = disk if disk is not None else SimDisk()
        self.log = MetadataLog(self.disk, 1, **options)
        self.turn = Turn()
        self.pending: list[Sync] = []
        self.image = self.log.load(self.turn)
        self.carry_out()

    def carry_out(self) -> None:
        for _ in range(3):
            operations, self.turn.disk = self.turn.disk, []
            for operation in operations:
                self.perform(operation)
            self.log.settle(self.turn)

    def perform(self, operation: DiskOperation) -> None:
        if isinstance(operation, Sync):
            self.pending.append(operation)
            return
        errno = self.disk.perform(operation)
        if isinstance(operation, Append):
            if errno:
                operation.owner.write_failed(self.turn, operation, errno)
            operation.owner.written(self.turn, operation)
        else:
            assert errno == 0

    def append(self, *records: r.Record) -> None:
        for record in records:
            self.image.replay(record)
        self.log.append(self.turn, list(records))
        self.carry_out()

    def sync(self, errno: int = 0) -> None:
        operation = self.pending.pop(0)
        if not errno:
            assert self.disk.perform(operation) == 0
        self.log.synced(self.turn, Synced(operation.path, operation.token, errno))
        self.log.snapshot_if_due(self.turn)
        self.carry_out()

    def sync_all(self) -> None:
        while self.pending:
            self.sync()

    def names(self) -> list[str]:
        return self.disk.list(DIRECTORY)


def config(value: int) -> r.ConfigChanged:
    return r.ConfigChanged(4, "", "num.partitions", str(value))


def test_nothing_is_committed_before_its_sync_has_come_back() -> None:
    rig = Rig()
    rig.append(config(1))
    assert (rig.log.end_offset, rig.log.committed_offset) == (1, 0)
    assert rig.log.image.configs == {}
    rig.sync()
    assert rig.log.committed_offset == 1
    assert rig.log.image.records() == rig.image.records()


def test_what_comes_during_a_sync_shares_the_next_one() -> None:
    rig = Rig()
    rig.append(config(1))
    rig.append(config(2))
    rig.append(config(3))
    assert len(rig.pending) == 1
    rig.sync()
    assert rig.log.committed_offset == 1, "the sync was asked for before the others"
    assert len(rig.pending) == 1
    rig.sync()
    assert rig.log.committed_offset == 3
    assert not rig.pending


def test_failed_sync_is_fatal() -> None:
    rig = Rig()
    rig.append(config(1))
    with pytest.raises(DiskError):
        rig.sync(errno=5)


def test_failed_write_is_fatal() -> None:
    rig = Rig()
    rig.disk.fail_next[f"{DIRECTORY}/{0:020d}.log"] = 28
    with pytest.raises(DiskError):
        rig.append(config(1))


def test_loaded_records_count_as_committed_only_after_a_sync_of_their_own() -> None:
    """KAFKA-12460: what a dead controller wrote may not be durable yet."""
    first = Rig()
    first.append(config(1))
    second = Rig(first.disk)
    assert (second.log.end_offset, second.log.committed_offset) == (1, 0)
    assert second.image.records() == first.image.records()
    second.sync()
    assert second.log.committed_offset == 1


def test_committed_records_survive_a_power_cut_and_others_may_not() -> None:
    rig = Rig()
    rig.append(config(1))
    rig.sync()
    rig.append(config(2))
    rig.disk.lose_power()
    again = Rig(rig.disk)
    assert again.image.overrides(4, "") == {"num.partitions": "1"}


def test_torn_tail_is_cut_and_the_log_goes_on_from_there() -> None:
    rig = Rig()
    rig.append(config(1))
    rig.sync_all()
    rig.append(config(2))
    path = f"{DIRECTORY}/{0:020d}.log"
    del rig.disk.files[path].data[-3:]
    again = Rig(rig.disk)
    assert again.log.end_offset == 1
    again.append(config(7))
    again.sync_all()
    assert Rig(rig.disk).image.overrides(4, "") == {"num.partitions": "7"}


def test_hole_in_what_was_never_committed_is_cut() -> None:
    """A power cut loses unsynced pages in any order: a later batch may be whole."""
    rig = Rig()
    rig.append(config(1))
    rig.sync()
    path = f"{DIRECTORY}/{0:020d}.log"
    hole = len(rig.disk.files[path].data)
    rig.append(config(2))
    rig.append(config(3))
    rig.disk.files[path].data[hole : hole + 40] = bytes(40)
    assert Rig(rig.disk).log.end_offset == 1


@pytest.mark.parametrize("byte", [4, 30, 70])
def test_damage_to_committed_records_is_refused_not_cut(byte: int) -> None:
    """NATS #7556: damaged metadata must never cause deletion."""
    rig = Rig()
    for value in range(3):
        rig.append(config(value))
        rig.sync()
    path = f"{DIRECTORY}/{0:020d}.log"
    rig.disk.files[path].data[byte] ^= 1
    before = bytes(rig.disk.files[path].data)
    with pytest.raises(CorruptLogError):
        Rig(rig.disk)
    assert bytes(rig.disk.files[path].data) == before


@pytest.mark.parametrize("left", ["flipped", "torn", "one batch less", "empty", "missing"])
def test_a_log_without_the_end_that_was_committed_is_refused_not_taken_for_a_shorter_one(
    left: str,
) -> None:
    rig = Rig()
    sizes = []
    path = f"{DIRECTORY}/{0:020d}.log"
    for value in range(3):
        rig.append(config(value))
        rig.sync()
        sizes.append(len(rig.disk.files[path].data))
    data = rig.disk.files[path].data
    match left:
        case "flipped":
            data[-1] ^= 1
        case "missing":
            del rig.disk.files[path]
        case _:
            del data[{"torn": sizes[2] - 3, "one batch less": sizes[1], "empty": 0}[left] :]
    with pytest.raises(CorruptLogError):
        Rig(rig.disk)


@pytest.mark.parametrize("byte", range(12))
def test_a_committed_offset_that_is_damaged_is_not_believed(byte: int) -> None:
    rig = Rig()
    rig.append(config(1))
    rig.sync_all()
    rig.disk.files[f"{DIRECTORY}/{COMMITTED_FILE}"].data[byte] ^= 4
    again = Rig(rig.disk)
    assert again.image.overrides(4, "") == {"num.partitions": "1"}
    again.sync_all()
    assert again.log.committed_offset == 1


# --- snapshots ----------------------------------------------------------------------------


def filled(values: int, **options: int) -> Rig:
    rig = Rig(snapshot_records=4, **options)
    for value in range(values):
        rig.append(config(value), r.FeatureChanged(f"f{value}", value))
        rig.sync_all()
    return rig


def test_snapshots_come_in_time_and_one_before_the_newest_is_kept_with_its_log() -> None:
    rig = filled(11)
    names = rig.names()
    assert [name for name in names if name.endswith("checkpoint")] == [
        f"{16:020d}.checkpoint",
        f"{20:020d}.checkpoint",
    ]
    assert [name for name in names if name.endswith("log")] == [
        f"{16:020d}.log",
        f"{20:020d}.log",
    ]


def test_snapshot_and_tail_are_the_same_as_full_replay() -> None:
    rig = filled(11)
    assert Rig(rig.disk).image.records() == rig.image.records()


def test_damaged_snapshot_falls_back_to_the_one_before_and_the_log() -> None:
    """KAFKA-10533, KAFKA-13968: whichever byte it is."""
    rig = filled(11)
    data = rig.disk.files[f"{DIRECTORY}/{20:020d}.checkpoint"].data
    for at in range(len(data)):
        data[at] ^= 1
        again = Rig(rig.disk)
        data[at] ^= 1
        assert again.image.records() == rig.image.records()
        assert again.log.snapshot_offset == 16, at


def test_without_a_whole_snapshot_a_log_without_its_beginning_is_refused() -> None:
    rig = filled(11)
    for offset in (16, 20):
        del rig.disk.files[f"{DIRECTORY}/{offset:020d}.checkpoint"].data[30:]
    with pytest.raises(CorruptLogError):
        Rig(rig.disk)


def test_missing_segment_is_refused() -> None:
    rig = filled(11)
    del rig.disk.files[f"{DIRECTORY}/{20:020d}.checkpoint"]
    del rig.disk.files[f"{DIRECTORY}/{16:020d}.log"]
    with pytest.raises(CorruptLogError):
        Rig(rig.disk)


def test_log_that_ends_below_its_snapshot_goes_on_from_the_snapshot() -> None:
    rig = filled(2)
    rig.disk.files[f"{DIRECTORY}/{0:020d}.log"].data.clear()
    again = Rig(rig.disk)
    assert again.image.records() == rig.image.records()
    again.append(config(99))
    again.sync_all()
    assert Rig(rig.disk).image.overrides(4, "") == {"num.partitions": "99"}
    assert Rig(rig.disk).log.end_offset == 5


def test_tail_serves_committed_records_and_says_when_it_no_longer_can() -> None:
    rig = filled(5, tail_records=6)
    assert rig.log.tail(10) == []
    assert rig.log.tail(8) == [config(4), r.FeatureChanged("f4", 4)]
    assert rig.log.tail(4) is not None
    assert rig.log.tail(3) is None
    rig.append(config(50))
    assert rig.log.tail(10) == [], "not committed yet"


# --- against full replay (Hypothesis) -----------------------------------------------------

IDS = st.sampled_from([bytes([index] * 16) for index in range(1, 4)])
RECORDS: st.SearchStrategy[r.Record] = st.one_of(
    st.builds(r.TopicCreated, st.sampled_from("abc"), IDS),
    st.builds(r.TopicDeleted, IDS),
    st.builds(
        r.PartitionChanged,
        IDS,
        st.integers(0, 2),
        st.just([1, 2]),
        st.just([1]),
        st.sampled_from([1, -1]),
        st.integers(0, 9),
        st.integers(0, 9),
        st.sampled_from([[], [2]]),
        st.integers(-1, 2),
        st.booleans(),
        st.sampled_from([[], [2]]),
    ),
    st.builds(
        r.BrokerRegistered,
        st.integers(1, 3),
        st.integers(0, 3),
        st.integers(1, 3),
        st.just("h"),
        st.integers(1, 9),
        st.just("ipc://x"),
    ),
    st.builds(r.BrokerUnfenced, st.integers(1, 3), st.integers(0, 3)),
    st.builds(r.BrokerFenced, st.integers(1, 3), st.integers(0, 3)),
    st.builds(r.BrokerShuttingDown, st.integers(1, 3), st.integers(0, 3)),
    st.builds(
        r.ConfigChanged,
        st.sampled_from([2, 4]),
        st.sampled_from("abc"),
        st.sampled_from("kl"),
        st.one_of(st.none(), st.text(max_size=3)),
    ),
    st.builds(r.ProducerIdsAllocated, st.integers(1, 5000)),
    st.builds(r.FeatureChanged, st.sampled_from("xy"), st.integers(0, 3)),
    st.builds(r.ClusterCreated, st.text(min_size=1, max_size=4)),
)


@settings(max_examples=60)
@given(
    decisions=st.lists(st.lists(RECORDS, min_size=1, max_size=3), max_size=20),
    synced=st.lists(st.booleans(), min_size=20, max_size=20),
    snapshot_records=st.integers(1, 8),
)
def test_snapshot_plus_tail_is_full_replay(
    decisions: list[list[r.Record]], synced: list[bool], snapshot_records: int
) -> None:
    rig = Rig(snapshot_records=snapshot_records)
    full = ClusterImage()
    committed: list[list[r.Record]] = []
    for decision, syncs in zip(decisions, synced, strict=False):
        for record in decision:
            full.replay(record)
        rig.append(*decision)
        committed.append(decision)
        if syncs:
            rig.sync_all()
    assert Rig(rig.disk).image.records() == full.records()
    end = rig.log.committed_offset
    rig.disk.lose_power()
    again = Rig(rig.disk)
    assert again.log.end_offset >= end, "nothing committed is lost"
    replayed = ClusterImage()
    flat = [record for decision in committed for record in decision]
    for record in flat[: again.log.end_offset]:
        replayed.replay(record)
    assert again.image.records() == replayed.records()


NOT_TEXT = r.encode(r.ClusterCreated("abcd")).replace(b"abcd", b"\xff\xfe\xff\xfe")
TOO_DEEP = (
    msgspec.msgpack.encode({"type": "ClusterCreated", "cluster_id": "abcd", "later": 1})[:-1]
    + b"\x91" * 100_000
    + b"\x90"
)


@pytest.mark.parametrize("value", [NOT_TEXT, TOO_DEEP])
def test_a_sound_batch_of_somebody_else_is_refused_whatever_is_in_it(value: bytes) -> None:
    """Found by fuzzing: msgspec raises more than its own errors."""
    disk = SimDisk()
    data = build_batch([Record(value=value)])
    disk.perform(Replace(f"{DIRECTORY}/{0:020d}.log", data))
    with pytest.raises(CorruptLogError):
        MetadataLog(disk, 1).load(Turn())
    payload = b"\x91" + value
    magic = encode_snapshot(ClusterImage())[:20]
    head = struct.pack(">QIQ", 1, crc32.iscsi(payload), len(payload))
    with pytest.raises(CorruptLogError):
        decode_snapshot(magic + head + payload)


def test_damage_before_a_sound_batch_that_cannot_be_read_is_not_cut() -> None:
    """Found by fuzzing: nobody knows what that batch would say is committed."""
    rig = Rig()
    rig.append(config(1))
    path = f"{DIRECTORY}/{0:020d}.log"
    data = rig.disk.files[path].data
    data[30] ^= 1
    foreign = build_batch([Record(value=b"x", headers=[("committed", b"short")])], base_offset=1)
    turn = Turn()
    data += foreign
    MetadataLog(rig.disk, 1).load(turn)
    assert [type(operation) for operation in turn.disk] == [Truncate], "nothing was committed"
    unreadable = bytearray(foreign)
    unreadable[HEADER_BYTES] += 2
    struct.pack_into(">I", unreadable, 17, crc_of(unreadable, 0, len(unreadable)))
    data[-len(foreign) :] = unreadable
    turn = Turn()
    with pytest.raises(CorruptLogError):
        MetadataLog(rig.disk, 1).load(turn)
    assert not turn.disk
