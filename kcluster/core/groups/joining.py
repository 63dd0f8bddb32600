"""Who may join a group, and as what.

    no id, version 4+        an id to ask again with, MEMBER_ID_REQUIRED (KIP-394)
    no id, or a pending one  a new member; the group rebalances
    no id, known instance    a static member that was restarted: in its old place (KIP-345)
    a member's id            the answer of this generation again, or a rebalance, when what it
                             supports is another thing, or it leads

A group of the consumer protocol takes classic members, too (`consumer/classic.py`); one that has
no members gives way to a classic one.

Functions over a shard and one of its groups. Sources: KIP-62, KIP-345, KIP-394, KIP-814; Kafka's
GroupMetadataManager, whose rules these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.groups import rebalance, records
from kcluster.core.groups.consumer import classic, conversion
from kcluster.core.groups.group import (
    AnswerJoin,
    Group,
    GroupState,
    Member,
    PendingMember,
    Protocols,
    Terms,
    ask_again,
    is_asked_enough,
)
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, ErrorCode
from kcluster.limits import LIMITS
from kcluster.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Shard

NEW_MEMBER_JOIN_MS: Final = 300_000
"""How long a member waits for its first join to be answered. It cannot be heard to be silent
meanwhile, and a client that gave up and asked again would leave a dead member each time."""

REQUIRES_ID_VERSION: Final = 4
SKIPS_ASSIGNMENT_VERSION: Final = 9


def join(
    shard: Shard,
    request: JoinGroupRequest,
    version: int,
    client_id: str,
    client_host: str,
    turn: Turn,
    answer: AnswerJoin,
) -> None:
    """Raises ApiError; else `answer` is called, now or when the rebalance is over."""
    settings = shard.settings
    session_ms = request.session_timeout_ms
    if not settings.min_session_timeout_ms <= session_ms <= settings.max_session_timeout_ms:
        raise ApiError(ErrorCode.INVALID_SESSION_TIMEOUT)
    consumer_group = shard.find_consumer(request.group_id)
    if consumer_group is not None:
        if not consumer_group.is_empty:
            requires_id = version >= REQUIRES_ID_VERSION
            classic.join(
                shard,
                consumer_group,
                request,
                client_id,
                client_host,
                turn,
                answer,
                requires_id=requires_id,
            )
            return
        conversion.become_classic(shard, consumer_group, turn)
    group = shard.find(request.group_id)
    if group is None:
        if request.member_id:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        group = shard.group(request.group_id)
    try:
        _join(shard, group, request, version, client_id, client_host, turn, answer)
    finally:
        shard.forget_if_unused(group)


def _join(
    shard: Shard,
    group: Group,
    request: JoinGroupRequest,
    version: int,
    client_id: str,
    client_host: str,
    turn: Turn,
    answer: AnswerJoin,
) -> None:
    protocols: Protocols = tuple((each.name, bytes(each.metadata)) for each in request.protocols)
    if not group.supports(request.protocol_type, protocols):
        raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    instance_id = request.group_instance_id
    member_id = request.member_id
    _check_room(shard, group, request, turn)
    if member_id and member_id not in group.pending:
        _join_again(shard, group, request, protocols, turn, answer)
        return
    if instance_id is not None and instance_id in group.static:
        if member_id:
            raise ApiError(ErrorCode.FENCED_INSTANCE_ID)
        _replace_static(
            shard, group, request, version, client_id, client_host, protocols, turn, answer
        )
        return
    pending = group.pending.get(member_id)
    if pending is None and len(group.members) + len(group.pending) >= LIMITS.group_members:
        raise ApiError(ErrorCode.GROUP_MAX_SIZE_REACHED)
    if pending is not None:
        shard.deadlines.remove(pending)
        del group.pending[member_id]
    else:
        member_id = _new_member_id(shard, instance_id or client_id)
        if instance_id is None and version >= REQUIRES_ID_VERSION:
            waiting = group.pending[member_id] = PendingMember(shard, group, member_id)
            shard.deadlines.add(turn, request.session_timeout_ms, waiting)
            answer(
                turn,
                JoinGroupResponse(
                    error_code=ErrorCode.MEMBER_ID_REQUIRED,
                    protocol_name=None,
                    member_id=member_id,
                ),
            )
            return
    member = Member(
        shard,
        group,
        member_id,
        instance_id,
        client_id,
        client_host,
        request.session_timeout_ms,
        _rebalance_timeout_ms(request),
        protocols,
    )
    member.join = answer
    member.is_new = True
    group.protocol_type = request.protocol_type
    group.add(member)
    shard.deadlines.add(turn, NEW_MEMBER_JOIN_MS, member)
    rebalance.rebalance_or_join(shard, group, turn, f"{member_id} joined")


def _check_room(shard: Shard, group: Group, request: JoinGroupRequest, turn: Turn) -> None:
    """Raises ApiError when it would be one too many. While a group rebalances those count that
    have joined: if the bound was lowered, the last who come again are out."""
    max_size = shard.settings.max_size
    if group.is_empty or len(group.members) < max_size:
        return
    id = request.member_id or group.static.get(request.group_instance_id or "", "")
    member = group.members.get(id)
    has_room = member is not None
    if group.state is GroupState.PREPARING_REBALANCE:
        joined = sum(each.join is not None for each in group.members.values())
        has_room = joined < max_size or (member is not None and member.join is not None)
    if has_room:
        return
    pending = group.pending.pop(id, None)
    if pending is not None:
        shard.deadlines.remove(pending)
        rebalance.join_if_complete(shard, group, turn)
    elif member is not None:
        rebalance.remove(shard, group, member, turn, "the group has as many as it may")
    raise ApiError(ErrorCode.GROUP_MAX_SIZE_REACHED)


def _new_member_id(shard: Shard, prefix: str) -> str:
    return f"{prefix}-{shard.new_id()}"


def _rebalance_timeout_ms(request: JoinGroupRequest) -> int:
    """Version 0 has none of its own."""
    timeout_ms = request.rebalance_timeout_ms
    return timeout_ms if timeout_ms >= 0 else request.session_timeout_ms


def _join_again(
    shard: Shard,
    group: Group,
    request: JoinGroupRequest,
    protocols: Protocols,
    turn: Turn,
    answer: AnswerJoin,
) -> None:
    """Of a member that is one already."""
    member = group.find(request.member_id, request.group_instance_id)
    is_same = member.protocols == protocols
    match group.state:
        case GroupState.COMPLETING_REBALANCE if is_same:
            # It may have missed the answer that it was given.
            answer(turn, rebalance.joined(group, member))
        case GroupState.STABLE if is_same and member.id != group.leader:
            answer(turn, rebalance.joined(group, member))
        case GroupState.STABLE | GroupState.COMPLETING_REBALANCE | GroupState.PREPARING_REBALANCE:
            # A leader that joins anew wants to assign anew.
            terms = member.terms._replace(
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=_rebalance_timeout_ms(request),
                protocols=protocols,
            )
            group.change_terms(member, terms)
            if is_asked_enough(member.join):
                rebalance.refuse_join(member, turn, ErrorCode.REBALANCE_IN_PROGRESS)
            member.join = ask_again(member.join, answer)
            rebalance.rebalance_or_join(shard, group, turn, f"{member.id} joined again")
        case _:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)


def _replace_static(
    shard: Shard,
    group: Group,
    request: JoinGroupRequest,
    version: int,
    client_id: str,
    client_host: str,
    protocols: Protocols,
    turn: Turn,
    answer: AnswerJoin,
) -> None:
    """A static member has come back without its id: it gets a new one, and what holds the old
    one is fenced. In a stable group its place and its partitions stay (KIP-345)."""
    instance_id = request.group_instance_id
    assert instance_id is not None
    old_id, old_leader = group.static[instance_id], group.leader
    new_id = _new_member_id(shard, instance_id)
    member = group.replace_static(instance_id, new_id)
    rebalance.refuse_join(member, turn, ErrorCode.FENCED_INSTANCE_ID)
    rebalance.answer_sync(member, turn, ErrorCode.FENCED_INSTANCE_ID)
    # One that was started again waits for its answer as its session allows, not as a newcomer.
    member.is_new = False
    before = member.terms
    terms = Terms(
        client_id,
        client_host,
        request.session_timeout_ms,
        _rebalance_timeout_ms(request),
        protocols,
    )
    group.change_terms(member, terms)
    rebalance.beat(shard, member, turn)
    # Whatever overtakes it answers it: the next rebalance, or who takes its place.
    member.join = answer
    if not group.is_stable or group.choose_protocol() != group.protocol:
        rebalance.rebalance_or_join(shard, group, turn, f"static member {instance_id} came back")
        return

    def done(later: Turn, error: ErrorCode) -> None:
        if member.join is not answer or not group.is_stable:
            return
        if error:
            rebalance.refuse_join(member, later, error)
            return
        member.join = None
        response = rebalance.joined(group, member)
        if version >= SKIPS_ASSIGNMENT_VERSION:
            # It is told that it leads, and that there is nothing to assign (KIP-814).
            response.skip_assignment = group.leader == member.id
        elif group.leader == member.id:
            # It must not think that it has to assign: its former self is named as the leader.
            response.leader = old_leader or ""
            response.members = []
        answer(later, response)

    assignments = {each.id: each.assignment for each in group.members.values()}
    try:
        shard.append(turn, [records.group_record(group, assignments, turn.wall_ms)], done)
    except ApiError:
        # What is not in the log has not happened: the old one is the member.
        member.join = None
        group.replace_static(instance_id, old_id)
        group.change_terms(member, before)
        rebalance.beat(shard, member, turn)
        raise
