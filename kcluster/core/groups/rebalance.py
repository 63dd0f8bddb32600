"""What moves a group through its states: members have joined, sync, beat and leave, or fall
silent. Who may join is in `joining`.

    rebalance   all members are to join again; answered when they have, or the time is over
    sync        the leader hands in the assignment, which is committed before anybody gets it
    heartbeat   a member lives; it hears of a rebalance here
    leave       a member goes, and the others share its partitions

Functions over a shard and one of its groups. Refusals are ApiErrors; an answer that must wait is
kept with its member. Sources: KIP-62, KIP-345, KIP-394, KIP-559, KIP-814; Kafka's
GroupMetadataManager, whose rules these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core import traces
from kcluster.core.groups import records
from kcluster.core.groups.group import (
    AnswerSync,
    Group,
    GroupState,
    Member,
    PendingMember,
    ask_again,
    is_asked_enough,
)
from kcluster.core.purgatory import Waiter
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.join_group import (
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from kcluster.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Shard


class JoinDue(Waiter):
    """The join phase has lasted as long as it may; or the wait of an initial one is over."""

    __slots__ = ("ends_ms", "group", "seen", "shard")

    def __init__(self, shard: Shard, group: Group, ends_ms: int = 0) -> None:
        self.due_ms = 0
        self.shard = shard
        self.group = group
        self.ends_ms = ends_ms
        """Of an initial join phase: when it is over, whoever may still come."""
        self.seen = len(group.members)

    def expire(self, turn: Turn) -> None:
        group = self.group
        if group.deadline is not self:
            return
        group.deadline = None
        if group.is_initial and len(group.members) > self.seen and turn.now_ms < self.ends_ms:
            # More have come: perhaps still more do (KIP-134).
            _wait_for_more(self.shard, group, turn, self.ends_ms)
            return
        group.is_initial = False
        _complete_join(self.shard, group, turn)


class SyncDue(Waiter):
    """Members that have not asked for their assignment by now are out."""

    __slots__ = ("group", "shard")

    def __init__(self, shard: Shard, group: Group) -> None:
        self.due_ms = 0
        self.shard = shard
        self.group = group

    def expire(self, turn: Turn) -> None:
        group = self.group
        if group.deadline is not self:
            return
        group.deadline = None
        late = [group.members[id] for id in sorted(group.not_synced) if id in group.members]
        for member in late:
            _take_out(self.shard, group, member, turn)
        if late:
            _rebalance(self.shard, group, turn, f"{len(late)} members did not sync")
            _write_members(self.shard, group, turn)


def _arm(shard: Shard, group: Group, turn: Turn, wait_ms: int, due: Waiter) -> None:
    _disarm(shard, group)
    group.deadline = due
    shard.deadlines.add(turn, wait_ms, due)


def _disarm(shard: Shard, group: Group) -> None:
    if group.deadline is not None:
        shard.deadlines.remove(group.deadline)
        group.deadline = None


# --- sessions -----------------------------------------------------------------------------


def beat(shard: Shard, member: Member, turn: Turn) -> None:
    """It lives: its session begins anew."""
    shard.deadlines.remove(member)
    shard.deadlines.add(turn, member.session_timeout_ms, member)


def member_fell_silent(shard: Shard, group: Group, member: Member, turn: Turn) -> None:
    if group.members.get(member.id) is not member:
        return
    if not member.is_new and (member.join is not None or member.sync is not None):
        # It waits for us, so it is not it that is silent.
        beat(shard, member, turn)
        return
    remove(shard, group, member, turn, "its session is over")


def pending_member_fell_silent(
    shard: Shard, group: Group, member: PendingMember, turn: Turn
) -> None:
    if group.pending.get(member.id) is member:
        del group.pending[member.id]
        join_if_complete(shard, group, turn)
        shard.forget_if_unused(group)


def abandon(
    shard: Shard, group: Group, turn: Turn, error: ErrorCode = ErrorCode.NOT_COORDINATOR
) -> None:
    """It is another broker's from now on, or another group is in its place."""
    _disarm(shard, group)
    for pending in group.pending.values():
        shard.deadlines.remove(pending)
    for member in group.members.values():
        shard.deadlines.remove(member)
        refuse_join(member, turn, error)
        answer_sync(member, turn, error)
    group.enter(GroupState.DEAD, turn.wall_ms)


def joined(group: Group, member: Member) -> JoinGroupResponse:
    """The answer to a member of this generation."""
    members: list[JoinGroupResponseMember] = []
    if member.id == group.leader:
        members = [
            JoinGroupResponseMember(
                member_id=each.id,
                group_instance_id=each.instance_id,
                metadata=each.metadata(group.protocol),
            )
            for each in group.members.values()
        ]
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        leader=group.leader or "",
        member_id=member.id,
        members=members,
    )


def refuse_join(member: Member, turn: Turn, error: ErrorCode) -> None:
    answer, member.join = member.join, None
    if answer is not None:
        answer(
            turn,
            JoinGroupResponse(error_code=error, protocol_name=None, member_id=member.id),
        )


# --- the join phase -----------------------------------------------------------------------


def rebalance_or_join(shard: Shard, group: Group, turn: Turn, cause: str) -> None:
    if group.may_rebalance:
        _rebalance(shard, group, turn, cause)
    else:
        join_if_complete(shard, group, turn)


def _rebalance(shard: Shard, group: Group, turn: Turn, cause: str) -> None:
    """Begin the join phase of the next generation."""
    if not group.may_rebalance:
        return
    for member in group.waiting_syncs():
        member.assignment = b""
        answer_sync(member, turn, ErrorCode.REBALANCE_IN_PROGRESS)
    group.not_synced.clear()
    was_empty = group.is_empty
    group.enter(GroupState.PREPARING_REBALANCE, turn.wall_ms)
    turn.trace(traces.GroupRebalancing(group.id, group.generation, cause))
    delay_ms = shard.settings.initial_rebalance_delay_ms
    if was_empty and delay_ms > 0:
        group.is_initial = True
        _wait_for_more(shard, group, turn, turn.now_ms + group.rebalance_timeout_ms)
        return
    group.is_initial = False
    _arm(shard, group, turn, group.rebalance_timeout_ms, JoinDue(shard, group))
    join_if_complete(shard, group, turn)


def _wait_for_more(shard: Shard, group: Group, turn: Turn, ends_ms: int) -> None:
    wait_ms = min(shard.settings.initial_rebalance_delay_ms, max(ends_ms - turn.now_ms, 0))
    _arm(shard, group, turn, wait_ms, JoinDue(shard, group, ends_ms))


def join_if_complete(shard: Shard, group: Group, turn: Turn) -> None:
    if (
        group.state is GroupState.PREPARING_REBALANCE
        and not group.is_initial
        and group.has_all_joined
    ):
        _complete_join(shard, group, turn)


def _complete_join(shard: Shard, group: Group, turn: Turn) -> None:
    """The next generation begins with those who have joined. Static members keep their place
    until their session is over."""
    if group.state is not GroupState.PREPARING_REBALANCE:
        return
    _disarm(shard, group)
    late = [m for m in group.members.values() if m.join is None and m.instance_id is None]
    for member in late:
        _take_out(shard, group, member, turn)
    if group.members and not group.elect_joined_leader():
        # Only static members that are away: they come back, or their sessions end.
        _arm(shard, group, turn, group.rebalance_timeout_ms, JoinDue(shard, group))
        return
    group.next_generation(turn.wall_ms)
    turn.trace(
        traces.GroupGeneration(group.id, group.generation, len(group.members), group.protocol or "")
    )
    for member in group.members.values():
        member.is_new = False
    if late or group.is_empty:
        _write_members(shard, group, turn)
    for member in group.members.values():
        answer, member.join = member.join, None
        member.assignment = b""
        group.not_synced.add(member.id)
        beat(shard, member, turn)
        if answer is not None:
            answer(turn, joined(group, member))
    if group.members:
        _arm(shard, group, turn, group.rebalance_timeout_ms, SyncDue(shard, group))


def _write_members(shard: Shard, group: Group, turn: Turn) -> None:
    """Who is a member still. The record of the last assignment has those who are gone, and the
    next coordinator would wait for them as long as their sessions last: Kafka's does."""
    assignments = {member.id: member.assignment for member in group.members.values()}
    record = records.group_record(group, assignments, turn.wall_ms, is_settled=group.is_empty)
    try:
        shard.append(turn, [record], None)
    except ApiError as error:
        # What the log says of them ends with their sessions, wherever it is read.
        turn.trace(traces.Warned(f"group {group.id}: not written who is gone: {error}"))


# --- sync ---------------------------------------------------------------------------------


def sync(shard: Shard, request: SyncGroupRequest, turn: Turn, answer: AnswerSync) -> None:
    """Raises ApiError; else `answer` is called, now or when the assignment is committed."""
    group = shard.find(request.group_id)
    if group is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
    member = group.find(request.member_id, request.group_instance_id)
    if request.generation_id != group.generation:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    if (request.protocol_type is not None and request.protocol_type != group.protocol_type) or (
        request.protocol_name is not None and request.protocol_name != group.protocol
    ):
        raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    match group.state:
        case GroupState.PREPARING_REBALANCE:
            raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
        case GroupState.COMPLETING_REBALANCE:
            group.not_synced.discard(member.id)
            if is_asked_enough(member.sync):
                answer_sync(member, turn, ErrorCode.REBALANCE_IN_PROGRESS)
            member.sync = ask_again(member.sync, answer)
            if member.id == group.leader and group.assigned != group.generation:
                _assign(shard, group, request, turn)
        case GroupState.STABLE:
            group.not_synced.discard(member.id)
            beat(shard, member, turn)
            answer(turn, _synced(group, member))
        case _:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)


def _assign(shard: Shard, group: Group, request: SyncGroupRequest, turn: Turn) -> None:
    """The leader's assignment; who is not in it has nothing. Nobody gets it uncommitted."""
    generation = group.assigned = group.generation
    given = {each.member_id: bytes(each.assignment) for each in request.assignments}
    assignments = {id: given.get(id, b"") for id in group.members}

    def done(later: Turn, error: ErrorCode) -> None:
        if (
            group.state is not GroupState.COMPLETING_REBALANCE
            or group.generation != generation
            or shard.find(group.id) is not group
        ):
            # Overtaken by the next rebalance, which has told those who waited.
            return
        if error:
            for member in group.members.values():
                member.assignment = b""
                answer_sync(member, later, error)
            _rebalance(shard, group, later, f"the assignment was not committed: {error.name}")
            return
        for member in group.members.values():
            member.assignment = assignments.get(member.id, b"")
        group.settled = generation
        group.enter(GroupState.STABLE, later.wall_ms)
        later.trace(traces.GroupStable(group.id, generation, len(group.members)))
        for member in group.members.values():
            if member.sync is not None:
                beat(shard, member, later)
                answer_sync(member, later, ErrorCode.NONE)

    try:
        shard.append(turn, [records.group_record(group, assignments, turn.wall_ms)], done)
    except ApiError as error:
        done(turn, error.code)


def _synced(group: Group, member: Member) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        assignment=member.assignment,
    )


def answer_sync(member: Member, turn: Turn, error: ErrorCode) -> None:
    answer, member.sync = member.sync, None
    if answer is not None:
        answer(
            turn, SyncGroupResponse(error_code=error) if error else _synced(member.group, member)
        )


# --- heartbeat and leave ------------------------------------------------------------------


def heartbeat(
    shard: Shard,
    group_id: str,
    member_id: str,
    instance_id: str | None,
    generation: int,
    turn: Turn,
) -> None:
    """Raises ApiError."""
    group = shard.find(group_id)
    if group is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
    member = group.find(member_id, instance_id)
    if generation != group.generation:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    beat(shard, member, turn)
    if group.state is GroupState.PREPARING_REBALANCE:
        raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)


def leave(
    shard: Shard, group_id: str, member_id: str, instance_id: str | None, reason: str, turn: Turn
) -> None:
    """Take one member out. Raises ApiError."""
    group = shard.find(group_id)
    if group is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
    pending = group.pending.get(member_id)
    if pending is not None and instance_id is None:
        shard.deadlines.remove(pending)
        del group.pending[member_id]
        join_if_complete(shard, group, turn)
        shard.forget_if_unused(group)
        return
    if instance_id is not None and not member_id:
        # An administrator names a static member by its instance (KIP-345).
        member_id = group.static.get(instance_id, "")
    member = group.find(member_id, instance_id)
    remove(shard, group, member, turn, f"it left: {reason}" if reason else "it left")


def remove(shard: Shard, group: Group, member: Member, turn: Turn, cause: str) -> None:
    """Take it out; the others share its partitions."""
    _take_out(shard, group, member, turn)
    rebalance_or_join(shard, group, turn, f"{member.id}: {cause}")
    if group.members:
        _write_members(shard, group, turn)


def _take_out(shard: Shard, group: Group, member: Member, turn: Turn) -> None:
    shard.deadlines.remove(member)
    refuse_join(member, turn, ErrorCode.UNKNOWN_MEMBER_ID)
    answer_sync(member, turn, ErrorCode.UNKNOWN_MEMBER_ID)
    group.remove(member)
