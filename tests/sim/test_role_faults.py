"""Faults at roles: messages of one kind are lost or late, and leaders change while they live."""

from __future__ import annotations

from random import Random

import pytest

from kcluster.sim.network import Frames, Loss, Network
from kcluster.sim.role_faults import KINDS_OF_MESSAGES, ON_ROLES
from kcluster.sim.scheduler import Scheduler
from kcluster.sim.simulation import Simulation
from kcluster.wire import bus


class Wire:
    """A network of which every message is kept, in the order of its arrival."""

    def __init__(self, *losses: Loss) -> None:
        self.got: list[tuple[int, bus.Message]] = []
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, Random(1), self._deliver, losses=list(losses))

    def _deliver(self, target: int, frames: Frames) -> bool:
        self.got.append((target, bus.decode(frames.envelope).message))
        return True

    def send(self, source: int, target: int, message: bus.Message) -> None:
        self.network.send((source, 1), (target, 1), message)

    def arrive(self) -> list[tuple[int, bus.Message]]:
        self.scheduler.run(10_000_000, steps_max=1000)
        return self.got


HEARTBEAT = bus.Heartbeat(7, 8)
ACK = bus.Ack([])


def test_one_kind_of_message_is_lost_on_one_link_and_no_other() -> None:
    wire = Wire(Loss(("Ack",), 1, 2))
    wire.send(1, 2, ACK)
    wire.send(1, 2, HEARTBEAT)
    wire.send(1, 3, ACK)
    wire.send(2, 1, ACK)
    assert sorted(target for target, _ in wire.arrive()) == [1, 2, 3]
    assert (2, HEARTBEAT) in wire.got


def test_a_loss_without_ends_is_one_on_all_links_to_a_target() -> None:
    wire = Wire(Loss(("Ack", "Push"), None, 2))
    for source in (1, 3):
        wire.send(source, 2, ACK)
        wire.send(source, 2, bus.Push([]))
    assert wire.arrive() == []


def test_what_is_late_is_overtaken_and_holds_up_nobody() -> None:
    wire = Wire(Loss(("Ack",), 1, 2, (100_000, 200_000)))
    wire.send(1, 2, ACK)
    wire.send(1, 2, HEARTBEAT)
    assert wire.arrive() == [(2, HEARTBEAT), (2, ACK)]


def test_the_kinds_of_messages_are_those_of_the_bus() -> None:
    assert all(hasattr(bus, kind) for kind in KINDS_OF_MESSAGES)


@pytest.mark.parametrize("kind", ON_ROLES)
def test_a_cluster_survives_nothing_but_one_kind_of_fault(kind: str) -> None:
    simulation = Simulation(5, kinds=(kind,), fault_ms=6000)
    story = simulation.run()
    assert story.is_good, str(story)
    assert story.faults[kind] > 0
    assert simulation.cluster.network.losses == []


def test_leaders_that_are_deposed_live_on() -> None:
    simulation = Simulation(8, kinds=("depose",), fault_ms=6000)
    assert simulation.run().is_good
    states = [simulation.watch.state(tp) for tp in simulation.partitions()]
    assert max(state.leader_epoch for state in states if state is not None) > 0
    assert not any(" ended " in line for line in simulation.cluster.journal)
