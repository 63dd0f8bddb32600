"""Groups and offsets as records of `__consumer_offsets`, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups.consumer import records as consumer_records
from kcluster.core.groups.consumer.group import ConsumerGroup
from kcluster.core.groups.group import Group, GroupState, Member
from kcluster.core.groups.offsets import Committed, Place, deletion
from kcluster.wire import consumer_group_records as consumer_wire
from kcluster.wire.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_key,
    decode_value,
    encode_key,
    encode_value,
)
from kcluster.wire.records import Record

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Shard


def group_record(
    group: Group, assignments: dict[str, bytes], wall_ms: int, *, is_settled: bool = True
) -> Record:
    """The group as it is, its members with these assignments. One that is not settled, in the
    middle of a rebalance, has no leader: whoever reads it has the members join again. Who still
    waits for its first join to be answered is not among them: the next coordinator does not know
    it, and it joins there as anybody does. Nor is who does not support the group's protocol: read
    back, it would support nothing that others do."""
    members = [
        member
        for member in group.members.values()
        if not member.is_new and member.supports(group.protocol)
    ]
    value = GroupMetadataValue(
        protocol_type=group.protocol_type,
        generation=group.generation,
        protocol=group.protocol if members else None,
        leader=group.leader if is_settled else None,
        current_state_timestamp=group.state_since_ms,
        members=[
            MemberMetadata(
                member_id=member.id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.metadata(group.protocol),
                assignment=assignments.get(member.id, b""),
            )
            for member in members
        ],
    )
    return Record(encode_value(value), encode_key(GroupMetadataKey(group.id)), timestamp=wall_ms)


def group_tombstone(group_id: str, wall_ms: int) -> Record:
    return Record(None, encode_key(GroupMetadataKey(group_id)), timestamp=wall_ms)


def offset_record(group_id: str, place: Place, entry: Committed, wall_ms: int) -> Record:
    value = OffsetCommitValue(
        offset=entry.offset,
        leader_epoch=entry.leader_epoch,
        metadata=entry.metadata,
        commit_timestamp=entry.commit_ms,
        expire_timestamp=entry.expire_ms,
    )
    return Record(encode_value(value), _offset_key(group_id, place), timestamp=wall_ms)


def offset_tombstone(group_id: str, place: Place, wall_ms: int) -> Record:
    return Record(None, _offset_key(group_id, place), timestamp=wall_ms)


def _offset_key(group_id: str, place: Place) -> bytes:
    topic, partition = place
    return encode_key(OffsetCommitKey(group_id, topic, partition))


def replay(shard: Shard, record: Record) -> None:
    """Move the shard's groups by one record of its log, while it is loaded. What is there is
    there: the bound of groups is for new ones. Raises CorruptLogError."""
    key = decode_key(record.key) if record.key is not None else None
    match key:
        case OffsetCommitKey(group_id, topic, partition):
            entry = deletion(record.offset)
            if record.value is not None:
                value = decode_value(key, record.value)
                assert isinstance(value, OffsetCommitValue)
                entry = Committed(
                    value.offset,
                    value.leader_epoch,
                    value.metadata,
                    value.commit_timestamp,
                    value.expire_timestamp,
                    record.offset,
                )
            _known(shard, group_id).offsets.load((topic, partition), entry)
        case GroupMetadataKey(group_id):
            fresh = Group(group_id)
            fresh.offsets = _known(shard, group_id).offsets
            if record.value is not None:
                value = decode_value(key, record.value)
                assert isinstance(value, GroupMetadataValue)
                _restore(shard, fresh, value)
            elif isinstance(shard.groups[group_id], ConsumerGroup):
                # What it was before it became a consumer group.
                return
            shard.groups[group_id] = fresh
        case None:
            # Of a group protocol that is not ours, or of nothing.
            return
        case _:
            said = decode_value(key, record.value) if record.value is not None else None
            assert not isinstance(said, OffsetCommitValue | GroupMetadataValue)
            _replay_consumer(shard, key, said)


def _replay_consumer(
    shard: Shard, key: consumer_wire.Key, value: consumer_wire.Value | None
) -> None:
    group = _known(shard, key.group_id)
    if not isinstance(group, ConsumerGroup):
        if value is None:
            # What it was before it became a classic group.
            return
        group = shard.groups[group.id] = ConsumerGroup(group.id, group.offsets)
    if not consumer_records.replay(group, key, value):
        rest = shard.groups[group.id] = Group(group.id)
        rest.offsets = group.offsets


def _known(shard: Shard, group_id: str) -> Group | ConsumerGroup:
    group = shard.groups.get(group_id)
    if group is None:
        group = shard.groups[group_id] = Group(group_id)
    return group


def _restore(shard: Shard, group: Group, value: GroupMetadataValue) -> None:
    group.protocol_type = value.protocol_type
    group.generation = group.settled = value.generation
    group.protocol = value.protocol
    group.leader = value.leader
    group.state_since_ms = value.current_state_timestamp
    if value.members:
        group.state = GroupState.STABLE
    for told in value.members:
        member = Member(
            shard,
            group,
            told.member_id,
            told.group_instance_id,
            told.client_id,
            told.client_host,
            told.session_timeout,
            told.rebalance_timeout if told.rebalance_timeout >= 0 else told.session_timeout,
            ((value.protocol or "", told.subscription),),
        )
        member.assignment = told.assignment
        group.add(member)
    group.leader = value.leader
