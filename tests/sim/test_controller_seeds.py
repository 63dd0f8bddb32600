"""The controller under faults, with members that do nothing but register, beat, and wish for ISRs.

They have no logs, so that what is at stake is the metadata: one image for each offset, no
promise forgotten, compare-and-set, sessions.
"""

from random import Random

import pytest

from kcluster.config import Settings
from kcluster.core.controller.controller import ControllerCore
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Received, StoodStill, Timer
from kcluster.model import COORDINATOR
from kcluster.sim.cluster import SimCluster
from kcluster.sim.faults import Faults
from kcluster.sim.watch import Watch
from kcluster.wire import bus
from kcluster.wire.message import encode
from kcluster.wire.messages import create_topics as ct

KINDS = ("kill", "kill in turn", "kill in turn", "pause", "cut", "isolate", "weather", "weather",
         "coordinator", "coordinator", "power")  # fmt: skip


class Beat(Timer):
    pass


class Member:
    """A broker without partitions: what the controller hears from one."""

    def __init__(self, birth):
        self.birth = birth
        self.random: Random = birth.random
        self.image = ClusterImage()
        self.replicas = {}
        self.epoch = -1
        self.heard_epoch = -1
        self.promises: list[tuple[int, bytes, int]] = []
        self.is_beating = False
        self.requests = 0

    def handle(self, event, turn):
        match event:
            case Received(message=bus.Registered() as told) if (
                told.incarnation == self.birth.incarnation
                and told.metadata_offset >= self.image.next_offset
            ):
                self.image = ClusterImage()
                self.apply(event.payload[0])
                self.image.next_offset = told.metadata_offset
                self.epoch = told.broker_epoch
                self.beat(turn)
            case Received(message=bus.MetadataDelta() as told) if self.epoch >= 0:
                behind = self.image.next_offset - told.first_offset
                if behind >= 0 and told.end_offset > self.image.next_offset:
                    self.apply(event.payload[0], behind)
                    self.image.next_offset = told.end_offset
                    self.beat(turn)
            case Received(message=bus.HeartbeatReply() as told):
                if told.unknown_epoch and told.broker_epoch == self.epoch:
                    self.epoch = -1
            case Received(message=bus.PartitionAltered() as told):
                for outcome in told.outcomes:
                    if not outcome.error:
                        self.promises.append(
                            (outcome.partition_epoch, outcome.topic_id, outcome.partition)
                        )
            case Beat():
                self.is_beating = False
                self.beat(turn)
                self.wish(turn)
            case StoodStill():
                pass

    def apply(self, payload, skip=0):
        for record in r.decode_all(payload)[skip:]:
            self.image.replay(record)

    def beat(self, turn):
        if self.epoch < 0:
            register = bus.Register(
                self.birth.id, self.birth.incarnation, "h", self.birth.id, self.birth.endpoint,
                self.birth.restart, [],
            )  # fmt: skip
            turn.send(COORDINATOR, register)
        else:
            turn.send(COORDINATOR, bus.Heartbeat(self.epoch, self.image.next_offset))
        if not self.is_beating:
            self.is_beating = True
            turn.after(300, Beat())

    def wish(self, turn):
        """An ISR at random for what it leads, and now and then a topic."""
        if self.epoch < 0:
            return
        self.requests += 1
        if self.random.random() < 0.1 and len(self.image.topics) < 4:
            name = f"t{self.random.randint(1, 4)}"
            request = ct.CreateTopicsRequest(
                topics=[ct.CreatableTopic(name=name, num_partitions=2, replication_factor=3)]
            )
            forward = bus.Forward(self.requests, 19, 7, "m", 3000)
            turn.send(COORDINATOR, forward, [encode(request, 7)])
        changes = []
        for topic in self.image.topics.values():
            for state in topic.partitions.values():
                if state.leader == self.birth.id and self.random.random() < 0.5:
                    others = [id for id in state.replicas if id != self.birth.id]
                    isr = [self.birth.id, *self.random.sample(others, self.random.randint(0, 2))]
                    epochs = [self.image.brokers[id].broker_epoch for id in isr]
                    changes.append(
                        bus.IsrChange(
                            topic.id,
                            state.partition,
                            state.leader_epoch,
                            state.partition_epoch,
                            isr,
                            epochs,
                        )
                    )
        if changes:
            turn.send(COORDINATOR, bus.AlterPartition(self.epoch, self.requests, changes))

    def settle(self, turn):
        if not self.is_beating:
            self.beat(turn)

    def disk_failed(self, turn, operation, errno): ...


def make_controller(birth):
    return ControllerCore(
        birth.incarnation, birth.files, Settings(birth.settings), birth.random, (1, 2, 3)
    )


@pytest.mark.parametrize("seed", range(1, 21))
def test_what_the_controller_told_anybody_stays_true(seed):
    settings = {"broker.session.timeout.ms": "1500", "min.insync.replicas": "2"}
    cluster = SimCluster(
        f"controller {seed}", make_broker=Member, make_controller=make_controller, settings=settings
    )
    watch = Watch(cluster)
    cluster.start_all()
    faults = Faults(cluster, kinds=KINDS)
    faults.begin()
    cluster.run(15_000)
    faults.heal()

    def converged():
        core = cluster.processes[COORDINATOR].core
        members = [cluster.processes[id].core for id in cluster.broker_ids]
        return (
            core is not None
            and core.log.committed_offset == core.log.end_offset
            and len(core.image.alive()) == 3
            and all(member.image.next_offset == core.log.end_offset for member in members)
            and all(
                state.leader > 0
                for topic in core.image.topics.values()
                for state in topic.partitions.values()
            )
        )

    cluster.run(3000)
    for id in cluster.broker_ids:
        # Nobody wishes for anything any more.
        cluster.processes[id].core.wish = lambda turn: None
    cluster.run_until(converged, 10_000, "all have the same image and every partition leads")
    assert watch.ledger.checks > 50
    core = cluster.processes[COORDINATOR].core
    states = {topic.id: topic.partitions for topic in core.image.topics.values()}
    for id in cluster.broker_ids:
        for partition_epoch, topic_id, partition in cluster.processes[id].core.promises:
            assert states[topic_id][partition].partition_epoch >= partition_epoch
