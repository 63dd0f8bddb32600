"""A consumer group to and from the records of `__consumer_offsets`.

An entry is a key and its value, or None for a tombstone. `replay` moves a group by one entry, as
it is appended and as the log is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import msgspec

from kcluster.core.groups.consumer.group import NO_EPOCH, ConsumerGroup, Resolved
from kcluster.core.groups.consumer.member import ClassicTerms, Held, Member, MemberState, Part
from kcluster.model import TopicId
from kcluster.wire import consumer_group_records as wire

Entry = tuple[wire.Key, wire.Value | None]

_STATES = {state.value: state for state in MemberState}


# --- entries ------------------------------------------------------------------------------


def epoch_entry(group_id: str, epoch: int, metadata_hash: int) -> Entry:
    return (
        wire.ConsumerGroupMetadataKey(group_id),
        wire.ConsumerGroupMetadataValue(epoch, metadata_hash),
    )


def member_entry(group_id: str, member: Member) -> Entry:
    classic = member.classic
    return (
        wire.ConsumerGroupMemberMetadataKey(group_id, member.id),
        wire.ConsumerGroupMemberMetadataValue(
            instance_id=member.instance_id,
            rack_id=member.rack_id,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=list(member.topics),
            subscribed_topic_regex=member.pattern,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            server_assignor=member.assignor,
            classic_member_metadata=None
            if classic is None
            else wire.ClassicMemberMetadata(
                classic.session_timeout_ms,
                [wire.ClassicProtocol(name, metadata) for name, metadata in classic.protocols],
            ),
        ),
    )


def target_epoch_entry(group_id: str, epoch: int, wall_ms: int) -> Entry:
    return (
        wire.ConsumerGroupTargetAssignmentMetadataKey(group_id),
        wire.ConsumerGroupTargetAssignmentMetadataValue(epoch, wall_ms),
    )


def target_entry(group_id: str, member_id: str, target: Iterable[Part]) -> Entry:
    return (
        wire.ConsumerGroupTargetAssignmentMemberKey(group_id, member_id),
        wire.ConsumerGroupTargetAssignmentMemberValue(
            [wire.TopicPartition(topic, indexes) for topic, indexes in by_topic(target)]
        ),
    )


def current_entry(group_id: str, member: Member) -> Entry:
    return (
        wire.ConsumerGroupCurrentMemberAssignmentKey(group_id, member.id),
        wire.ConsumerGroupCurrentMemberAssignmentValue(
            member.epoch,
            member.previous_epoch,
            member.state.value,
            _told(member.assigned),
            _told(member.revoking),
        ),
    )


def pattern_entry(group_id: str, pattern: str, resolved: Resolved | None) -> Entry:
    value = None
    if resolved is not None:
        value = wire.ConsumerGroupRegularExpressionValue(
            list(resolved.topics), resolved.version, resolved.wall_ms
        )
    return wire.ConsumerGroupRegularExpressionKey(group_id, pattern), value


def member_tombstones(group_id: str, member_id: str) -> list[Entry]:
    return [
        (wire.ConsumerGroupCurrentMemberAssignmentKey(group_id, member_id), None),
        (wire.ConsumerGroupTargetAssignmentMemberKey(group_id, member_id), None),
        (wire.ConsumerGroupMemberMetadataKey(group_id, member_id), None),
    ]


def group_tombstones(group: ConsumerGroup) -> list[Entry]:
    """Of all that there is of it, the group itself last."""
    id = group.id
    members = list(group.facts.members)
    return [
        *((wire.ConsumerGroupCurrentMemberAssignmentKey(id, each), None) for each in members),
        *((wire.ConsumerGroupTargetAssignmentMemberKey(id, each), None) for each in members),
        (wire.ConsumerGroupTargetAssignmentMetadataKey(id), None),
        *((wire.ConsumerGroupMemberMetadataKey(id, each), None) for each in members),
        *(pattern_entry(id, each, None) for each in group.facts.patterns),
        (wire.ConsumerGroupMetadataKey(id), None),
    ]


def by_topic(parts: Iterable[Part]) -> Iterator[tuple[TopicId, list[int]]]:
    """Both sorted."""
    topics: dict[TopicId, list[int]] = {}
    for topic, partition in sorted(parts):
        topics.setdefault(topic, []).append(partition)
    yield from topics.items()


def _told(held: Held) -> list[wire.TopicPartitions]:
    return [
        wire.TopicPartitions(topic, indexes, [held[topic, index] for index in indexes])
        for topic, indexes in by_topic(held)
    ]


# --- replay -------------------------------------------------------------------------------


def replay(group: ConsumerGroup, key: wire.Key, value: wire.Value | None) -> bool:
    """Whether there is still such a group."""
    facts = group.facts
    match key:
        case wire.ConsumerGroupMetadataKey():
            if value is None:
                return False
            told = cast(wire.ConsumerGroupMetadataValue, value)
            facts.epoch, facts.metadata_hash = told.epoch, told.metadata_hash
        case wire.ConsumerGroupPartitionMetadataKey():
            # Of Kafka before 4.1: the next heartbeat counts topics anew.
            group.is_stale = True
        case wire.ConsumerGroupMemberMetadataKey(_, member_id):
            if value is None:
                group.drop_member(member_id)
            else:
                said = cast(wire.ConsumerGroupMemberMetadataValue, value)
                group.put_member(_introduced(_known(group, member_id), said))
        case wire.ConsumerGroupTargetAssignmentMetadataKey():
            facts.assignment_epoch = NO_EPOCH
            if value is not None:
                facts.assignment_epoch = cast(
                    wire.ConsumerGroupTargetAssignmentMetadataValue, value
                ).assignment_epoch
        case wire.ConsumerGroupTargetAssignmentMemberKey(_, member_id):
            if value is None:
                facts.target.pop(member_id, None)
            else:
                target = cast(wire.ConsumerGroupTargetAssignmentMemberValue, value)
                facts.target[member_id] = frozenset(
                    (each.topic_id, index)
                    for each in target.topic_partitions
                    for index in each.partitions
                )
        case wire.ConsumerGroupCurrentMemberAssignmentKey(_, member_id):
            if value is None:
                group.drop_assignment(member_id)
            else:
                stands = cast(wire.ConsumerGroupCurrentMemberAssignmentValue, value)
                group.put_member(_standing(_known(group, member_id), stands))
        case wire.ConsumerGroupRegularExpressionKey(_, pattern):
            if value is None:
                facts.patterns.pop(pattern, None)
            else:
                found = cast(wire.ConsumerGroupRegularExpressionValue, value)
                facts.patterns[pattern] = Resolved(
                    tuple(found.topics), found.version, found.timestamp
                )
    return True


def _known(group: ConsumerGroup, member_id: str) -> Member:
    return group.facts.members.get(member_id) or Member(member_id)


def _introduced(member: Member, said: wire.ConsumerGroupMemberMetadataValue) -> Member:
    classic = said.classic_member_metadata
    return msgspec.structs.replace(
        member,
        instance_id=said.instance_id,
        rack_id=said.rack_id,
        client_id=said.client_id,
        client_host=said.client_host,
        topics=tuple(said.subscribed_topic_names),
        pattern=said.subscribed_topic_regex,
        rebalance_timeout_ms=said.rebalance_timeout_ms,
        assignor=said.server_assignor,
        classic=None
        if classic is None
        else ClassicTerms(
            classic.session_timeout_ms,
            tuple((each.name, bytes(each.metadata)) for each in classic.supported_protocols),
        ),
    )


def _standing(member: Member, stands: wire.ConsumerGroupCurrentMemberAssignmentValue) -> Member:
    return msgspec.structs.replace(
        member,
        epoch=stands.member_epoch,
        previous_epoch=stands.previous_member_epoch,
        state=_STATES.get(stands.state, MemberState.UNKNOWN),
        assigned=_held(stands.assigned_partitions, stands.member_epoch),
        revoking=_held(stands.partitions_pending_revocation, stands.member_epoch),
    )


def _held(told: list[wire.TopicPartitions], epoch: int) -> dict[Part, int]:
    """Without assignment epochs, as Kafka before 4.3 wrote them, as of the member's."""
    held: dict[Part, int] = {}
    for each in told:
        epochs = each.assignment_epochs
        for at, index in enumerate(each.partitions):
            is_told = epochs is not None and at < len(epochs)
            held[each.topic_id, index] = epochs[at] if epochs is not None and is_told else epoch
    return held
