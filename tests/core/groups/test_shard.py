"""A shard's life: it is read back, serves, fails and ends; records there and back."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kcluster.core.groups import records
from kcluster.core.groups import shard as shards
from kcluster.core.groups.shard import LOAD_WAIT_MS, GroupSettings, Phase, Shard
from kcluster.core.purgatory import Deadlines
from kcluster.core.traces import GroupsLoaded, Warned
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, CorruptLogError, ErrorCode, RemoteProtocolError
from kcluster.limits import LIMITS
from kcluster.wire.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
    encode_key,
    encode_value,
)
from kcluster.wire.message import encode
from kcluster.wire.records import Record
from tests.core.groups.playbook import (
    PLACE,
    WALL_MS,
    Beat,
    Commit,
    Delete,
    FailOver,
    FakeJournal,
    Join,
    Joined,
    Ok,
    Refused,
    Replicate,
    Story,
    Sync,
    Synced,
    Wait,
    stable,
)


def loaded(*found: Record) -> Shard:
    journal = FakeJournal(numbered(found), len(found))
    shard = Shard(journal, Deadlines(), Random(1), GroupSettings())
    turn = Turn()
    while shard.load(turn):
        pass
    return shard


def numbered(found: Any) -> list[Record]:
    for offset, record in enumerate(found):
        record.offset = offset
    return list(found)


def offset_of(shard: Shard, group: str = "g") -> int | None:
    offsets = shard.offsets_of(group)
    entry = offsets.settle(PLACE, shard.journal.high_watermark) if offsets is not None else None
    return entry.offset if entry is not None else None


# --- reading back -------------------------------------------------------------------------


def snapshot(shard: Shard) -> Any:
    """All that a log tells of groups."""
    return {
        group.id: (
            group.state,
            group.generation,
            group.protocol_type,
            group.protocol,
            group.leader,
            dict(group.static),
            [
                (
                    m.id,
                    m.instance_id,
                    m.client_id,
                    m.client_host,
                    m.session_timeout_ms,
                    m.rebalance_timeout_ms,
                    m.metadata(group.protocol),
                    m.assignment,
                )
                for m in group.members.values()
            ],
            dict(group.offsets.committed(shard.journal.high_watermark)),
        )
        for group in shard.groups.values()
    }


def test_a_group_is_read_back_as_it_was() -> None:
    group = Story()
    group >> Join("a", instance="one", session_ms=8_000, rebalance_ms=9_000)
    group << Joined("a", 1, leads="a")
    group >> Join("b")
    group >> Join("a", instance="one", session_ms=8_000, rebalance_ms=9_000)
    group.forget()
    group >> Sync("b")
    group >> Sync("a", {"a": b"1", "b": b"2"}) << Synced("a", b"1") << Synced("b", b"2")
    group >> Commit("a", 5) << Ok("a")
    group >> Commit("b", 6, ("orders", 1)) << Ok("b")
    before = snapshot(group.shard)
    group >> FailOver()
    assert snapshot(group.shard) == before
    group >> Sync("b") << Synced("b", b"2")
    group >> Commit("a", 7) << Ok("a")


def test_a_log_is_read_a_chunk_at_a_time() -> None:
    group = Story()
    for offset in range(10):
        group >> Commit(offset=offset) << Ok("")
    journal = FakeJournal(group.journal.records, 10)
    shard = Shard(journal, Deadlines(), Random(1), GroupSettings())
    turn = Turn()
    rounds = 0
    while shard.load(turn):
        rounds += 1
        assert shard.phase is Phase.LOADING
    assert rounds == 4
    assert shard.phase is Phase.ACTIVE
    assert offset_of(shard) == 9
    assert [type(trace) for trace in turn.traces] == [GroupsLoaded]
    assert not shard.load(turn)


def test_a_shard_serves_when_all_that_it_began_with_is_committed() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Commit(offset=6)
    group >> FailOver()
    group.forget()
    group >> Replicate(1)
    assert group.shard.phase is Phase.LOADING
    group >> Beat("a") << Refused("a", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    group >> Replicate(1)
    assert group.shard.phase is Phase.ACTIVE
    assert group.offset() == 6


def test_a_log_that_lost_its_beginning_meanwhile_is_read_from_where_it_starts() -> None:
    group = Story()
    for index in range(9):
        group >> Commit(offset=index, place=("orders", index)) << Ok("")
    journal = FakeJournal(group.journal.records, 9)
    shard = Shard(journal, Deadlines(), Random(1), GroupSettings())
    turn = Turn()
    assert shard.load(turn)
    journal.log_start_offset = 7
    while shard.load(turn):
        pass
    assert shard.phase is Phase.ACTIVE
    assert len(shard.groups["g"].offsets.places()) == 5


def test_members_are_read_back_in_each_version() -> None:
    value = GroupMetadataValue(
        protocol_type="consumer",
        generation=7,
        protocol="range",
        leader="a-1",
        current_state_timestamp=WALL_MS,
        members=[
            MemberMetadata(
                member_id="a-1",
                group_instance_id="one",
                client_id="a",
                client_host="/host",
                rebalance_timeout=9_000,
                session_timeout=8_000,
                subscription=b"s",
                assignment=b"x",
            )
        ],
    )
    for version in range(5):
        data = version.to_bytes(2, "big") + encode(value, version)
        shard = loaded(Record(data, encode_key(GroupMetadataKey("g"))))
        group = shard.groups["g"]
        [member] = group.members.values()
        assert (group.state.value, group.generation, group.leader) == ("Stable", 7, "a-1")
        assert (member.assignment, member.metadata("range")) == (b"x", b"s")
        assert member.instance_id == ("one" if version >= 3 else None)
        assert member.rebalance_timeout_ms == (9_000 if version >= 1 else 8_000)
        assert group.state_since_ms == (WALL_MS if version >= 2 else -1)


def test_offsets_are_read_back_in_each_version() -> None:
    value = OffsetCommitValue(
        offset=5, leader_epoch=3, metadata="note", commit_timestamp=WALL_MS, expire_timestamp=9
    )
    for version in range(5):
        for kind in (b"\x00\x00", b"\x00\x01"):
            data = version.to_bytes(2, "big") + encode(value, version)
            key = kind + encode(OffsetCommitKey("g", *PLACE), 0)
            shard = loaded(Record(data, key))
            entry = shard.groups["g"].offsets.settle(PLACE, 1)
            assert entry is not None
            assert (entry.offset, entry.metadata, entry.commit_ms) == (5, "note", WALL_MS)
            assert entry.leader_epoch == (3 if version >= 3 else -1)
            assert entry.expire_ms == (9 if version == 1 else -1)


def test_a_version_of_the_future_only_adds_what_is_skipped() -> None:
    value = OffsetCommitValue(offset=5)
    data = (9).to_bytes(2, "big") + encode(value, 4)
    assert offset_of(loaded(Record(data, encode_key(OffsetCommitKey("g", *PLACE))))) == 5


def test_tombstones_forget_what_was_before() -> None:
    key, group_key = encode_key(OffsetCommitKey("g", *PLACE)), encode_key(GroupMetadataKey("g"))
    offset = encode_value(OffsetCommitValue(offset=5))
    group = encode_value(GroupMetadataValue(protocol_type="consumer", generation=3))
    assert loaded(Record(offset, key), Record(None, key)).groups == {}
    assert loaded(Record(None, key), Record(None, group_key)).groups == {}
    assert loaded(Record(group, group_key), Record(None, group_key)).groups == {}
    # An offset outlives the tombstone of its group, as it does in Kafka.
    assert offset_of(loaded(Record(offset, key), Record(None, group_key))) == 5
    assert offset_of(loaded(Record(None, key), Record(offset, key))) == 5


def test_records_of_other_group_protocols_are_skipped() -> None:
    key = encode_key(OffsetCommitKey("g", *PLACE))
    shard = loaded(
        Record(b"whatever", b"\x00\x0awhatever"),
        Record(b"x", None),
        Record(encode_value(OffsetCommitValue(offset=5)), key),
    )
    assert offset_of(shard) == 5


def test_a_record_survives_its_way_through_the_log() -> None:
    group = stable("a")
    record = records.group_record(group.group, {group.ids["a"]: b"x"}, WALL_MS)
    assert record.timestamp == WALL_MS
    shard = loaded(record, records.group_tombstone("h", 1), records.offset_tombstone("h", PLACE, 1))
    [member] = shard.groups["g"].members.values()
    assert member.assignment == b"x"


def test_committed_members_without_ids_of_their_own_keep_their_order() -> None:
    group = stable("c", "a", "b")
    group >> FailOver()
    assert list(group.group.members) == [group.ids[name] for name in ("c", "a", "b")]
    assert group.group.leader == group.ids["c"]


# --- a log that cannot be read ------------------------------------------------------------

BAD = [
    Record(b"\x00\x03", encode_key(OffsetCommitKey("g", *PLACE))),
    Record(b"", encode_key(GroupMetadataKey("g"))),
    Record(b"\xff\xffwhatever", encode_key(GroupMetadataKey("g"))),
    Record(b"x", b"\x00"),
    Record(b"x", b"\x00\x01\x7f\xff"),
    Record(b"\x00\x03" + b"\xff" * 40, encode_key(GroupMetadataKey("g"))),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_record_that_nobody_can_read_fails_the_shard_and_nothing_else(bad: Record) -> None:
    good = Record(encode_value(OffsetCommitValue(offset=5)), encode_key(OffsetCommitKey("h", "t")))
    journal = FakeJournal(numbered([good, bad, good]), 3)
    group = Story(journal)
    assert group.shard.phase is Phase.FAILED
    assert group.shard.groups == {}
    [warned] = [trace for trace in group.traces if isinstance(trace, Warned)]
    assert "the record at 1" in warned.text
    unavailable = ErrorCode.COORDINATOR_NOT_AVAILABLE
    group >> Join("a") << Refused("a", unavailable)
    group >> Commit(offset=1) << Refused("", unavailable)
    # It ends with the leadership, as any other.
    group.shard.close(group.turn)
    group >> Beat("a") << Refused("a", ErrorCode.NOT_COORDINATOR)


def test_a_batch_that_nobody_can_read_fails_the_shard() -> None:
    class Unsound(FakeJournal):
        def read(self, offset: int) -> tuple[list[Record], int]:
            raise RemoteProtocolError("a record is cut short")

    group = Story(Unsound(numbered([BAD[0]]), 1))
    assert group.shard.phase is Phase.FAILED


def test_a_log_that_ends_before_its_end_fails_the_shard() -> None:
    class Short(FakeJournal):
        def read(self, offset: int) -> tuple[list[Record], int]:
            return [], offset

    group = Story(Short(numbered([BAD[0]]), 1))
    assert group.shard.phase is Phase.FAILED


def test_a_log_that_is_not_what_was_written_is_for_its_owner_to_judge() -> None:
    class Flipped(FakeJournal):
        def read(self, offset: int) -> tuple[list[Record], int]:
            raise CorruptLogError("CRC")

    shard = Shard(Flipped(numbered([BAD[0]]), 1), Deadlines(), Random(1), GroupSettings())
    with pytest.raises(CorruptLogError):
        shard.load(Turn())


# --- requests that wait -------------------------------------------------------------------


def loading() -> tuple[Story, list[str]]:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> FailOver()
    group.forget()
    return group, []


def serve(group: Story, told: list[str], name: str) -> Any:
    def attempt(turn: Turn) -> None:
        try:
            group.shard.check_active()
            told.append(name)
        except ApiError as error:
            told.append(error.code.name)

    return attempt


def test_requests_wait_for_the_end_of_the_loading_in_their_order() -> None:
    group, told = loading()
    for name in "abc":
        group.shard.park(group.turn, serve(group, told, name))
    assert told == []
    group >> Replicate()
    assert told == ["a", "b", "c"]
    group >> Wait(10 * LOAD_WAIT_MS)
    assert told == ["a", "b", "c"]


def test_requests_wait_only_so_long_for_a_shard() -> None:
    group, told = loading()
    group.shard.park(group.turn, serve(group, told, "a"))
    group._take()
    group >> Wait(LOAD_WAIT_MS + 200)
    assert told == ["COORDINATOR_LOAD_IN_PROGRESS"]
    assert not group.shard.parked


def test_requests_that_wait_for_a_shard_that_ends_look_elsewhere() -> None:
    group, told = loading()
    group.shard.park(group.turn, serve(group, told, "a"))
    group.shard.close(group.turn)
    assert told == ["NOT_COORDINATOR"]
    # What was read is committed now, and nobody's.
    group.journal.reach(group.turn, 1)
    assert group.shard.phase is Phase.CLOSED


def test_only_so_many_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    bounded = msgspec.structs.replace(LIMITS, parked_group_requests=1)
    monkeypatch.setattr(shards, "LIMITS", bounded)
    group, told = loading()
    group.shard.park(group.turn, serve(group, told, "a"))
    group.shard.park(group.turn, serve(group, told, "b"))
    assert told == ["COORDINATOR_LOAD_IN_PROGRESS"]


# --- deadlines ----------------------------------------------------------------------------


def test_a_shard_that_ends_leaves_no_deadline_behind() -> None:
    group = stable("a", "b")
    group >> Join("c", version=4)
    group.forget()
    group >> Join("d")
    group.replicates = False
    group >> Commit("a", 5)
    assert group.deadlines.count
    group.journal.depose(group.turn)
    group.shard.close(group.turn)
    assert group.deadlines.count == 0


def test_a_deleted_group_leaves_no_deadline_behind() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    group >> Join("a", version=4)
    group.forget()
    assert group.deadlines.count == 1
    group >> Delete() << Ok("")
    assert group.deadlines.count == 0


def test_nothing_rings_for_a_group_at_rest() -> None:
    group = stable("a")
    group >> Wait(100_000)
    assert group.state == "Empty"
    assert group.deadlines.count == 0
