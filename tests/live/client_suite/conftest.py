"""Ways to a cluster that the whole suite takes, one after the other.

zeromq   a cluster of ours by its name        tcp   the same by its address
kafka    Apache Kafka, at KCLUSTER_TEST_KAFKA (host:port); skipped where there is none
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kcluster.bench.connection import connect_any
from kcluster.client import Admin
from kcluster.client.connect import parse_bootstrap
from kcluster.core.client.exchange import METADATA_VERSION
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kcluster.wire.messages.metadata import MetadataRequest, MetadataRequestTopic

PATIENCE_S = 60
"""Apache Kafka makes the topic of groups with the first of them, which takes some seconds."""

_numbers = itertools.count()


@dataclass
class Way:
    name: str
    where: dict[str, Any]
    """What our client is told."""
    bootstrap: str
    """For stock clients."""
    admin: Admin
    topics: list[str] = field(default_factory=list)

    def topic(self, partitions: int = 1, **configs: str) -> str:
        name = f"suite-{time.time_ns() % 10**10}-{next(_numbers)}"
        self.admin.create_topic(name, partitions, configs=configs)
        self.topics.append(name)
        wait_until(lambda: self._is_ready(name), "the topic has leaders")
        return name

    def wants(self, api: int) -> None:
        """Skips the test where the brokers do not serve this API."""
        with connect_any(parse_bootstrap(self.bootstrap)) as connection:
            served = connection.ask(ApiVersionsRequest(), ApiVersionsResponse, 0)
        if api not in [each.api_key for each in served.api_keys]:
            pytest.skip(f"the brokers do not serve API {api}")

    def _is_ready(self, name: str) -> bool:
        """As every broker says: those of Apache Kafka hear of a topic one after the other."""
        for broker in self.admin.ids():
            topics = self.admin.ask(
                MetadataRequest(
                    topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False
                ),
                broker,
                METADATA_VERSION,
            ).topics
            if topics[0].error_code or not all(
                p.leader_id >= 0 and len(p.isr_nodes) == len(p.replica_nodes)
                for p in topics[0].partitions
            ):
                return False
        return True


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """What is asked again and again waits itself, or the deadline is near."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not in time: {what}"


@pytest.fixture(params=["zeromq", "tcp", "kafka"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    name: str = request.param
    if name == "kafka":
        bootstrap = os.environ.get("KCLUSTER_TEST_KAFKA", "")
        if not bootstrap:
            pytest.skip("KCLUSTER_TEST_KAFKA names no Apache Kafka")
        where: dict[str, Any] = {"where": bootstrap}
    else:
        cluster = request.getfixturevalue("cluster")
        bootstrap = cluster.bootstrap
        where = {"cluster": cluster.name} if name == "zeromq" else {"where": bootstrap}
    with Admin(**where) as admin:
        found = Way(name, where, bootstrap, admin)
        yield found
        if found.topics:
            admin.delete_topics(*found.topics)
