"""Members of our client in a group of lists: no record is skipped, commits are never ahead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kcluster.core.client.assignors import COOPERATIVE_STICKY, RANGE
from kcluster.core.client.consumer import Consumed, ConsumerSettings, From, Place
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.group_consumer import Assigned, GroupConsumerCore, Revoked
from kcluster.core.client.membership import MembershipSettings, State
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.records import Record
from tests.core.client.group_of_lists import GroupOfLists

START = From()
BOTH = pytest.mark.parametrize("assignor", [RANGE, COOPERATIVE_STICKY])


def group(partitions: int = 4, records: int = 20, seed: int = 0) -> GroupOfLists:
    cluster = GroupOfLists(seed)
    cluster.create("orders", partitions)
    write(cluster, records)
    return cluster


def write(cluster: GroupOfLists, records: int) -> None:
    for tp, log in cluster.logs.items():
        for _ in range(records):
            log.add(Record(f"{tp}/{log.end_offset}".encode()))


def member(assignor: str = RANGE, start: From = START, **settings: int) -> GroupConsumerCore:
    return GroupConsumerCore(
        Exchange([1, 2, 3], Patience(request_ms=2000, topic_ms=500)),
        "counts",
        ["orders"],
        start,
        membership=MembershipSettings(assignor=assignor, **settings),  # type: ignore[arg-type]
        consumer=ConsumerSettings(max_wait_ms=20),
    )


def until(
    cluster: GroupOfLists,
    cores: list[GroupConsumerCore],
    is_so: Callable[[], bool],
    got: list[Consumed] | None = None,
    steps: int = 5000,
) -> None:
    """Step until it is so; what comes is dealt with at once."""
    for _ in range(steps):
        if is_so():
            return
        cluster.step_all(cores)
        for core in cores:
            taken = core.take()
            core.done(taken)
            if got is not None:
                got += taken
    raise AssertionError(f"never: {[core.membership.state for core in cores]}")


def is_shared(cluster: GroupOfLists, cores: list[GroupConsumerCore]) -> bool:
    """All are in one generation, and every partition has one owner among them."""
    owned = [tp for core in cores for tp in core.membership.owned]
    return (
        all(core.membership.state is State.STABLE for core in cores)
        and {core.membership.generation for core in cores} == {cluster.generation}
        and sorted(owned) == sorted(cluster.logs)
    )


def committed(cluster: GroupOfLists) -> bool:
    return all(cluster.offsets.get(tp) == log.end_offset for tp, log in cluster.logs.items())


def values(got: list[Consumed]) -> list[tuple[TopicPartition, int]]:
    return [(consumed.tp, consumed.record.offset) for consumed in got]


def everything(cluster: GroupOfLists) -> set[tuple[TopicPartition, int]]:
    return {(tp, offset) for tp, log in cluster.logs.items() for offset in range(log.end_offset)}


def test_a_member_asks_in_the_order_of_the_protocol() -> None:
    cluster, core = group(), member()
    core.join(0)
    until(cluster, [core], lambda: core.membership.state is State.STABLE)
    until(cluster, [core], lambda: committed(cluster))
    heard = [name for name in cluster.requests if name != "Heartbeat"]
    assert heard[:5] == ["FindCoordinator", "JoinGroup", "JoinGroup", "SyncGroup", "OffsetFetch"]
    assert set(heard[5:]) == {"OffsetCommit"}
    assert core.events == [Assigned(1, tuple(sorted(cluster.logs)))]


def test_heartbeats_do_not_wait_behind_fetches() -> None:
    cluster, core = group(), member()
    core.join(0)
    until(cluster, [core], lambda: "Heartbeat" in cluster.requests)
    lanes = {type(o.request).__name__: o.broker_id for o in cluster.asked}
    assert lanes["FetchRequest"] in (1, 2, 3)


@BOTH
def test_members_share_the_partitions_and_nothing_is_read_twice_when_all_goes_well(
    assignor: str,
) -> None:
    cluster, cores, got = group(), [member(assignor) for _ in range(3)], []
    for core in cores:
        core.join(cluster.now_ms)
        until(cluster, cores, lambda: core.membership.state is State.STABLE, got)  # noqa: B023
    until(cluster, cores, lambda: is_shared(cluster, cores) and committed(cluster), got)
    write(cluster, 10)
    until(cluster, cores, lambda: committed(cluster), got)
    assert sorted(values(got)) == sorted(everything(cluster))


@BOTH
def test_who_leaves_commits_and_the_others_go_on_there(assignor: str) -> None:
    cluster, cores, got = group(), [member(assignor) for _ in range(2)], []
    for core in cores:
        core.join(0)
    until(cluster, cores, lambda: is_shared(cluster, cores), got)
    leaver, stayer = cores
    leaver.leave(cluster.now_ms)
    until(cluster, cores, lambda: leaver.is_out, got)
    assert leaver.membership.member_id == ""
    until(cluster, cores, lambda: is_shared(cluster, [stayer]) and committed(cluster), got)
    assert sorted(values(got)) == sorted(everything(cluster))


def test_cooperative_members_keep_reading_what_stays_with_them() -> None:
    cluster = group()
    first, second = member(COOPERATIVE_STICKY), member(COOPERATIVE_STICKY)
    first.join(0)
    until(cluster, [first], lambda: is_shared(cluster, [first]))
    second.join(cluster.now_ms)
    until(cluster, [first, second], lambda: is_shared(cluster, [first, second]))
    [_, revoked] = first.events
    assert isinstance(revoked, Revoked)
    assert len(revoked.partitions) == 2
    assert set(revoked.partitions) == second.membership.owned


def test_a_cooperative_member_that_leaves_while_it_gives_up_some_commits_all() -> None:
    cluster = group()
    first, second = member(COOPERATIVE_STICKY), member(COOPERATIVE_STICKY)
    first.join(0)
    until(cluster, [first], lambda: is_shared(cluster, [first]))
    until(cluster, [first], lambda: committed(cluster))
    write(cluster, 5)
    second.join(cluster.now_ms)
    taken: list[Consumed] = []
    while first.membership.state is not State.GIVING_UP:
        cluster.step_all([first, second])
        taken += first.take()
        first.done(taken)
        # Otherwise the commit is there before it can be told to leave.
        cluster.errors["OffsetCommit"] = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 2
    first.leave(cluster.now_ms)
    until(cluster, [first, second], lambda: first.is_out)
    for tp in cluster.logs:
        offsets = [consumed.record.offset for consumed in taken if consumed.tp == tp]
        assert cluster.offsets[tp] >= max(offsets, default=0)
    until(cluster, [second], lambda: is_shared(cluster, [second]) and committed(cluster))


def test_records_taken_and_not_done_come_again_to_the_next_owner() -> None:
    cluster, core = group(partitions=1), member()
    core.join(0)
    taken: list[Consumed] = []
    while len(taken) < 20:
        cluster.step_all([core])
        taken += core.take()
    core.done(taken[:7])
    core.leave(cluster.now_ms)
    until(cluster, [core], lambda: core.is_out)
    assert cluster.offsets == {TopicPartition("orders", 0): 7}
    other, got = member(), []
    other.join(cluster.now_ms)
    until(cluster, [other], lambda: committed(cluster), got)
    assert [consumed.record.offset for consumed in got] == list(range(7, 20))


def test_a_place_to_begin_is_committed_before_anything_is_read() -> None:
    cluster, core = group(), member(start=From(Place.END))
    core.join(0)
    until(cluster, [core], lambda: committed(cluster))
    core.leave(cluster.now_ms)
    until(cluster, [core], lambda: core.is_out)
    write(cluster, 3)
    other, got = member(start=From(Place.END)), []
    other.join(cluster.now_ms)
    until(cluster, [other], lambda: committed(cluster), got)
    assert len(got) == 3 * 4


@pytest.mark.parametrize(
    ("request_name", "code"),
    [
        ("FindCoordinator", ErrorCode.COORDINATOR_NOT_AVAILABLE),
        ("JoinGroup", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
        ("JoinGroup", ErrorCode.NOT_COORDINATOR),
        ("JoinGroup", ErrorCode.UNKNOWN_MEMBER_ID),
        ("SyncGroup", ErrorCode.REBALANCE_IN_PROGRESS),
        ("SyncGroup", ErrorCode.NOT_COORDINATOR),
        ("SyncGroup", ErrorCode.ILLEGAL_GENERATION),
        ("Heartbeat", ErrorCode.NOT_COORDINATOR),
        ("Heartbeat", ErrorCode.COORDINATOR_NOT_AVAILABLE),
        ("Heartbeat", ErrorCode.ILLEGAL_GENERATION),
        ("Heartbeat", ErrorCode.REBALANCE_IN_PROGRESS),
        ("OffsetFetch", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS),
        ("OffsetFetch", ErrorCode.NOT_COORDINATOR),
        ("OffsetCommit", ErrorCode.NOT_COORDINATOR),
        ("OffsetCommit", ErrorCode.REBALANCE_IN_PROGRESS),
        ("OffsetCommit", ErrorCode.ILLEGAL_GENERATION),
        ("LeaveGroup", ErrorCode.NOT_COORDINATOR),
    ],
)
@BOTH
def test_a_refusal_that_can_be_healed_is(request_name: str, code: ErrorCode, assignor: str) -> None:
    cluster, core = group(), member(assignor)
    cluster.errors[request_name] = [code, code]
    core.join(0)
    until(cluster, [core], lambda: "Heartbeat" in cluster.requests)
    write(cluster, 3)
    until(cluster, [core], lambda: is_shared(cluster, [core]) and committed(cluster))
    core.leave(cluster.now_ms)
    until(cluster, [core], lambda: core.is_out)
    assert core.problem is None
    assert not cluster.errors[request_name]
    assert cluster.members == {}


@pytest.mark.parametrize(
    ("request_name", "code"),
    [
        ("FindCoordinator", ErrorCode.GROUP_AUTHORIZATION_FAILED),
        ("JoinGroup", ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ("JoinGroup", ErrorCode.INVALID_SESSION_TIMEOUT),
        ("SyncGroup", ErrorCode.FENCED_INSTANCE_ID),
        ("Heartbeat", ErrorCode.FENCED_INSTANCE_ID),
        ("OffsetCommit", ErrorCode.FENCED_INSTANCE_ID),
    ],
)
def test_a_refusal_that_cannot_be_healed_ends_the_membership(
    request_name: str, code: ErrorCode
) -> None:
    cluster, core = group(), member()
    cluster.errors[request_name] = [code]
    core.join(0)
    until(cluster, [core], lambda: core.problem is not None)
    assert core.problem is not None
    assert core.problem.code is code
    assert core.is_out
    assert core.take() == []


def test_a_member_that_was_put_out_loses_its_partitions_and_commits_nothing() -> None:
    cluster, core = group(), member()
    core.join(0)
    until(cluster, [core], lambda: committed(cluster))
    before = len(cluster.commits)
    write(cluster, 5)
    while not (taken := core.take()):
        cluster.step_all([core])
    cluster.put_out(core.membership.member_id)
    core.done(taken)
    until(
        cluster, [core], lambda: Revoked(tuple(sorted(cluster.logs)), is_lost=True) in core.events
    )
    assert len(cluster.commits) == before
    until(cluster, [core], lambda: is_shared(cluster, [core]) and committed(cluster))


def test_the_leader_has_the_group_assign_anew_when_a_topic_gets_partitions() -> None:
    cluster, core = group(partitions=2), member(recount_ms=500)
    core.join(0)
    until(cluster, [core], lambda: is_shared(cluster, [core]))
    cluster.create("orders", 3)
    until(cluster, [core], lambda: is_shared(cluster, [core]))
    assert len(core.membership.owned) == 3


def test_a_topic_that_is_not_there_is_a_problem() -> None:
    cluster = GroupOfLists(0)
    core = member()
    core.join(0)
    until(cluster, [core], lambda: core.problem is not None)
    assert "there is no topic orders" in str(core.problem)


def test_leaving_ends_in_time_though_no_coordinator_answers() -> None:
    cluster, core = group(), member()
    core.join(0)
    until(cluster, [core], lambda: core.membership.state is State.STABLE)
    cluster.down = {1, 2, 3}
    began = cluster.now_ms
    core.leave(began)
    until(cluster, [core], lambda: core.is_out, steps=20_000)
    assert cluster.now_ms - began <= 5_000 + 5_000 + 2_000


@BOTH
@pytest.mark.parametrize("seed", range(12))
def test_every_record_is_read_while_members_come_and_go_and_coordinators_move(
    seed: int, assignor: str
) -> None:
    cluster = group(seed=seed)
    chance, got = cluster.chance, []
    read: set[tuple[TopicPartition, int]] = set()
    checked: dict[TopicPartition, int] = {}
    cores = [member(assignor) for _ in range(3)]
    for core in cores:
        core.join(0)
    cluster.loss = 0.05
    for step in range(1200):
        if step % 97 == 0:
            write(cluster, 2)
        if chance.random() < 0.01:
            cluster.move_coordinator()
        if chance.random() < 0.01:
            cluster.move_leaders()
        if chance.random() < 0.005 and cluster.members:
            cluster.put_out(chance.choice(sorted(cluster.members)))
        if chance.random() < 0.005:
            core = chance.choice(cores)
            if core.is_out:
                core.join(cluster.now_ms)
            else:
                core.leave(cluster.now_ms)
        cluster.step_all(cores)
        for core in cores:
            taken = core.take(5)
            # Who was put out may have read it; what counts is that somebody did before the commit.
            got += taken
            read.update(values(taken))
            core.done(taken)
        for tp, offset in cluster.offsets.items():
            for below in range(checked.get(tp, 0), offset):
                assert (tp, below) in read
            checked[tp] = max(offset, checked.get(tp, 0))
    cluster.loss = 0
    for core in cores:
        if core.is_out:
            assert core.problem is None
            core.join(cluster.now_ms)
    # Members whose requests were lost before they had an id are nobody's: their session ends.
    known = {core.membership.member_id for core in cores}
    for id in [id for id in cluster.members if id not in known]:
        cluster.put_out(id)
    until(cluster, cores, lambda: is_shared(cluster, cores) and committed(cluster), got)
    assert set(values(got)) == everything(cluster)
    one_owner: dict[tuple[int, TopicPartition], str] = {}
    for generation, id, tp, _ in cluster.commits:
        assert one_owner.setdefault((generation, tp), id) == id
