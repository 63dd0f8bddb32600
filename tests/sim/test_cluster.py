"""The simulated cluster, with toy cores: what reaches whom, when, and what a death ends."""

import pytest

from kcluster.core.turn import Append, Received, StoodStill, Sync, Synced, Timer
from kcluster.sim.cluster import SimCluster, StepLimit
from kcluster.wire import bus


class Tick(Timer):
    pass


class Toy:
    """Counts what it gets; says to broker 2 what it is told to."""

    def __init__(self, birth):
        self.birth = birth
        self.got = []
        self.events = []
        self.order = []

    def handle(self, event, turn):
        self.events.append(event)
        if isinstance(event, Received):
            self.got.append((event.source, event.source_epoch, event.message))
            if isinstance(event.message, bus.KafkaRequest):
                turn.send(event.source, bus.KafkaResponse(), event.payload)
        if isinstance(event, Tick):
            turn.send(2, bus.Heartbeat(7, 8))
        if isinstance(event, Sync):
            turn.disk.append(Append("f", 0, self, [b"abc"], 3))
            turn.disk.append(event)

    def written(self, turn, append):
        self.order.append("written")

    def write_failed(self, turn, append, errno):
        self.order.append(errno)

    def settle(self, turn):
        self.order.append("settle")

    def disk_failed(self, turn, operation, errno):
        self.order.append(errno)


def toys(seed=1, **options):
    cluster = SimCluster(seed, make_broker=Toy, make_controller=Toy, **options)
    cluster.start_all()
    cluster.run(10)
    return cluster


def heartbeats(core):
    return [g for g in core.got if isinstance(g[2], bus.Heartbeat)]


def test_a_message_arrives_as_another_object_with_the_epoch_of_its_sender():
    cluster = toys()
    cluster.processes[1].post(Tick())
    cluster.run(10)
    assert heartbeats(cluster.processes[2].core) == [
        (1, cluster.processes[1].incarnation, bus.Heartbeat(7, 8))
    ]


def test_what_was_queued_for_the_dead_is_dropped_by_their_successor():
    cluster = toys()
    cluster.processes[1].post(Tick())
    cluster.kill(2)
    cluster.run(1)
    cluster.start(2)
    cluster.run(50)
    assert not heartbeats(cluster.processes[2].core)
    assert cluster.network.counts.get("inherited", 0) >= 1


def test_a_death_is_told_with_its_incarnation():
    cluster = toys()
    dead = cluster.processes[2].incarnation
    cluster.kill(2)
    cluster.run(10)
    assert (bus.Died(2, dead)) in [g[2] for g in cluster.processes[1].core.got]


def test_a_paused_process_gets_nothing_and_is_told_first_that_it_stood_still():
    cluster = toys()
    core = cluster.processes[2].core
    cluster.pause(2)
    count = len(core.events)
    cluster.processes[1].post(Tick())
    cluster.run(4000)
    assert len(core.events) == count
    cluster.resume(2)
    cluster.run(10)
    assert isinstance(core.events[count], StoodStill)
    assert heartbeats(core)


def test_a_cut_is_one_way():
    cluster = toys()
    cluster.cut(1, 2)
    cluster.processes[1].post(Tick())
    cluster.run(10)
    assert not heartbeats(cluster.processes[2].core)
    cluster.heal()
    cluster.processes[1].post(Tick())
    cluster.run(10)
    assert heartbeats(cluster.processes[2].core)


def test_a_sync_comes_back_later_and_not_to_a_successor():
    cluster = toys()
    core = cluster.processes[1].core
    cluster.processes[1].run([Sync("f", 5)])
    assert core.order == ["settle"] * (len(core.order) - 2) + ["written", "settle"]
    cluster.run(10)
    assert Synced("f", 5) in core.events
    cluster.processes[1].run([Sync("f", 6)])
    cluster.kill(1)
    cluster.start(1)
    cluster.run(20)
    assert not any(isinstance(e, Synced) for e in cluster.processes[1].core.events)


def test_a_process_can_die_between_two_operations_of_a_turn():
    cluster = toys()
    cluster.kill_at(1, 2)
    cluster.processes[1].run([Sync("f", 5)])
    assert cluster.processes[1].state == "killed"
    assert cluster.processes[1].disk.read("f", 0, 9) == b"abc"
    assert cluster.processes[1].restart == "crash"


def test_endless_talk_is_an_error():
    class Chatter(Toy):
        def handle(self, event, turn):
            turn.send(self.birth.id, bus.Heartbeat(1, 1))

    cluster = SimCluster(1, make_broker=Chatter, make_controller=Toy, steps_max=5000)
    cluster.start_all()
    with pytest.raises(StepLimit):
        cluster.run(10_000)


def test_the_same_seed_tells_the_same_story():
    def story(seed):
        cluster = toys(seed)
        cluster.network.weather.drop = 0.3
        for _ in range(50):
            cluster.processes[1].post(Tick())
            cluster.run(3)
        return len(heartbeats(cluster.processes[2].core)), cluster.scheduler.steps

    assert story(5) == story(5)
    assert story(5) != story(6)
