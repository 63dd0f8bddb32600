"""How offsets expire (KIP-211), and how they go with their topics."""

from __future__ import annotations

import pytest

from kcluster.core.groups.offsets import Committed, Offsets, deletion
from kcluster.core.groups.shard import EXPIRED_PER_TURN
from kcluster.core.traces import OffsetsExpired
from kcluster.wire.group_records import GroupMetadataKey, OffsetCommitKey, encode_key
from kcluster.wire.records import Record
from tests.core.groups.playbook import (
    DAY_MS,
    PLACE,
    WALL_MS,
    Beat,
    Commit,
    FailOver,
    FakeJournal,
    Join,
    Joined,
    Leave,
    Ok,
    Story,
    Wait,
    stable,
)

DAYS = 7


def expire(group: Story) -> Story:
    group.shard.expire(group.turn)
    group.journal.reach(group.turn, group.journal.log_end_offset)
    group._take()
    return group


def days(group: Story, count: float) -> Story:
    """Pass, without anybody's session being over."""
    group.turn.wall_ms += int(count * DAY_MS)
    return group


# --- expiry -------------------------------------------------------------------------------


def test_of_a_group_that_never_had_members_offsets_expire_by_their_own_age() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    days(group, DAYS - 1)
    group >> Commit(offset=6, place=("orders", 1)) << Ok("")
    expire(days(group, 0.9))
    assert len(group.offsets()) == 2
    expire(days(group, 0.2))
    assert group.offsets() == {("orders", 1): 6}
    expire(days(group, DAYS))
    assert group.offsets() == {}
    assert group.shard.groups == {}
    assert [trace.count for trace in group.traces if isinstance(trace, OffsetsExpired)] == [1, 1]


def test_of_an_empty_group_offsets_expire_so_long_after_it_became_empty() -> None:
    group = stable("a")
    group >> Commit("a", 5) << Ok("a")
    days(group, DAYS + 1)
    group >> Leave("a") << Ok("a")
    expire(days(group, DAYS - 0.1))
    assert group.offset() == 5
    # A new coordinator knows since when it has been empty.
    group >> FailOver()
    expire(group)
    assert group.offset() == 5
    expire(days(group, 0.2))
    assert group.offset() is None
    assert group.shard.groups == {}


def test_of_a_stable_group_offsets_expire_of_topics_that_nobody_subscribes_to() -> None:
    group = stable("a")
    group >> Commit("a", 5) << Ok("a")
    group >> Commit("a", 6, ("payments", 0)) << Ok("a")
    expire(days(group, DAYS - 0.1))
    assert len(group.offsets()) == 2
    expire(days(group, 0.2))
    assert group.offsets() == {PLACE: 5}
    group >> Beat("a") << Ok("a")


def test_very_many_groups_expire_in_portions() -> None:
    group = Story()
    for number in range(EXPIRED_PER_TURN + 1):
        group.id = f"g{number}"
        group >> Commit(offset=5) << Ok("")
    days(group, DAYS + 1)
    written = len(group.journal.records)
    assert group.shard.expire(group.turn)
    # A group that loses its last offset goes with it.
    assert len(group.journal.records) - written <= 2 * EXPIRED_PER_TURN
    while group.shard.expire(group.turn):
        pass
    assert not any(each.offsets for each in group.shard.groups.values())


def test_nothing_expires_while_a_group_rebalances() -> None:
    group = stable("a")
    group >> Commit("a", 6, ("payments", 0)) << Ok("a")
    group >> Join("b", topics=["payments"])
    expire(days(group, DAYS + 1))
    assert group.offset(("payments", 0)) == 6


def test_nothing_expires_of_a_group_that_does_not_tell_what_it_subscribes_to() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    group >> Join("a", type="connect") << Joined("a", 1, leads="a")
    expire(days(group, DAYS + 1))
    assert group.offset() == 5


def test_a_group_without_members_and_offsets_is_deleted() -> None:
    group = stable("a")
    group >> Leave("a") << Ok("a")
    expire(group)
    assert group.shard.groups == {}
    [*_, last] = group.journal.records
    assert (last.key, last.value) == (encode_key(GroupMetadataKey("g")), None)
    end = group.journal.log_end_offset
    expire(group)
    assert group.journal.log_end_offset == end


def test_a_group_with_a_pending_member_is_not_deleted() -> None:
    group = stable("a")
    group >> Leave("a") << Ok("a")
    group >> Join("b", version=4)
    group.forget()
    expire(group)
    group >> Join("b", version=4) << Joined("b", 3, leads="b")


@pytest.mark.parametrize(("expires_in_ms", "is_there"), [(1, True), (0, False), (-1, False)])
def test_an_offset_with_an_expiry_of_its_own_expires_then(
    expires_in_ms: int, is_there: bool
) -> None:
    # Value version 1, of Kafka before KIP-211.
    value = (
        b"\x00\x01"
        + (5).to_bytes(8, "big")
        + b"\x00\x00"
        + WALL_MS.to_bytes(8, "big")
        + (WALL_MS + expires_in_ms).to_bytes(8, "big")
    )
    key = encode_key(OffsetCommitKey("g", *PLACE))
    group = Story(FakeJournal([Record(value, key, offset=0)]))
    assert group.offset() == 5
    expire(group)
    assert (group.offset() == 5) is is_there


def test_what_cannot_be_forgotten_now_is_with_the_next_round() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    days(group, DAYS + 1)
    from kcluster.errors import ErrorCode

    group.journal.failures = [ErrorCode.NOT_ENOUGH_REPLICAS]
    expire(group)
    assert group.offset() == 5
    expire(group)
    assert group.offset() is None


def test_a_shard_that_is_not_loaded_expires_nothing() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> FailOver()
    group.forget()
    days(group, DAYS + 1).shard.expire(group.turn)
    assert group.journal.log_end_offset == 1


# --- topics that are deleted --------------------------------------------------------------


def test_offsets_go_with_their_topic() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    group >> Commit(offset=6, place=("payments", 0)) << Ok("")
    group.shard.topics_deleted(group.turn, {"orders", "others"})
    group.journal.reach(group.turn, group.journal.log_end_offset)
    assert group.offsets() == {("payments", 0): 6}
    group >> FailOver()
    assert group.offsets() == {("payments", 0): 6}


def test_a_topic_deleted_while_a_shard_is_loaded_is_forgotten_afterwards() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> FailOver()
    group.forget()
    group.shard.topics_deleted(group.turn, {"orders"})
    journal = group.journal
    journal.reach(group.turn, journal.log_end_offset)
    journal.reach(group.turn, journal.log_end_offset)
    assert group.offset() is None


def test_a_topic_deleted_while_nothing_can_be_written_is_forgotten_later() -> None:
    from kcluster.errors import ErrorCode

    group = Story()
    group >> Commit(offset=5) << Ok("")
    group.journal.failures = [ErrorCode.NOT_ENOUGH_REPLICAS]
    group.shard.topics_deleted(group.turn, {"orders"})
    # What its namesake has by then stays.
    group >> Commit(offset=1, place=("orders", 1)) << Ok("")
    expire(group)
    assert group.offsets() == {("orders", 1): 1}


# --- slots --------------------------------------------------------------------------------


def entry(offset: int, log_offset: int) -> Committed:
    return Committed(offset, -1, "", WALL_MS, -1, log_offset)


def test_a_slot_shows_the_newest_below_the_high_watermark() -> None:
    offsets = Offsets()
    for at in range(4):
        offsets.replay(PLACE, entry(10 + at, at), 0)
    shown = [offsets.settle(PLACE, high_watermark) for high_watermark in range(5)]
    assert [each.offset if each else None for each in shown] == [None, 10, 11, 12, 13]


def test_a_deletion_hides_what_was_before_and_then_itself() -> None:
    offsets = Offsets()
    offsets.replay(PLACE, entry(10, 0), 0)
    offsets.replay(PLACE, deletion(1), 1)
    assert not offsets
    assert offsets.places() == []
    assert not offsets.is_forgotten(1)
    assert dict(offsets.committed(1)) == {PLACE: entry(10, 0)}
    assert offsets.is_forgotten(2)
    assert offsets.settle(PLACE, 2) is None


def test_a_deletion_of_what_never_was_leaves_nothing() -> None:
    offsets = Offsets()
    offsets.load(PLACE, deletion(0))
    assert offsets.is_forgotten(0)
    offsets.replay(PLACE, deletion(0), 1)
    assert offsets.is_forgotten(1)


def test_waiting_does_not_bring_an_expired_offset_back() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    expire(days(group, DAYS + 1))
    group >> Wait(10_000)
    group >> FailOver()
    assert group.offset() is None
