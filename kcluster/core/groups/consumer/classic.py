"""Members of the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

    JoinGroup   says what it subscribes to and owns, as a heartbeat of the consumer protocol does;
                answered at once with its epoch for a generation. It never leads: it has nothing
                to assign
    SyncGroup   what it has
    Heartbeat   REBALANCE_IN_PROGRESS when there is something to give up or to get: it joins again

Functions over a shard and one of its groups. Refusals are ApiErrors. Source: Kafka's
GroupMetadataManager, whose rules these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kcluster.core.groups.consumer import clocks, conversion
from kcluster.core.groups.consumer import heartbeat as consumer
from kcluster.core.groups.consumer.clocks import ClockKind
from kcluster.core.groups.consumer.draft import Draft
from kcluster.core.groups.consumer.member import ClassicTerms, Member, MemberState
from kcluster.errors import ApiError, ErrorCode, RemoteProtocolError
from kcluster.wire.consumer_protocol import (
    PROTOCOL_TYPE,
    Subscription,
    decode_subscription,
    encode_assignment,
)
from kcluster.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse
from kcluster.wire.messages.leave_group import MemberIdentity, MemberResponse
from kcluster.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    from kcluster.core.groups.consumer.group import ConsumerGroup
    from kcluster.core.groups.group import AnswerJoin, AnswerSync
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn


def join(
    shard: Shard,
    group: ConsumerGroup,
    request: JoinGroupRequest,
    client_id: str,
    client_host: str,
    turn: Turn,
    answer: AnswerJoin,
    *,
    requires_id: bool,
) -> None:
    """Raises ApiError; else `answer` is called when it is committed. `requires_id`: a member that
    has none is told one, to ask again with (KIP-394)."""
    member_id = request.member_id or shard.new_id()
    protocols = tuple((each.name, bytes(each.metadata)) for each in request.protocols)
    consumer.check_room(shard, group, member_id)
    if not group.supports_classic(request.protocol_type, [name for name, _ in protocols]):
        raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if requires_id and not request.member_id and request.group_instance_id is None:
        answer(
            turn,
            JoinGroupResponse(
                error_code=ErrorCode.MEMBER_ID_REQUIRED, protocol_name=None, member_id=member_id
            ),
        )
        return
    subscription = _subscription(protocols[0][1])
    with Draft(shard, group) as draft:
        before = _find(draft, request, member_id, subscription)
        said = msgspec.structs.replace(
            before,
            client_id=client_id,
            client_host=client_host,
            topics=tuple(sorted(set(subscription.topics))),
            pattern=None,
            rebalance_timeout_ms=(
                request.rebalance_timeout_ms
                if request.rebalance_timeout_ms >= 0
                else request.session_timeout_ms
            ),
            classic=ClassicTerms(request.session_timeout_ms, protocols),
        )
        owned = conversion.parts_of(subscription.owned, shard.image())
        member = consumer.take_on(draft, before, said, owned, turn)

        def joined(later: Turn) -> None:
            for kind in (ClockKind.JOIN, ClockKind.REBALANCE):
                clocks.stop(shard, group, member.id, kind)
            consumer.beat(shard, group, member, later)
            wait_ms = member.rebalance_timeout_ms
            clocks.start(shard, group, member.id, ClockKind.SYNC, wait_ms, later)

        draft.then.append(joined)

        def done(later: Turn, error: ErrorCode) -> None:
            response = JoinGroupResponse(error_code=error, protocol_name=None, member_id=member.id)
            if not error:
                response.generation_id = member.epoch
                response.protocol_type = PROTOCOL_TYPE
                response.protocol_name = protocols[0][0]
            answer(later, response)

        draft.commit(turn, done)
    if conversion.may_downgrade(shard, group, ()):
        # It has taken the place of the last one of the consumer protocol.
        conversion.downgrade(
            shard, group, (), turn, "", lambda later, error: None, rebalances=False
        )


def _subscription(metadata: bytes) -> Subscription:
    try:
        return decode_subscription(metadata)
    except RemoteProtocolError as error:
        raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, str(error)) from None


def _find(
    draft: Draft, request: JoinGroupRequest, member_id: str, subscription: Subscription
) -> Member:
    """Raises ApiError."""
    group, instance_id = draft.group, request.group_instance_id
    if instance_id is None:
        if member_id not in group.members and subscription.owned:
            # It was taken out, and does not know: what it owns others have had. In Kafka it is
            # back as if nothing had been, and what it commits when it gives that up counts.
            raise ApiError(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"group {group.id} has no member {member_id} that could own anything.",
            )
        return group.members.get(member_id) or Member(member_id)
    if not request.member_id:
        return consumer.static_member(draft, member_id, instance_id, is_classic=True)
    return group.find(member_id, instance_id)


def _classic(group: ConsumerGroup, member_id: str, instance_id: str | None) -> Member:
    """Raises ApiError."""
    member = group.find(member_id, instance_id)
    if member.classic is None:
        raise ApiError(
            ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} does not use the classic protocol."
        )
    return member


def sync(
    shard: Shard, group: ConsumerGroup, request: SyncGroupRequest, turn: Turn, answer: AnswerSync
) -> None:
    """Raises ApiError; else `answer` is called when what it tells is committed."""
    member = _classic(group, request.member_id, request.group_instance_id)
    assert member.classic is not None
    if request.generation_id != member.epoch:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    protocol = member.classic.protocols[0][0]
    if (request.protocol_type or PROTOCOL_TYPE, request.protocol_name or protocol) != (
        PROTOCOL_TYPE,
        protocol,
    ):
        raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if group.epoch > member.epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
        _expect_join(shard, group, member, turn)
        raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
    clocks.stop(shard, group, member.id, ClockKind.SYNC)
    consumer.beat(shard, group, member, turn)
    assignment = encode_assignment(conversion.partitions_of(member.assigned, shard.image()))

    def done(later: Turn, error: ErrorCode) -> None:
        response = SyncGroupResponse(error_code=error)
        if not error:
            response.protocol_type = PROTOCOL_TYPE
            response.protocol_name = protocol
            response.assignment = assignment
        answer(later, response)

    shard.when_written(turn, group.written_end, done)


def heartbeat(
    shard: Shard,
    group: ConsumerGroup,
    member_id: str,
    instance_id: str | None,
    generation: int,
    turn: Turn,
) -> None:
    """Raises ApiError."""
    member = _classic(group, member_id, instance_id)
    if generation != member.epoch:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    consumer.beat(shard, group, member, turn)
    if (
        member.epoch < group.epoch
        or member.state is MemberState.UNREVOKED_PARTITIONS
        or (member.state is MemberState.UNRELEASED_PARTITIONS and not _waits(group, member))
    ):
        _expect_join(shard, group, member, turn)
        raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)


def _waits(group: ConsumerGroup, member: Member) -> bool:
    """Something of its target is still held by another."""
    target = group.facts.target.get(member.id, frozenset())
    return any(
        part not in member.assigned and not group.is_free(part, member.id) for part in target
    )


def _expect_join(shard: Shard, group: ConsumerGroup, member: Member, turn: Turn) -> None:
    wait_ms = member.rebalance_timeout_ms
    clocks.start_if_absent(shard, group, member.id, ClockKind.JOIN, wait_ms, turn)


def leave(
    shard: Shard,
    group: ConsumerGroup,
    identities: Sequence[MemberIdentity],
    turn: Turn,
    answer: Callable[[Turn, ErrorCode, list[MemberResponse]], None],
) -> None:
    """`answer` is told what became of each when those that leave are out. Raises ApiError; then
    nobody is."""
    leaving: dict[str, Member] = {}
    outcomes: list[MemberResponse] = []
    for identity in identities:
        outcome = MemberResponse(
            member_id=identity.member_id, group_instance_id=identity.group_instance_id
        )
        outcomes.append(outcome)
        member_id = identity.member_id
        if identity.group_instance_id is not None and not member_id:
            # An administrator names a static member by its instance (KIP-345).
            member_id = group.facts.static.get(identity.group_instance_id, "")
        try:
            member = _classic(group, member_id, identity.group_instance_id)
            leaving[member.id] = member
        except ApiError as error:
            outcome.error_code = error.code

    def done(later: Turn, error: ErrorCode) -> None:
        answer(later, error, outcomes)

    if leaving:
        consumer.fence(shard, group, leaving.values(), turn, "it left", done)
    else:
        done(turn, ErrorCode.NONE)
