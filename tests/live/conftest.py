"""One real cluster for all live tests, and a topic for each.

A test may kill and pause brokers: after each, what does not run is started again, and the next
test begins with a healthy cluster.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from kcluster.client.control import BusClient, ControlClient
from kcluster.client.find import connect
from kcluster.client.requests import any_broker
from kcluster.client.snapshot import ClusterSnapshot, ask_snapshot
from kcluster.processes.launch import Launch
from kcluster.wire import bus
from kcluster.wire import control as c
from kcluster.wire.messages import create_topics
from tests.live import killing
from tests.live.killing import Brokers, KclusterBrokers, PeerBrokers

HEALTHY_S = 30
POLL_S = 0.01
CONSUMER_GROUP_OPTIONS = {"group.consumer.heartbeat.interval.ms": "500"}
"""As often as the members of other groups are heard. Their sessions stay as long as they are:
librdkafka may wait for 10 s before it connects to a broker again."""


class LiveCluster:
    """A real cluster of this test run; its directory is deleted at the end."""

    def __init__(
        self,
        name: str,
        brokers: int = 3,
        options: dict[str, str] | None = None,
        racks: list[str] | None = None,
    ) -> None:
        self.name = name
        self._launch = Launch()
        up = c.Up(
            name, brokers=brokers, is_any_port=True, is_ephemeral=True, options=options, racks=racks
        )
        self._launch.write(msgspec.json.encode(up))
        self.bootstrap = self._read_until_up()
        self.control: ControlClient = connect(name)
        self.servers = BusClient()
        self._topics = itertools.count(1)

    def _read_until_up(self) -> str:
        decoder = msgspec.json.Decoder(c.Line)
        for text in self._launch.lines():
            line = decoder.decode(text)
            assert isinstance(line, c.Progress), line
            if line.event == "up":
                return line.bootstrap
        raise AssertionError("the supervisor ended before the cluster was up")

    # --- looking --------------------------------------------------------------------------

    def status(self) -> ClusterSnapshot:
        return ask_snapshot(self.control, self.servers)

    @property
    def directory(self) -> Path:
        return Path(self.control.describe().directory)

    def states(self) -> list[bus.ProcessState]:
        return [info.state for info in self.control.describe().processes]

    def leader(self, topic: str, partition: int = 0) -> int:
        return next(
            found.leader
            for found in self.status().partitions
            if (found.topic, found.partition) == (topic, partition)
        )

    def wait(
        self, is_true: Callable[[ClusterSnapshot], bool], what: str, timeout_s: float = HEALTHY_S
    ) -> ClusterSnapshot:
        """Until the status says so; fails loudly when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not is_true(status := self.status()):
            assert time.monotonic() < deadline, f"not in time: {what}; {status.problems}"
            time.sleep(POLL_S)
        return status

    def wait_healthy(self) -> ClusterSnapshot:
        return self.wait(lambda status: status.is_healthy, "healthy")

    # --- doing ----------------------------------------------------------------------------

    def topic(
        self,
        name: str = "",
        *,
        partitions: int = 1,
        replicas: int = -1,
        configs: dict[str, str] | None = None,
    ) -> str:
        """A new topic; its name."""
        name = name or f"topic-{next(self._topics)}"
        broker = any_broker(self.states(), self.servers, self.name)
        response = broker.request(
            create_topics.CreateTopicsRequest(
                topics=[
                    create_topics.CreatableTopic(
                        name=name,
                        num_partitions=partitions,
                        replication_factor=replicas,
                        configs=[
                            create_topics.CreatableTopicConfig(name=key, value=value)
                            for key, value in (configs or {}).items()
                        ],
                    )
                ]
            )
        )
        assert response.topics[0].error_code == 0, response.topics[0].error_message
        return name

    def kill(self, *ids: int) -> list[c.Moment]:
        """SIGKILL, all at once; they stay dead. 0 is the coordinator."""
        return self.control.command(c.Kill(list(ids))).moments

    def start(self, *ids: int) -> list[c.Moment]:
        return self.control.command(c.Start(list(ids))).moments

    def stop(self, *ids: int) -> None:
        self.control.command(c.Stop(list(ids)))

    def pause(self, *ids: int) -> None:
        self.control.command(c.Pause(list(ids)))

    def resume(self, *ids: int) -> None:
        self.control.command(c.Resume(list(ids)))

    def heal(self) -> None:
        """Everything runs again and every replica is in sync."""
        states = self.states()
        if paused := [state.id for state in states if state.state == "paused"]:
            self.resume(*paused)
        if ended := [state.id for state in states if state.state in ("stopped", "killed")]:
            self.start(*sorted(ended))
        self.wait_healthy()

    def close(self) -> None:
        self.servers.close()
        self.control.close()
        self._launch.write(b"stop")
        self._launch.write(b"kill")
        for _ in self._launch.lines():
            pass
        self._launch.wait(HEALTHY_S)
        self._launch.let_go()


@pytest.fixture(scope="session")
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the clusters of this test run are recorded, apart from the user's own, whose config
    file is not read either."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KCLUSTER_HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        yield home


@pytest.fixture(scope="session")
def shared_cluster(live_home: Path) -> Iterator[LiveCluster]:
    cluster = LiveCluster("live", options=CONSUMER_GROUP_OPTIONS)
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared_cluster: LiveCluster) -> Iterator[LiveCluster]:
    """Three brokers, healthy; shared, so use a topic of your own."""
    yield shared_cluster
    shared_cluster.heal()


@pytest.fixture
def topic(cluster: LiveCluster, request: pytest.FixtureRequest) -> str:
    """One partition, three replicas, named after the test."""
    name = re.sub(r"[^a-zA-Z0-9._-]", "-", request.node.name)[:80]
    return cluster.topic(f"{name}-{time.time_ns() % 10**9}")


@pytest.fixture
def group_brokers(request: pytest.FixtureRequest) -> Brokers:
    """The shared cluster's, or those of KCLUSTER_TEST_BOOTSTRAP and KCLUSTER_TEST_PEER_SCRIPT."""
    brokers: Brokers
    if given := os.environ.get("KCLUSTER_TEST_BOOTSTRAP"):
        script = os.environ.get("KCLUSTER_TEST_PEER_SCRIPT")
        if script is None:
            pytest.skip("KCLUSTER_TEST_PEER_SCRIPT has to kill the brokers of that cluster")
        brokers = PeerBrokers(given, script)
    else:
        cluster = request.getfixturevalue("cluster")
        brokers = KclusterBrokers(cluster.bootstrap, cluster.control)
    if not killing.has_groups(brokers.bootstrap):
        pytest.skip("the brokers serve no consumer groups yet: ApiVersions lacks their APIs")
    return brokers


@pytest.fixture
def own_cluster(live_home: Path) -> Iterator[Callable[..., LiveCluster]]:
    """Start clusters of one's own: `own_cluster("five", brokers=5)`."""
    started: list[LiveCluster] = []

    def start(name: str, **wanted: object) -> LiveCluster:
        made = LiveCluster(name, **wanted)  # type: ignore[arg-type]
        started.append(made)
        return made

    yield start
    for made in started:
        made.close()
