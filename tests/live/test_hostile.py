"""Hostile bytes at real processes: each input is answered as it must be, and others are served.

With figures, thousands of connections and other brokers: `python -m tests.live.hostile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kcluster.bench.connection import Connection
from kcluster.wire.messages.metadata import MetadataRequest, MetadataResponse
from tests.live import hostile_bus, hostile_frames
from tests.live.conftest import LiveCluster
from tests.live.hostile import Siege, besiege
from tests.live.hostile_frames import INPUTS, Target
from tests.processes.conftest import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

CONNECTIONS_MAX = 350
QUEUED_MIB = 64
PEAK_MIB = 320
"""Of a broker that may hold 64 MiB of requests: these twice, since buffers double; what one batch
becomes, twice (16 MiB); a bound for answers that are not read is not reached here; and the rest."""
LASTING_S = 0.5


@pytest.fixture(scope="module")
def besieged(live_home: Path) -> Iterator[LiveCluster]:
    options = {
        "max.connections": str(CONNECTIONS_MAX),
        "queued.max.request.bytes": str(QUEUED_MIB << 20),
    }
    cluster = LiveCluster("besieged", options=options)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def siege(besieged: LiveCluster) -> Iterator[Siege]:
    pids = [state.pid for state in besieged.states() if state.id > 0]
    with besiege(besieged.bootstrap, pids, connections=200, slow=200, replicas=3) as siege:
        yield siege
    assert [state.pid for state in besieged.states() if state.id > 0] == pids, "nobody died"


@pytest.fixture(scope="module")
def begun(siege: Siege) -> Iterator[Target]:
    """Connections that begin a frame before all else is tried, and never end it."""
    target = Target(siege.target.address, siege.target.topic, siege.target.compacted, 20)
    hostile_frames.half_open_small(target)
    yield target
    target.let_go()


@pytest.mark.parametrize("name", INPUTS)
def test_is_answered_as_it_must_be(siege: Siege, begun: Target, name: str) -> None:
    lasting_s = LASTING_S if INPUTS[name].is_lasting else 0  # else again and again
    found = siege.look(name, INPUTS[name], quiet_s=0, lasting_s=lasting_s)
    assert not found["unexpected"], found
    assert found["is_served"] and found["is_served_after"], found
    assert max(found["peak_mib"]) < PEAK_MIB, found


def test_connections_beyond_the_bound_are_refused_and_those_below_are_served(siege: Siege) -> None:
    target = siege.target
    served = Connection(target.address)
    try:
        for _ in range(CONNECTIONS_MAX + 50):
            target.hold()
        wait_until(lambda: hostile_frames.states(target)["closed"] >= 50, "refused")
        for _ in range(10):
            assert served.ask(MetadataRequest(topics=[]), MetadataResponse).brokers
    finally:
        served.close()
        target.let_go()
    assert siege.beside.await_taken(3)


def test_strangers_on_the_bus_are_not_heard(besieged: LiveCluster, siege: Siege) -> None:
    before = besieged.states()
    siege.memory.reset()
    thrown = hostile_bus.throw_at_all(before[0].endpoint)
    assert len(thrown) == len(before) + 2, "the supervisor has two sockets"
    status = besieged.wait_healthy()
    assert besieged.states() == before, status.problems
    assert hostile_bus.IMPOSTOR not in [broker.id for broker in status.brokers]
    assert siege.beside.await_taken(3)


def test_a_first_frame_that_does_not_end_in_time_is_cut_off(begun: Target) -> None:
    wait_until(lambda: hostile_frames.states(begun)["closed"] == len(begun.held), "cut off")
