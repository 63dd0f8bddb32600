"""Leaders, ISR and ELR as brokers come and go."""

import pytest

from kcluster.core.traces import Elected, Warned
from kcluster.errors import ErrorCode
from kcluster.model import OFFSETS_TOPIC, SUPERVISOR
from kcluster.wire import bus

from .playbook import Playbook, messages, only

MIN_2 = {"min.insync.replicas": "2"}


@pytest.fixture
def p() -> Playbook:
    """Three brokers; topic t with one partition on all of them, min.insync.replicas 2."""
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3], configs=MIN_2)
    return p


def test_next_of_the_isr_leads_when_the_leader_dies(p: Playbook) -> None:
    before = p.partition()
    p.die(1)
    after = p.partition()
    assert (after.leader, after.isr) == (2, [2, 3])
    assert after.leader_epoch == before.leader_epoch + 1
    assert after.partition_epoch == before.partition_epoch + 1
    assert p.traced(Elected)[-1].source == "isr"


def test_follower_that_dies_leaves_the_isr_and_the_leader_epoch_stays(p: Playbook) -> None:
    before = p.partition()
    p.die(3)
    after = p.partition()
    assert (after.leader, after.isr, after.leader_epoch) == (1, [1, 2], before.leader_epoch)
    assert after.partition_epoch == before.partition_epoch + 1


def test_isr_at_min_or_above_keeps_no_eligible_replicas(p: Playbook) -> None:
    p.die(3)
    assert p.partition().elr == []


def test_replica_that_leaves_an_isr_below_min_stays_eligible(p: Playbook) -> None:
    p.die(3)
    p.die(2)
    assert (p.partition().isr, p.partition().elr) == ([1], [2])


def test_last_member_of_the_isr_becomes_eligible_and_nobody_leads(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    state = p.partition()
    assert (state.isr, state.elr, state.leader) == ([], [1, 2], -1)
    assert state.last_known_leader == 1
    assert p.traced(Elected)[-1].source == "none"


def test_eligible_replica_leads_when_it_comes_back_and_the_isr_is_empty(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    p.join(2)
    state = p.partition()
    assert (state.leader, state.isr, state.elr) == (2, [2], [1])
    assert not state.recovering
    assert p.traced(Elected)[-1].source == "elr"


def test_replica_outside_isr_and_elr_never_leads_without_unclean_election(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    p.join(3)
    assert p.partition().leader == -1


def test_eligible_replicas_are_cleared_when_the_isr_reaches_min_again(p: Playbook) -> None:
    p.die(3)
    p.die(2)
    p.join(3)
    assert p.alter(1, [1, 3]).error == 0
    assert (p.partition().isr, p.partition().elr) == ([1, 3], [])


def test_unclean_election_happens_only_where_the_topic_allows_it_and_is_told() -> None:
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3], configs={"unclean.leader.election.enable": "true"})
    p.alter(1, [1])
    p.die(1)
    state = p.partition()
    assert state.leader in (2, 3) and state.recovering
    assert (state.isr, state.elr) == ([state.leader], [])
    assert p.traced(Elected)[-1].source == "unclean"
    assert p.traced(Warned)


def test_new_incarnation_of_the_leader_bumps_its_leader_epochs(p: Playbook) -> None:
    """Rule 6; KIP-380: the successor must not lead in the epoch of its predecessor."""
    before = p.partition()
    p.register(1)
    after = p.partition()
    assert after.leader == 2
    assert after.leader_epoch > before.leader_epoch
    assert after.isr == [2, 3]


def test_sole_replica_that_restarts_leads_in_a_new_epoch() -> None:
    p = Playbook(brokers=1)
    p.join(1)
    p.make_topic("t", [1])
    before = p.partition()
    p.join(1)
    after = p.partition()
    assert after.leader == 1 and after.isr == [1] and not after.recovering
    assert after.leader_epoch == before.leader_epoch + 2  # nobody, then its successor


# --- lossy restarts (invariant 11, KIP-966) -----------------------------------------------


def test_lossy_restart_costs_the_place_in_isr_and_elr(p: Playbook) -> None:
    p.die(3)
    p.die(2)
    assert p.partition().elr == [2]
    p.register(2, restart="lossy")
    state = p.partition()
    assert (state.isr, state.elr, state.last_known_elr) == ([1], [], [2])


def test_lossy_replica_does_not_lead_while_a_trusted_one_may_come_back(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    p.join(2, restart="lossy")
    assert p.partition().leader == -1
    p.join(1)
    assert p.partition().leader == 1
    assert not p.partition().recovering


def test_crash_with_the_page_cache_kept_costs_no_trust(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    p.join(2, restart="crash")
    assert p.partition().leader == 2


def test_when_all_came_back_lossy_the_one_with_the_longest_log_leads(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    t = p.partition().topic_id
    p.register(1, restart="lossy", logs=[bus.LogEnd(t, 0, 4, 90)])
    p.heartbeat(1)
    assert p.partition().leader == -1, "2 has not reported yet"
    p.register(2, restart="lossy", logs=[bus.LogEnd(t, 0, 5, 80)])
    p.heartbeat(2)
    state = p.partition()
    assert (state.leader, state.isr, state.recovering) == (2, [2], True)
    assert p.traced(Elected)[-1].source == "lossy"
    assert p.traced(Warned)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_where_each_record_is_flushed_who_was_in_sync_leads_after_a_power_loss(
    is_damaged: bool,
) -> None:
    """2 led, was cut off, and wrote what nobody committed. 1 led after it, committed alone what it
    had of an older epoch, and wrote nothing; the epoch of its log is lower (seed 1101635)."""
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3], configs={"flush.messages": "1"})
    t = p.partition().topic_id
    for id in (3, 2, 1):
        p.die(id)
    assert p.partition().elr == [1]
    p.register(1, restart="lossy", logs=[bus.LogEnd(t, 0, 0, 27, is_damaged)])
    p.register(2, restart="lossy", logs=[bus.LogEnd(t, 0, 1, 30)])
    p.heartbeats(1, 2)
    assert p.partition().leader == (2 if is_damaged else 1)


def test_a_log_with_an_epoch_that_never_was_is_the_last_to_lead(p: Playbook) -> None:
    """A flipped bit may have it claim one."""
    for id in (3, 2, 1):
        p.die(id)
    t = p.partition().topic_id
    p.register(1, restart="lossy", logs=[bus.LogEnd(t, 0, 8, 1, is_damaged=True)])
    p.register(2, restart="lossy", logs=[bus.LogEnd(t, 0, 0, 10)])
    p.heartbeat(1)
    p.heartbeat(2)
    assert p.partition().leader == 2


def test_an_empty_log_that_lost_its_epochs_counts_by_its_end(p: Playbook) -> None:
    for id in (3, 2, 1):
        p.die(id)
    t = p.partition().topic_id
    p.register(1, restart="lossy", logs=[bus.LogEnd(t, 0, -1, 139)])
    p.register(2, restart="lossy", logs=[bus.LogEnd(t, 0, 0, 75)])
    p.heartbeats(1, 2)
    assert p.partition().leader == 1


def test_until_the_isr_is_full_again_the_next_last_resort_asks_all_who_lost_data(
    p: Playbook,
) -> None:
    for id in (3, 2, 1):
        p.die(id)
    t = p.partition().topic_id
    for id in (1, 2, 3):
        p.register(id, restart="lossy", logs=[bus.LogEnd(t, 0, 0, 7)])
        p.heartbeat(id)
    assert p.partition().leader == 1
    p.die(1)
    p.die(2)
    p.die(3)
    p.register(1, restart="crash", logs=[bus.LogEnd(t, 0, -1, 0, is_damaged=True)])
    p.heartbeat(1)
    assert p.partition().leader == -1, "what was committed is with 2 and 3"
    for id in (2, 3):
        p.register(id, restart="crash", logs=[bus.LogEnd(t, 0, 0, 7)])
        p.heartbeat(id)
    assert p.partition().leader == 2
    assert p.alter(2, [1, 2]).error == 0
    assert p.partition().last_known_elr == []


def test_living_replica_is_asked_for_its_log_before_the_last_resort(p: Playbook) -> None:
    """It was never in danger, only behind: it may hold more than those that lost data."""
    t = p.partition().topic_id
    p.alter(1, [1, 2])
    p.core.partitions.gone(3)  # what it said when it registered is old
    p.die(2)
    p.die(1)
    p.join(1, 2, restart="lossy")
    assert p.partition().leader == -1
    assert only(p.heartbeat(3), bus.HeartbeatReply).unknown_epoch
    epoch = p.epochs[3]
    p.register(3, p.incarnations[3], logs=[bus.LogEnd(t, 0, 1, 7)])
    assert p.epochs[3] == epoch
    assert p.partition().leader == 3
    assert not only(p.heartbeat(3), bus.HeartbeatReply).unknown_epoch


def lose_all_but_the_end_of_3(p: Playbook, end_3: int) -> None:
    """1 and 2, who were in sync, come back with less; 3, who was behind, is not unfenced yet."""
    t = p.partition().topic_id
    p.alter(1, [1, 2])
    for id in (3, 2, 1):
        p.die(id)
    p.register(3, logs=[bus.LogEnd(t, 0, 0, end_3)])
    for id in (1, 2):
        p.register(id, logs=[bus.LogEnd(t, 0, 0, 4, is_damaged=True)])
    p.heartbeats(1, 2)


def test_last_resort_waits_until_the_longest_log_can_lead(p: Playbook) -> None:
    lose_all_but_the_end_of_3(p, 7)
    assert p.partition().leader == -1
    p.heartbeat(3)
    assert p.partition().leader == 3


def test_last_resort_waits_for_nobody_who_holds_no_more(p: Playbook) -> None:
    lose_all_but_the_end_of_3(p, 4)
    assert p.partition().leader == 1


def test_last_resort_waits_no_longer_for_who_has_died(p: Playbook) -> None:
    lose_all_but_the_end_of_3(p, 7)
    p.die(3)
    assert p.partition().leader == 1


def test_last_resort_waits_no_longer_than_a_session_for_who_is_silent(p: Playbook) -> None:
    lose_all_but_the_end_of_3(p, 7)
    p.live(3000, [1, 2])
    assert p.partition().leader == 1


def test_last_resort_waits_for_a_process_that_stands_still_until_it_has_ended(p: Playbook) -> None:
    lose_all_but_the_end_of_3(p, 7)
    paused, killed = (
        bus.Announce([bus.ProcessState(3, p.incarnations[3], "ipc://x", 1, state)])
        for state in ("paused", "killed")
    )
    p.receive(SUPERVISOR, paused)
    p.live(3000, [1, 2])
    assert p.partition().leader == -1
    p.receive(SUPERVISOR, killed)
    assert p.partition().leader == 1


def test_last_resort_waits_for_no_log_that_is_offline(p: Playbook) -> None:
    lose_all_but_the_end_of_3(p, 7)
    p.receive(3, bus.LogDirFailed(p.epochs[3], [(p.partition().topic_id, 0)]))
    assert p.partition().leader == 1


# --- controlled shutdown ------------------------------------------------------------------


def test_leaderships_move_before_a_broker_may_shut_down(p: Playbook) -> None:
    reply = only(p.heartbeat(1, wants_shutdown=True), bus.HeartbeatReply)
    assert not reply.may_shut_down, "its successors have not heard of it"
    assert (p.partition().leader, p.partition().isr) == (2, [2, 3])
    p.heartbeats(2, 3)
    assert only(p.heartbeat(1, wants_shutdown=True), bus.HeartbeatReply).may_shut_down


def test_broker_is_told_that_it_may_shut_down_without_asking_again(p: Playbook) -> None:
    p.heartbeat(1, nonce=5, wants_shutdown=True)
    p.heartbeat(2)
    (reply,) = messages(p.heartbeat(3), 1)
    assert isinstance(reply, bus.HeartbeatReply)
    assert reply.may_shut_down and reply.nonce == 5


def test_last_candidate_may_shut_down_and_leads_until_it_is_fenced(p: Playbook) -> None:
    p.die(2)
    p.die(3)
    assert only(p.heartbeat(1, wants_shutdown=True), bus.HeartbeatReply).may_shut_down
    assert p.partition().leader == 1
    p.die(1)
    assert p.partition().leader == -1
    assert p.partition().elr == [1, 3]


# --- disks --------------------------------------------------------------------------------


def test_partition_moves_away_from_a_failed_log_dir(p: Playbook) -> None:
    t = p.partition().topic_id
    p.receive(1, bus.LogDirFailed(p.epochs[1], [(t, 0)]))
    assert (p.partition().leader, p.partition().isr) == (2, [2, 3])
    assert p.alter(2, [1, 2, 3]).error == ErrorCode.INELIGIBLE_REPLICA
    p.join(1)
    assert p.alter(2, [1, 2, 3]).error == 0


# --- preferred leaders --------------------------------------------------------------------


def test_preferred_leader_leads_again_once_it_is_in_sync(p: Playbook) -> None:
    p.die(1)
    p.join(1)
    p.pass_time(500)
    p.heartbeats()
    assert p.partition().leader == 2, "it is not in the ISR"
    assert p.alter(2, [1, 2, 3]).error == 0
    p.live(1999)
    assert p.partition().leader == 2, "its clients may not have noticed that it is back"
    p.live(1)
    assert p.partition().leader == 1
    assert p.traced(Elected)[-1].source == "preferred"


@pytest.mark.parametrize(("away_ms", "return_ms"), [(5_000, 10_000), (60_000, 30_000)])
def test_a_preferred_leader_that_was_away_for_long_waits_longer(
    p: Playbook, away_ms: int, return_ms: int
) -> None:
    p.die(1)
    p.live(away_ms, [2, 3])
    p.join(1)
    assert p.alter(2, [1, 2, 3]).error == 0
    p.live(return_ms - 1)
    assert p.partition().leader == 2
    p.live(1)
    assert p.partition().leader == 1


def test_a_coordinator_is_moved_back_by_the_periodic_look_only(p: Playbook) -> None:
    p.make_topic(OFFSETS_TOPIC, [1, 2, 3])
    p.die(1)
    p.join(1)
    assert p.alter(2, [1, 2, 3]).error == 0
    assert p.alter(2, [1, 2, 3], topic=OFFSETS_TOPIC).error == 0
    p.live(3000)
    assert (p.partition().leader, p.partition(OFFSETS_TOPIC).leader) == (1, 2)
    p.live(300_000)
    assert p.partition(OFFSETS_TOPIC).leader == 1


def test_preferred_leaders_wait_for_the_last_of_them(p: Playbook) -> None:
    p.make_topic("late", [3, 2, 1])
    p.die(1)
    p.die(3)
    p.join(1, 3)
    assert p.alter(2, [1, 2]).error == 0
    p.live(1000)
    assert p.alter(2, [2, 3], topic="late").error == 0
    p.live(1999)
    assert p.partition().leader == p.partition("late").leader == 2
    p.live(1)
    assert (p.partition().leader, p.partition("late").leader) == (1, 3)


def test_rebalance_can_be_switched_off() -> None:
    p = Playbook(auto_leader_rebalance_enable="false")
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3])
    p.die(1)
    p.join(1)
    p.alter(2, [1, 2, 3])
    p.live(3000)
    assert p.partition().leader == 2


# --- freeze -------------------------------------------------------------------------------


def test_frozen_cluster_elects_nobody_and_changes_no_isr(p: Playbook) -> None:
    before = p.partition()
    p.receive(-1, bus.Freeze())
    p.die(1)
    assert p.alter(2, [2, 3]).error == ErrorCode.OPERATION_NOT_ATTEMPTED
    p.pass_time(60_000)
    assert p.partition() == before
    assert only(p.heartbeat(2, wants_shutdown=True), bus.HeartbeatReply).may_shut_down


def test_a_log_that_is_damaged_or_gone_costs_the_trust_of_that_partition_only(p: Playbook) -> None:
    p.make_topic("u", [1, 2, 3], [1, 2, 3], [1, 2, 3], configs=MIN_2)
    for id in (2, 3, 1):
        p.die(id)
    topic = p.core.image.topics["u"]
    p.register(
        1,
        restart="crash",
        logs=[bus.LogEnd(topic.id, 0, 0, 9), bus.LogEnd(topic.id, 1, 0, 5, True)],
    )
    p.heartbeat(1)
    assert [p.partition("u", number).leader for number in range(3)] == [1, -1, -1]
    assert [1 in p.partition("u", number).elr for number in range(3)] == [False, False, False]


def test_a_log_under_another_name_is_not_there(p: Playbook) -> None:
    for id in (2, 3, 1):
        p.die(id)
    topic = p.core.image.topics["t"]
    p.register(1, restart="crash", logs=[bus.LogEnd(topic.id, 0, 0, 9, False, "copy")])
    p.heartbeat(1)
    assert p.partition("t").leader == -1
