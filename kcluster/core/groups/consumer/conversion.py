"""From a classic group to a consumer group and back, while it has members (KIP-848).

    upgrade     a member of the consumer protocol joins a classic group of consumers: its members
                stay in the consumer group with what they own, and go on by JoinGroup, SyncGroup
                and Heartbeat (`classic`)
    downgrade   the last member of the consumer protocol is gone, and classic ones are left: they
                rebalance as a classic group

Either is one batch: what ends the one group and what is the other. A group without members is
replaced by one of the other kind whenever that is asked for; its offsets stay. Epochs go on from
generations and these from epochs (Kafka's begin anew where there are no members): in the life of
a group they only rise.

A classic group in the middle of a rebalance is taken over with what its members had before, or
said that they own when they joined: until one joins again that is not given to anybody else.

Sources: Kafka's GroupMetadataManager, `group.consumer.migration.policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final

from kcluster.core import traces
from kcluster.core.groups import rebalance
from kcluster.core.groups import records as classic_records
from kcluster.core.groups.consumer import clocks
from kcluster.core.groups.consumer.draft import Draft, encoded
from kcluster.core.groups.consumer.group import ConsumerGroup
from kcluster.core.groups.consumer.member import ClassicTerms, Member, Part
from kcluster.core.groups.consumer.records import (
    current_entry,
    epoch_entry,
    group_tombstones,
    member_entry,
    target_entry,
    target_epoch_entry,
)
from kcluster.core.groups.group import Group, GroupState
from kcluster.core.groups.group import Member as ClassicMember
from kcluster.errors import ApiError, ErrorCode, RemoteProtocolError
from kcluster.model import TopicId, TopicPartition
from kcluster.wire.consumer_protocol import (
    PROTOCOL_TYPE,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    user_data_of,
)

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Shard
    from kcluster.core.metadata.image import ClusterImage
    from kcluster.core.turn import Turn

UPGRADING: Final = frozenset({"bidirectional", "upgrade"})
DOWNGRADING: Final = frozenset({"bidirectional", "downgrade"})
"""Values of `group.consumer.migration.policy`."""


def draft_of(shard: Shard, group_id: str, turn: Turn, *, creates: bool) -> Draft:
    """Of the consumer group, made when `creates` and there is none, or a classic one that may
    become one. Raises ApiError GROUP_ID_NOT_FOUND."""
    found = shard.find_any(group_id)
    if isinstance(found, ConsumerGroup):
        return Draft(shard, found)
    if not creates:
        text = "there is no group" if found is None else "still classic: group"
        raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"{text} {group_id}.")
    if found is None:
        shard.check_room_for(group_id)
        return Draft(shard, ConsumerGroup(group_id, shard.offsets_of(group_id)))
    group = ConsumerGroup(group_id, found.offsets)
    before = [classic_records.group_tombstone(group_id, turn.wall_ms)]
    draft = Draft(shard, group, before)
    if not found.is_empty:
        _check_upgrade(shard, found)
        _take_over(draft, found, turn)
    elif found.generation:
        draft.add(epoch_entry(group_id, found.generation, 0))
    draft.then.append(lambda later: _end_classic(shard, found, group, later))
    return draft


# --- upgrade ------------------------------------------------------------------------------


def _check_upgrade(shard: Shard, classic: Group) -> None:
    """Raises ApiError GROUP_ID_NOT_FOUND, as Kafka does."""
    problem = ""
    if shard.settings.migration_policy not in UPGRADING:
        problem = "group.consumer.migration.policy does not allow it"
    elif classic.protocol_type != PROTOCOL_TYPE:
        problem = f"its members are of type {classic.protocol_type}"
    elif len(classic.members) > shard.settings.consumer_max_size:
        problem = f"more than {shard.settings.consumer_max_size} members are in it"
    if problem:
        raise ApiError(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"group {classic.id} cannot take to the consumer protocol: {problem}.",
        )


def _take_over(draft: Draft, classic: Group, turn: Turn) -> None:
    """Raises ApiError."""
    group, image = draft.group, draft.shard.image()
    taken: set[Part] = set()
    # Who waits for its first join to be answered owns nothing, and joins again.
    members = [member for member in classic.members.values() if not member.is_new]
    try:
        converted = [_converted(member, classic, image, taken) for member in members]
    except RemoteProtocolError as error:
        raise ApiError(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"group {classic.id} cannot take to the consumer protocol: what its members said "
            f"cannot be read: {error}.",
        ) from None
    generation = classic.generation
    draft.add(
        *(member_entry(group.id, member) for member in converted),
        epoch_entry(group.id, generation, 0),
        *(target_entry(group.id, member.id, member.assigned) for member in converted),
        target_epoch_entry(group.id, generation, turn.wall_ms),
        *(current_entry(group.id, member) for member in converted),
    )


def _converted(
    member: ClassicMember, classic: Group, image: ClusterImage, taken: set[Part]
) -> Member:
    """Raises RemoteProtocolError, and ApiError when the members' assignor would be missed."""
    if user_data_of(member.assignment):
        raise ApiError(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"group {classic.id} cannot take to the consumer protocol: its assignor hands out data "
            "of its own.",
        )
    metadata = member.metadata(classic.protocol) or member.protocols[0][1]
    subscription = decode_subscription(metadata)
    owned = decode_assignment(member.assignment) or subscription.owned
    parts = sorted(parts_of(owned, image) - taken)
    taken.update(parts)
    return Member(
        member.id,
        member.instance_id,
        None,
        member.client_id,
        member.client_host,
        tuple(sorted(set(subscription.topics))),
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        classic=ClassicTerms(member.session_timeout_ms, member.protocols),
        epoch=classic.generation,
        previous_epoch=classic.generation,
        assigned=dict.fromkeys(parts, classic.generation),
    )


def parts_of(partitions: Iterable[TopicPartition], image: ClusterImage) -> set[Part]:
    """Those of topics that there are."""
    return {
        (TopicId(image.topics[tp.topic].id), tp.partition)
        for tp in partitions
        if tp.topic in image.topics
    }


def _end_classic(shard: Shard, classic: Group, group: ConsumerGroup, turn: Turn) -> None:
    had_members = bool(classic.members)
    rebalance.abandon(shard, classic, turn, ErrorCode.REBALANCE_IN_PROGRESS)
    for member in group.classic_members:
        assert member.classic is not None
        clocks.start(
            shard,
            group,
            member.id,
            clocks.ClockKind.SESSION,
            member.classic.session_timeout_ms,
            turn,
        )
    if had_members:
        turn.trace(traces.GroupConverted(group.id, group.TYPE, len(group.members)))


# --- downgrade ----------------------------------------------------------------------------


def may_downgrade(shard: Shard, group: ConsumerGroup, gone: Collection[str]) -> bool:
    """Whether only classic members are left without `gone`, and they may go on by themselves."""
    left = [member for member in group.members.values() if member.id not in gone]
    return (
        bool(left)
        and all(member.classic is not None for member in left)
        and shard.settings.migration_policy in DOWNGRADING
        and len(left) <= shard.settings.max_size
    )


def downgrade(
    shard: Shard,
    group: ConsumerGroup,
    gone: Collection[str],
    turn: Turn,
    cause: str,
    done: Callable[[Turn, ErrorCode], None],
    *,
    rebalances: bool = True,
) -> None:
    """Raises ApiError; then it is the consumer group still."""
    image = shard.image()
    classic = Group(group.id)
    classic.offsets = group.offsets
    classic.protocol_type = PROTOCOL_TYPE
    classic.generation = classic.settled = classic.assigned = group.epoch
    classic.state_since_ms = turn.wall_ms
    for member in group.members.values():
        if member.id not in gone:
            classic.add(_reverted(shard, classic, member, image))
    classic.protocol = classic.choose_protocol()
    classic.state = GroupState.STABLE
    assignments = {member.id: member.assignment for member in classic.members.values()}
    batch = [
        *encoded(group_tombstones(group), turn.wall_ms),
        classic_records.group_record(classic, assignments, turn.wall_ms),
    ]
    shard.append(turn, batch, done)
    clocks.stop_all(shard, group)
    group.is_dead = True
    shard.groups[group.id] = classic
    turn.trace(traces.GroupConverted(group.id, "classic", len(classic.members)))
    for each in classic.members.values():
        rebalance.beat(shard, each, turn)
    if rebalances:
        rebalance.rebalance_or_join(
            shard,
            classic,
            turn,
            f"{', '.join(sorted(gone))}: {cause}; the classic members are left",
        )


def _reverted(shard: Shard, classic: Group, member: Member, image: ClusterImage) -> ClassicMember:
    assert member.classic is not None
    reverted = ClassicMember(
        shard,
        classic,
        member.id,
        member.instance_id,
        member.client_id,
        member.client_host,
        member.classic.session_timeout_ms,
        member.rebalance_timeout_ms,
        member.classic.protocols,
    )
    reverted.assignment = encode_assignment(partitions_of(member.assigned, image))
    return reverted


def partitions_of(parts: Iterable[Part], image: ClusterImage) -> list[TopicPartition]:
    """Those of topics that there are."""
    names = image.topic_names
    return [TopicPartition(names[topic], index) for topic, index in sorted(parts) if topic in names]


# --- groups without members ---------------------------------------------------------------


def become_classic(shard: Shard, group: ConsumerGroup, turn: Turn) -> None:
    """A classic member comes to a consumer group that has no members. Raises ApiError."""
    assert group.is_empty
    classic = Group(group.id)
    classic.offsets = group.offsets
    classic.protocol_type = PROTOCOL_TYPE
    classic.generation = classic.settled = group.epoch
    classic.state_since_ms = turn.wall_ms
    batch = [
        *encoded(group_tombstones(group), turn.wall_ms),
        classic_records.group_record(classic, {}, turn.wall_ms),
    ]
    shard.append(turn, batch, None)
    clocks.stop_all(shard, group)
    group.is_dead = True
    shard.groups[group.id] = classic
