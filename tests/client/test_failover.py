"""Following a kill when events come, are missed, or do not come at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from kcluster.client import failover
from kcluster.client.control import BusClient, ControlClient
from kcluster.client.failover import Failover
from kcluster.client.timeline import Timeline
from kcluster.core import traces as t
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.wire import bus
from kcluster.wire import control as c
from kcluster.wire.events import ClusterEvent
from tests.client.test_timeline import EPOCHS, fencing, image, returning
from tests.client.told import Told


class FakeSupervisor:
    """Kills broker 1 at 1000, and tells `batches` of events, then nothing."""

    def __init__(self, batches: list[list[ClusterEvent]]) -> None:
        self._batches = batches

    def states(self) -> list[bus.ProcessState]:
        return [bus.ProcessState(1, 1, "", 0, "killed")]

    def command(self, command: c.Kill) -> c.Done:
        moments = [
            c.Moment(name, 1, 1, int((1_000_000 + at) * 1e6))
            for name, at in (("signalled", 1_000), ("died", 1_003))
        ]
        return c.Done(command.ids, moments)

    def follow(self, after: int, patience_ms: int) -> Iterator[list[ClusterEvent]]:
        yield []
        yield from self._batches
        while True:
            yield []


class Images:
    """What is answered to each look, the last one again and again."""

    def __init__(self, *images: ClusterImage | None) -> None:
        self.looks = 0
        self._images = images

    def __call__(self, servers: object, states: object) -> ClusterImage | None:
        self.looks += 1
        return self._images[min(self.looks, len(self._images)) - 1]


@pytest.fixture
def told() -> Told:
    told = Told()
    told.killed(1_000, 1)
    fencing(told, 1_005)
    returning(told, 2_100)
    return told


def follow(
    monkeypatch: pytest.MonkeyPatch,
    batches: list[list[ClusterEvent]],
    images: Images,
    until: str = "recovered",
    timeout_ms: int = 10_000,
) -> Timeline:
    monkeypatch.setattr(failover, "read_image", images)
    fake = cast(ControlClient, FakeSupervisor(batches))
    follows = Failover(fake, fake, cast(BusClient, None))
    return follows.kill(c.Kill([1]), until, timeout_ms)


def test_the_image_is_asked_for_once_where_all_is_told(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    images = Images(image())
    timeline = follow(monkeypatch, [[event] for event in told.events], images)
    assert (timeline.stage, timeline.ms("recovered"), images.looks) == ("recovered", 1120, 1)


def test_a_hole_in_the_events_makes_it_look_at_the_image(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    now = image(leaders=(2, 2, 3), epoch=5)
    now.replay(r.BrokerRegistered(1, 40, 9, "127.0.0.1", 9091, "ipc://1"))
    now.replay(r.BrokerUnfenced(1, 40))
    images = Images(image(), now)
    batches = [told.events[:2], told.events[2:4], told.events[-1:]]
    timeline = follow(monkeypatch, batches, images)
    assert (timeline.stage, images.looks) == ("recovered", 2)
    assert {step.event for step in timeline.steps() if step.is_late} >= {"registered", "recovered"}


def test_when_time_is_over_it_looks_once_more(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    now = image()
    now.replay(r.BrokerFenced(1, EPOCHS[1]))
    images = Images(image(), now)
    timeline = follow(monkeypatch, [told.events[:2]], images, timeout_ms=0)
    assert (timeline.stage, images.looks) == ("detected", 2)


def test_nobody_may_know_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.killed(1_000, 1)
    told.coordinator(1_006, t.BrokerFenced(1, "died"))
    timeline = follow(monkeypatch, [told.events], Images(None), until="elected")
    assert timeline.ms("elected") == 6


def test_nothing_is_followed_where_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = Images(None)
    timeline = follow(monkeypatch, [], images, until="none")
    assert [step.event for step in timeline.steps()] == ["signalled", "died"]
    assert images.looks == 0
