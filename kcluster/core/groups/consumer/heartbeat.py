"""The request by which a member of a consumer group joins, stays, and leaves (KIP-848).

    epoch 0     join, or join again: what it is subscribed to, and nothing owned
    epoch > 0   stay; whatever changed of what it said before, and what it owns
    epoch -1    leave: its partitions are free at once
    epoch -2    a static member leaves for a while: its partitions wait for its next start, as
                long as its session lasts (KIP-345)

Every heartbeat takes the group on as far as it can be taken: counts its topics anew when they
have changed, makes a new target assignment when the group's epoch is ahead of it, and moves this
member one step towards its own. What was decided is one batch of records; the answer leaves when
they are committed, and so does one that needed none but tells of others'.

Functions over a shard. Refusals are ApiErrors. Source: Kafka's GroupMetadataManager, whose rules
these are. A target assignment is made at once, as with Kafka's
`group.consumer.assignment.interval.ms=0`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core import traces
from kcluster.core.groups.consumer import clocks, conversion, patterns
from kcluster.core.groups.consumer.assignors import Spec, assign
from kcluster.core.groups.consumer.clocks import ClockKind
from kcluster.core.groups.consumer.draft import Draft
from kcluster.core.groups.consumer.group import ConsumerGroup, Resolved, metadata_hash
from kcluster.core.groups.consumer.member import (
    JOINS,
    LEAVES,
    LEAVES_FOR_A_WHILE,
    Member,
    MemberState,
    Part,
)
from kcluster.core.groups.consumer.reconcile import reconcile
from kcluster.core.groups.consumer.records import (
    by_topic,
    current_entry,
    epoch_entry,
    member_entry,
    member_tombstones,
    pattern_entry,
    target_entry,
    target_epoch_entry,
)
from kcluster.errors import ApiError, ErrorCode
from kcluster.limits import LIMITS
from kcluster.model import TopicId
from kcluster.wire.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

Answer = Callable[["Turn", ConsumerGroupHeartbeatResponse], None]

OWN_IDS_VERSION: Final = 1
"""From here on members make their ids themselves (KIP-1082)."""

FENCE_AGAIN_MS: Final = 500
"""A member that could not be taken out, since too few replicas are in sync, is tried so often."""


def heartbeat(
    shard: Shard,
    request: ConsumerGroupHeartbeatRequest,
    version: int,
    client_id: str,
    client_host: str,
    turn: Turn,
    answer: Answer,
) -> None:
    """Raises ApiError; else `answer` is called when what it tells is committed."""
    check(request, version, shard.settings.consumer_assignors)
    if request.member_epoch in (LEAVES, LEAVES_FOR_A_WHILE):
        _leave(shard, request, turn, answer)
    else:
        _stay(shard, request, client_id, client_host, turn, answer)


def check(request: ConsumerGroupHeartbeatRequest, version: int, assignors: Collection[str]) -> None:
    """Raises ApiError INVALID_REQUEST, UNSUPPORTED_ASSIGNOR."""
    epoch = request.member_epoch
    says_id = version >= OWN_IDS_VERSION or epoch > JOINS or epoch == LEAVES
    names: list[tuple[str, str | None]] = [
        ("MemberId", request.member_id if says_id else None),
        ("GroupId", request.group_id),
        ("InstanceId", request.instance_id),
        ("RackId", request.rack_id),
    ]
    problem = next((f"{name} is empty." for name, text in names if text == ""), "")
    if problem:
        pass
    elif epoch == JOINS:
        if request.rebalance_timeout_ms == -1:
            problem = "who joins says its rebalance timeout."
        elif request.topic_partitions is None or request.topic_partitions:
            problem = "who joins owns no partitions yet."
        elif request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            problem = "who joins says what it subscribes to, by names or by a pattern."
    elif epoch == LEAVES_FOR_A_WHILE:
        if request.instance_id is None:
            problem = "only a static member, with an instance id, leaves for a while."
    elif epoch < LEAVES_FOR_A_WHILE:
        problem = f"there is no member epoch {epoch}."
    if problem:
        raise ApiError(ErrorCode.INVALID_REQUEST, problem)
    if request.server_assignor is not None and request.server_assignor not in assignors:
        raise ApiError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"there is no assignor {request.server_assignor}; there are {', '.join(assignors)}.",
        )


# --- staying ------------------------------------------------------------------------------


def _stay(
    shard: Shard,
    request: ConsumerGroupHeartbeatRequest,
    client_id: str,
    client_host: str,
    turn: Turn,
    answer: Answer,
) -> None:
    is_joining = request.member_epoch == JOINS
    owned = _owned(request)
    with conversion.draft_of(shard, request.group_id, turn, creates=is_joining) as draft:
        group = draft.group
        check_room(shard, group, request.member_id)
        member_id = request.member_id or shard.new_id()
        before = _find(draft, request, member_id, owned)
        said = _said(before, request, client_id, client_host)
        member = take_on(draft, before, said, owned, turn)

        def alive(later: Turn) -> None:
            if before.classic is not None:
                for kind in (ClockKind.JOIN, ClockKind.SYNC):
                    clocks.stop(shard, group, member.id, kind)
            beat(shard, group, member, later)

        draft.then.append(alive)
        is_full = is_joining or (
            request.rebalance_timeout_ms != -1
            and owned is not None
            and (
                request.subscribed_topic_names is not None
                or request.subscribed_topic_regex is not None
            )
        )
        response = ConsumerGroupHeartbeatResponse(
            member_id=member.id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=shard.settings.consumer_heartbeat_interval_ms,
        )
        if is_full or member.assigned.keys() != before.assigned.keys():
            response.assignment = Assignment(
                [TopicPartitions(topic, indexes) for topic, indexes in by_topic(member.assigned)]
            )

        def done(later: Turn, error: ErrorCode) -> None:
            answer(later, ConsumerGroupHeartbeatResponse(error_code=error) if error else response)

        draft.commit(turn, done)


def check_room(shard: Shard, group: ConsumerGroup, member_id: str) -> None:
    """Raises ApiError GROUP_MAX_SIZE_REACHED."""
    limit = min(shard.settings.consumer_max_size, LIMITS.group_members)
    if len(group.members) >= limit and member_id not in group.members:
        raise ApiError(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"the group is full: {limit} members.",
        )


def _owned(request: ConsumerGroupHeartbeatRequest) -> set[Part] | None:
    if request.topic_partitions is None:
        return None
    return {
        (each.topic_id, index) for each in request.topic_partitions for index in each.partitions
    }


def _find(
    draft: Draft,
    request: ConsumerGroupHeartbeatRequest,
    member_id: str,
    owned: Collection[Part] | None,
) -> Member:
    """The member that it is, or is to be. Raises ApiError."""
    group, instance_id = draft.group, request.instance_id
    if request.member_epoch == JOINS:
        if instance_id is not None:
            return static_member(draft, member_id, instance_id, is_classic=False)
        return group.members.get(member_id) or Member(member_id)
    member = group.find(member_id, instance_id)
    check_epoch(member, request.member_epoch, owned)
    return member


def static_member(draft: Draft, member_id: str, instance_id: str, *, is_classic: bool) -> Member:
    """One that joins: new, itself, or in the place of its former self. Raises ApiError
    UNRELEASED_INSTANCE_ID."""
    group = draft.group
    old_id = group.facts.static.get(instance_id)
    if old_id is None:
        return Member(member_id, instance_id)
    old = group.members[old_id]
    if not is_classic and old.classic is None and not old.is_away:
        raise ApiError(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"instance {instance_id} is member {old_id} still: {member_id} cannot be it.",
        )
    member = msgspec.structs.replace(old, id=member_id, epoch=0, previous_epoch=0, revoking={})
    target = group.facts.target.get(old_id, frozenset())
    draft.add(
        *member_tombstones(group.id, old_id),
        member_entry(group.id, member),
        target_entry(group.id, member_id, target),
        current_entry(group.id, member),
    )
    if old_id != member_id:
        draft.then.append(lambda later: clocks.stop_all_of(draft.shard, group, old_id))
    return member


def check_epoch(member: Member, epoch: int, owned: Collection[Part] | None) -> None:
    """Raises ApiError FENCED_MEMBER_EPOCH. The previous epoch is taken of a member that owns
    nothing else: it may have missed the answer that told it the current one."""
    if epoch > member.epoch:
        raise ApiError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            f"epoch {epoch} is ahead of {member.epoch}: give up all partitions, join again.",
        )
    if epoch < member.epoch and not (
        epoch == member.previous_epoch
        and owned is not None
        and all(part in member.assigned for part in owned)
    ):
        raise ApiError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            f"epoch {epoch} is behind {member.epoch}: give up all partitions, join again.",
        )


def _said(
    member: Member, request: ConsumerGroupHeartbeatRequest, client_id: str, client_host: str
) -> Member:
    """With whatever the request says anew."""
    names = request.subscribed_topic_names
    timeout_ms = request.rebalance_timeout_ms
    return msgspec.structs.replace(
        member,
        instance_id=_or(request.instance_id, member.instance_id),
        rack_id=_or(request.rack_id, member.rack_id),
        client_id=client_id,
        client_host=client_host,
        topics=member.topics if names is None else tuple(sorted(set(names))),
        pattern=_or(request.subscribed_topic_regex, member.pattern),
        rebalance_timeout_ms=member.rebalance_timeout_ms if timeout_ms == -1 else timeout_ms,
        assignor=_or(request.server_assignor, member.assignor),
        classic=None,
    )


def _or(said: str | None, known: str | None) -> str | None:
    return said if said is not None else known


# --- taking the group on ------------------------------------------------------------------


def take_on(
    draft: Draft, before: Member, said: Member, owned: Collection[Part] | None, turn: Turn
) -> Member:
    """The member as it stands behind this step. Raises ApiError."""
    group = draft.group
    id = group.id
    is_new = said.id not in group.members
    has_changed = group.epoch == 0
    cause = ""
    if is_new or said != before:
        if said.pattern and said.pattern != before.pattern:
            patterns.check(said.pattern, group.facts.patterns)
        draft.add(member_entry(id, said))
        if is_new or said.topics != before.topics or said.pattern != before.pattern:
            has_changed = True
            cause = f"{said.id} joined" if is_new else f"{said.id} subscribes to other topics"
    if has_changed or group.is_stale:
        _resolve_patterns(draft, turn)
        bump_epoch(draft, turn, cause, always=has_changed)
        draft.then.append(lambda later: group.topics_counted())
    if group.epoch > group.assignment_epoch:
        _assign(draft, turn)
    member = group.members[said.id]
    target = group.facts.target.get(member.id, frozenset())
    moved = reconcile(
        member,
        group.assignment_epoch,
        target,
        lambda part: group.is_free(part, member.id),
        owned,
    )
    if moved != member or is_new:
        draft.add(current_entry(id, moved))
        draft.then.append(lambda later: _watch(draft.shard, group, moved, later))
    return moved


def _resolve_patterns(draft: Draft, turn: Turn) -> None:
    """Those that somebody subscribes to; the others are forgotten."""
    group = draft.group
    wanted = {each.pattern for each in group.members.values() if each.pattern}
    image = draft.shard.image()
    for pattern in sorted({*wanted, *group.facts.patterns}):
        known = group.facts.patterns.get(pattern)
        if pattern not in wanted:
            draft.add(pattern_entry(group.id, pattern, None))
            continue
        topics = patterns.resolve(pattern, image.topics)
        if known is None or known.topics != topics:
            resolved = Resolved(topics, image.next_offset, turn.wall_ms)
            draft.add(pattern_entry(group.id, pattern, resolved))


def bump_epoch(draft: Draft, turn: Turn, cause: str, *, always: bool) -> None:
    """The group's next epoch: `always`, or when the topics that it subscribes to changed."""
    group = draft.group
    hashed = metadata_hash(group.subscribed_topics(), draft.shard.image())
    if hashed != group.facts.metadata_hash and not always:
        always, cause = True, "its topics have changed"
    if always:
        epoch = group.epoch + 1 & 0x7FFFFFFF
        draft.add(epoch_entry(group.id, epoch, hashed))
        draft.then.append(lambda later: later.trace(traces.GroupEpoch(group.id, epoch, cause)))


def _assign(draft: Draft, turn: Turn) -> None:
    """The target assignment of the group's epoch."""
    group = draft.group
    image = draft.shard.image()
    members: dict[str, Spec] = {}
    counts: dict[TopicId, int] = {}
    for member in group.members.values():
        topics = [image.topics[name] for name in group.topics_of(member) if name in image.topics]
        counts.update((TopicId(topic.id), len(topic.partitions)) for topic in topics)
        members[member.id] = Spec(
            frozenset(TopicId(topic.id) for topic in topics),
            member.instance_id,
            group.facts.target.get(member.id, frozenset()),
        )
    assignor = group.preferred_assignor(draft.shard.settings.consumer_assignors)
    target = assign(assignor, members, dict(sorted(counts.items())))
    for member_id, parts in target.items():
        if group.facts.target.get(member_id) != parts:
            draft.add(target_entry(group.id, member_id, parts))
    epoch = group.epoch
    draft.add(target_epoch_entry(group.id, epoch, turn.wall_ms))
    count = len(members)
    draft.then.append(
        lambda later: later.trace(traces.GroupAssigned(group.id, epoch, count, assignor))
    )


# --- time ---------------------------------------------------------------------------------


def beat(shard: Shard, group: ConsumerGroup, member: Member, turn: Turn) -> None:
    """It lives: its session begins anew."""
    session_ms = shard.settings.consumer_session_timeout_ms
    if member.classic is not None:
        session_ms = member.classic.session_timeout_ms
    clocks.start(shard, group, member.id, ClockKind.SESSION, session_ms, turn)


def _watch(shard: Shard, group: ConsumerGroup, member: Member, turn: Turn) -> None:
    """Whether it gives up its partitions in time; classic members have clocks of their own."""
    if member.classic is not None:
        return
    if member.state is MemberState.UNREVOKED_PARTITIONS:
        clocks.start(
            shard,
            group,
            member.id,
            ClockKind.REBALANCE,
            member.rebalance_timeout_ms,
            turn,
            epoch=member.epoch,
        )
    else:
        clocks.stop(shard, group, member.id, ClockKind.REBALANCE)


def loaded(shard: Shard, group: ConsumerGroup, turn: Turn) -> None:
    """Everybody gets a whole session, and whoever has to give up partitions the whole time."""
    for member in group.members.values():
        beat(shard, group, member, turn)
        _watch(shard, group, member, turn)


def clock_ran_out(shard: Shard, clock: clocks.Clock, turn: Turn) -> None:
    group = clock.group
    member = group.members.get(clock.member_id)
    if member is None or shard.groups.get(group.id) is not group:
        return
    if clock.epoch not in (clocks.ANY_EPOCH, member.epoch):
        return
    try:
        fence(shard, group, [member], turn, clock.kind.value)
    except ApiError:
        clocks.start(shard, group, member.id, clock.kind, FENCE_AGAIN_MS, turn, epoch=clock.epoch)


# --- leaving ------------------------------------------------------------------------------


def _leave(
    shard: Shard, request: ConsumerGroupHeartbeatRequest, turn: Turn, answer: Answer
) -> None:
    group = shard.find_consumer(request.group_id)
    if group is None:
        raise ApiError(
            ErrorCode.GROUP_ID_NOT_FOUND,
            f"{request.group_id} is no group of the consumer protocol.",
        )
    member = group.find(request.member_id, request.instance_id)

    def done(later: Turn, error: ErrorCode) -> None:
        if error:
            answer(later, ConsumerGroupHeartbeatResponse(error_code=error))
        else:
            answer(
                later,
                ConsumerGroupHeartbeatResponse(
                    member_id=member.id, member_epoch=request.member_epoch
                ),
            )

    if request.member_epoch == LEAVES:
        fence(shard, group, [member], turn, "it left", done)
        return
    with Draft(shard, group) as draft:
        away = msgspec.structs.replace(member, epoch=LEAVES_FOR_A_WHILE, revoking={})
        draft.add(current_entry(group.id, away))
        draft.commit(turn, done)


def fence(
    shard: Shard,
    group: ConsumerGroup,
    members: Iterable[Member],
    turn: Turn,
    cause: str,
    done: Callable[[Turn, ErrorCode], None] | None = None,
) -> None:
    """Take members out: their partitions are free. When only classic ones are left, the group
    becomes a classic one. Raises ApiError; then they are still in it."""
    gone = list(members)
    told = done if done is not None else lambda later, error: None
    if conversion.may_downgrade(shard, group, {member.id for member in gone}):
        conversion.downgrade(shard, group, {member.id for member in gone}, turn, cause, told)
        return
    with Draft(shard, group) as draft:
        for member in gone:
            draft.add(*member_tombstones(group.id, member.id))
        wanted = {each.pattern for each in group.members.values()}
        for pattern in sorted(set(group.facts.patterns) - wanted):
            draft.add(pattern_entry(group.id, pattern, None))
        names = ", ".join(member.id for member in gone)
        bump_epoch(draft, turn, f"{names}: {cause}", always=True)

        def let_go(later: Turn) -> None:
            for member in gone:
                clocks.stop_all_of(shard, group, member.id)

        draft.then.append(let_go)
        draft.commit(turn, told)
