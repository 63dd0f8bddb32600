"""Starts: a new cluster, a restarted coordinator, a cluster that comes back."""

from __future__ import annotations

import pytest

from kcluster.core.metadata import records as r
from kcluster.core.turn import StoodStill
from kcluster.errors import ErrorCode
from kcluster.model import SUPERVISOR
from kcluster.wire import bus, telling

from .playbook import Playbook, messages, only

MIN_2 = {"min.insync.replicas": "2"}


@pytest.fixture
def p() -> Playbook:
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3], configs=MIN_2)
    p.heartbeats()
    return p


def restart(p: Playbook, **knobs: str) -> Playbook:
    """Another coordinator on the same disk; the brokers live on."""
    again = Playbook(disk=p.disk, incarnation=2, **knobs)
    again.epochs, again.incarnations = dict(p.epochs), dict(p.incarnations)
    return again


def living(p: Playbook, *states: tuple[int, int, str]) -> bus.Announce:
    return bus.Announce(
        [
            bus.ProcessState(id, incarnation, "ipc://x", 1, state)
            for id, incarnation, state in states
        ]
    )


def test_new_cluster_gets_a_random_id_of_22_characters() -> None:
    p = Playbook()
    assert len(p.image.cluster_id) == 22
    assert restart(p).image.cluster_id == p.image.cluster_id


def test_ready_is_told_once_and_only_when_what_was_loaded_is_durable() -> None:
    p = Playbook()
    assert messages(p.sent, SUPERVISOR) == [bus.Ready(0, 1)]
    p.join(1)
    assert messages(p.sent, SUPERVISOR) == [bus.Ready(0, 1)]


def test_restarted_coordinator_loses_nothing(p: Playbook) -> None:
    again = restart(p)
    assert again.image.records() == p.image.records()
    assert only(again.heartbeat(1), bus.HeartbeatReply).is_fenced is False
    assert again.alter(1, [1, 2]).error == 0


def test_restarted_coordinator_gives_every_broker_a_full_session(p: Playbook) -> None:
    again = restart(p)
    again.pass_time(2999)
    assert again.image.is_alive(1)
    again.pass_time(1)
    assert not again.image.is_alive(1)


def test_broker_whose_process_ended_meanwhile_is_fenced_by_the_announcement(p: Playbook) -> None:
    again = restart(p)
    again.receive(SUPERVISOR, living(again, (1, 1, "killed"), (2, 1, "running"), (3, 1, "running")))
    assert not again.image.is_alive(1)
    assert again.partition().leader == 2, "the others are here: nobody else is waited for"
    assert again.partition().isr == [2, 3]


def test_announced_new_incarnation_means_that_the_old_one_has_ended(p: Playbook) -> None:
    again = restart(p)
    again.receive(SUPERVISOR, living(again, (1, 2, "starting")))
    assert not again.image.is_alive(1)
    assert again.partition().leader == -1


def test_announced_paused_broker_keeps_its_session(p: Playbook) -> None:
    p.receive(SUPERVISOR, living(p, (1, 1, "paused"), (2, 1, "running"), (3, 1, "running")))
    assert p.image.is_alive(1)


def test_restarted_coordinator_brings_a_broker_up_to_date_by_its_heartbeat(p: Playbook) -> None:
    behind = p.core.log.committed_offset - 1
    again = restart(p)
    again.pass_time(200)
    (delta,) = [
        message
        for message in messages(again.heartbeat(1, behind), 1)
        if isinstance(message, bus.MetadataDelta)
    ]
    assert (delta.first_offset, delta.end_offset) == (behind, behind + 1)


def test_broker_that_is_too_far_behind_gets_the_whole_image(p: Playbook) -> None:
    p.core.log.tail_records = 2
    for name in ("u", "v"):
        p.make_topic(name)
    p.pass_time(200)
    answer = only(p.heartbeat(1, 1), bus.Registered)
    assert answer.broker_epoch == p.epochs[1]
    assert answer.metadata_offset == p.core.log.committed_offset


def test_lost_delta_is_sent_again_but_not_one_that_is_on_its_way(p: Playbook) -> None:
    before = p.core.log.committed_offset
    p.make_topic("u")
    assert not [m for m in messages(p.heartbeat(1, before), 1) if isinstance(m, bus.MetadataDelta)]
    p.pass_time(1000)
    delta = only(p.heartbeat(1, before), bus.MetadataDelta)
    assert delta.first_offset == before


def test_broker_ahead_of_the_metadata_log_must_register_again(p: Playbook) -> None:
    sent = p.heartbeat(1, p.core.log.end_offset + 5)
    assert only(sent, bus.HeartbeatReply).unknown_epoch


# --- a cluster that comes back --------------------------------------------------------------


def frozen_and_restarted(p: Playbook) -> Playbook:
    """`down` froze the cluster: all are unfenced in the image, and none of them lives."""
    p.receive(SUPERVISOR, bus.Freeze())
    for id in (1, 2, 3):
        p.die(id)
    return restart(p)


def test_cluster_that_was_frozen_comes_back_with_its_isrs_and_preferred_leaders(
    p: Playbook,
) -> None:
    again = frozen_and_restarted(p)
    epoch = p.partition().leader_epoch
    for id in (3, 2, 1):
        again.register(id, 2)
        assert again.partition().leader_epoch >= epoch
    for id in (3, 2):
        again.heartbeat(id)
        assert again.partition().leader == -1, "not all are here"
    again.heartbeat(1)
    state = again.partition()
    assert (state.leader, state.isr, state.elr) == (1, [1, 2, 3], [])
    assert state.leader_epoch == epoch + 2


def test_start_waits_200_ms_for_those_who_do_not_come(p: Playbook) -> None:
    again = frozen_and_restarted(p)
    again.pass_time(2000)
    again.receive(
        SUPERVISOR, living(again, (1, 2, "starting"), (2, 2, "starting"), (3, 2, "starting"))
    )
    again.join(2)
    again.pass_time(199)
    assert again.partition().leader == -1
    again.pass_time(1)
    state = again.partition()
    assert (state.leader, state.isr, state.elr) == (2, [2], [1, 3])


def test_start_does_not_wait_for_those_who_are_known_not_to_come(p: Playbook) -> None:
    again = frozen_and_restarted(p)
    again.receive(
        SUPERVISOR, living(again, (1, 1, "stopped"), (2, 2, "starting"), (3, 1, "stopped"))
    )
    again.join(2)
    assert again.partition().leader == 2


def test_start_without_a_sign_of_life_goes_on_waiting_and_drops_no_candidate(
    p: Playbook,
) -> None:
    again = frozen_and_restarted(p)
    again.pass_time(60_000)
    state = again.partition()
    assert (state.leader, state.isr) == (-1, [1, 2, 3])
    again.join(2)
    again.pass_time(200)
    state = again.partition()
    assert (state.leader, state.isr, state.elr) == (2, [2], [1, 3])


def test_late_brokers_of_a_start_are_all_eligible_not_only_the_last(p: Playbook) -> None:
    again = frozen_and_restarted(p)
    again.receive(
        SUPERVISOR, living(again, (1, 2, "starting"), (2, 2, "starting"), (3, 2, "starting"))
    )
    again.register(1, 2)
    again.pass_time(200)
    assert (again.partition().isr, again.partition().elr) == ([], [1, 2, 3])
    again.heartbeat(1)
    assert again.partition().leader == 1


def test_lossy_broker_of_a_start_keeps_no_isr_place(p: Playbook) -> None:
    again = frozen_and_restarted(p)
    again.join(1, restart="lossy")
    again.join(2, 3)
    state = again.partition()
    assert (state.leader, state.isr) == (2, [2, 3])


def test_new_incarnation_never_leads_in_the_epoch_of_its_predecessor(p: Playbook) -> None:
    again = frozen_and_restarted(p)
    again.register(1, 2)
    state = again.partition()
    assert state.leader == -1
    assert state.leader_epoch == p.partition().leader_epoch + 1


def test_coordinator_that_stood_still_fences_nobody_for_it(p: Playbook) -> None:
    """The timer fires first, the heartbeats that waited come after it."""
    p.now_ms += 60_000
    p.run(StoodStill(60_000))
    p.pass_time(2000)
    p.heartbeats()
    assert all(p.image.is_alive(id) for id in (1, 2, 3))


# --- producer ids and images ----------------------------------------------------------------


def test_blocks_of_producer_ids_never_overlap_also_across_restarts(p: Playbook) -> None:
    def block(p: Playbook) -> bus.ProducerIdBlock:
        return only(p.receive(1, bus.AllocateProducerIds(p.epochs[1], 1)), bus.ProducerIdBlock)

    first, second = block(p), block(p)
    assert (first.first, first.count, second.first) == (0, 1000, 1000)
    assert block(restart(p)).first == 2000
    stale = p.receive(1, bus.AllocateProducerIds(p.epochs[1] + 1, 1))
    assert only(stale, bus.ProducerIdBlock).error == ErrorCode.STALE_BROKER_EPOCH


def test_control_connection_sees_the_committed_image(p: Playbook) -> None:
    (send,) = p.receive(-7, telling.DescribeImage(4), epoch=0)
    assert send.message == telling.Image(4, p.core.log.committed_offset)
    assert r.decode_all(send.payload[0]) == p.image.records()


def test_registration_is_not_answered_before_it_is_durable() -> None:
    p = Playbook()
    p.holds_syncs = True
    assert p.register(1) == []
    p.sync()
    (send,) = [send for send in p.sent if isinstance(send.message, bus.Registered)]
    assert send.target == 1


def test_two_brokers_cannot_have_one_address() -> None:
    p = Playbook()
    p.join(1)
    p.incarnations[2] = 1
    message = bus.Register(2, 1, "127.0.0.1", 9091, "ipc://b", "clean", [])
    assert only(p.receive(2, message), bus.RegisterRefused).incarnation == 1


def test_asked_to_stop_it_has_stopped_once_all_is_durable(p: Playbook) -> None:
    p.holds_syncs = True
    p.make_topic("u")
    p.receive(SUPERVISOR, bus.Stop(False))
    assert not p.core.has_stopped
    p.sync()
    assert p.core.has_stopped
