"""A broker's life: register, heartbeat, fence, unfence, shut down."""

from kcluster.core.metadata import records as r
from kcluster.limits import LIMITS
from kcluster.wire import bus, telling

from .playbook import Playbook, messages, only


def test_registration_is_answered_with_the_image_and_an_epoch_that_is_its_offset() -> None:
    p = Playbook()
    sent = p.register(1)
    answer = only(sent, bus.Registered)
    image = r.decode_all(sent[0].payload[0])
    assert answer.metadata_offset == answer.broker_epoch + 1
    assert [type(record).__name__ for record in image] == ["ClusterCreated", "BrokerRegistered"]
    assert not p.image.is_alive(1)


def test_same_incarnation_registered_again_gets_the_same_epoch() -> None:
    p = Playbook()
    first = only(p.register(1, 4), bus.Registered)
    second = only(p.register(1, 4), bus.Registered)
    assert second.broker_epoch == first.broker_epoch


def test_older_incarnation_is_refused_and_changes_nothing() -> None:
    p = Playbook()
    p.register(1, 4)
    sent = p.register(1, 3)
    assert "incarnation 4" in only(sent, bus.RegisterRefused).reason
    assert p.image.brokers[1].incarnation == 4


def test_broker_is_unfenced_only_when_it_has_applied_its_registration() -> None:
    p = Playbook()
    p.register(1)
    reply = only(p.heartbeat(1, p.epochs[1], nonce=9), bus.HeartbeatReply)
    assert reply.is_fenced and reply.nonce == 9
    reply = only(p.heartbeat(1, p.epochs[1] + 1), bus.HeartbeatReply)
    assert not reply.is_fenced
    assert p.image.is_alive(1)


def test_silent_broker_is_fenced_when_its_session_runs_out_and_not_before() -> None:
    p = Playbook(broker_session_timeout_ms="3000")
    p.join(1, 2)
    p.pass_time(2000)
    p.heartbeat(2)
    p.pass_time(999)
    assert p.image.is_alive(1)
    p.pass_time(1)
    assert not p.image.is_alive(1)
    assert p.image.is_alive(2)


def test_heartbeat_of_an_epoch_that_does_not_hold_is_told_so() -> None:
    p = Playbook()
    p.join(1)
    sent = p.receive(1, bus.Heartbeat(p.epochs[1] + 1, 0, nonce=3))
    reply = only(sent, bus.HeartbeatReply)
    assert reply.unknown_epoch and reply.nonce == 3


def test_death_fences_the_incarnation_it_names_at_once() -> None:
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic()
    p.die(1)
    assert not p.image.is_alive(1)
    assert p.partition().leader == 2


def test_death_of_an_older_incarnation_is_ignored() -> None:
    p = Playbook()
    p.join(1)
    p.join(1)
    p.receive(-1, bus.Died(1, 1))
    assert p.image.is_alive(1)


def test_late_registration_of_a_dead_incarnation_is_ignored() -> None:
    p = Playbook()
    p.receive(-1, bus.Died(1, 5))
    assert p.register(1, 5) == []
    assert 1 not in p.image.brokers


def test_deltas_reach_every_registered_broker_also_a_fenced_one() -> None:
    p = Playbook()
    p.join(1, 2)
    p.register(3)
    start = len(p.sent)
    p.make_topic("t", [1, 2])
    sent = p.sent[start:]
    for id in (1, 2, 3):
        (delta,) = messages(sent, id)
        assert isinstance(delta, bus.MetadataDelta)
        assert delta.end_offset == p.core.log.committed_offset


def test_answers_that_wait_for_a_hanging_disk_are_bounded() -> None:
    p = Playbook()
    p.join(1)
    p.holds_syncs = True
    p.make_topic("t", [1])
    for _ in range(LIMITS.purgatory_requests + 5):
        p.receive(-7, telling.DescribeImage(1))
    assert len(p.core.telling.held) == LIMITS.purgatory_requests
