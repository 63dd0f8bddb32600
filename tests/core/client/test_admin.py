from __future__ import annotations

from typing import Any

import pytest

from kcluster.core.client import group_operations, operations
from kcluster.core.client.admin import AdminCore, Operation, Running
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.messages import create_topics, find_coordinator, metadata
from kcluster.wire.records import Record
from tests.core.client.cluster_of_lists import BROKERS, ClusterOfLists

ORDERS = [TopicPartition("orders", index) for index in range(3)]


class AdministeredLists(ClusterOfLists):
    """That also makes topics, at one broker only, as Kafka's did before brokers passed it on."""

    controller = 2
    is_slow = 0
    """So often a coordinator is not there yet."""

    def _MetadataRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        response = super()._MetadataRequest(broker, request)
        response.controller_id = self.controller
        return response

    def _CreateTopicsRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        [topic] = request.topics
        code = ErrorCode.NONE if broker == self.controller else ErrorCode.NOT_CONTROLLER
        if not code:
            self.create(topic.name, topic.num_partitions)
        return create_topics.CreateTopicsResponse(
            topics=[
                create_topics.CreatableTopicResult(
                    name=topic.name, error_code=code, num_partitions=topic.num_partitions
                )
            ]
        )

    def _FindCoordinatorRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        self.is_slow -= 1
        code = ErrorCode.COORDINATOR_NOT_AVAILABLE if self.is_slow >= 0 else ErrorCode.NONE
        return find_coordinator.FindCoordinatorResponse(
            coordinators=[find_coordinator.Coordinator(node_id=3, error_code=code)]
        )


def run(cluster: ClusterOfLists, operation: Operation[Any], timeout_ms: int = 5_000) -> Any:
    core = AdminCore(Exchange(list(BROKERS), Patience(request_ms=500)))
    running: Running[Any] = core.start(operation, cluster.now_ms, timeout_ms)
    for _ in range(10_000):
        if running.is_done:
            break
        cluster.step(core)
    assert running.is_done
    if running.error is not None:
        raise running.error
    return running.result


def test_an_order_reaches_the_controller_whoever_is_asked_first() -> None:
    cluster = AdministeredLists()
    created = run(cluster, operations.create_topic("orders", 3))
    assert (created.name, created.partitions) == ("orders", 3)
    assert set(cluster.logs) == set(ORDERS)


@pytest.mark.parametrize("seed", range(10))
def test_each_leader_is_asked_and_asked_again_where_it_has_moved(seed: int) -> None:
    cluster = AdministeredLists(seed)
    cluster.create("orders", 3)
    cluster.loss = 0.2
    for tp in ORDERS[:2]:
        cluster.logs[tp].add(Record(b"1"), Record(b"2"))
    cluster.kill(1)
    found = run(cluster, operations.offsets(ORDERS), timeout_ms=100_000)
    assert list(found) == ORDERS
    assert [each.offset for each in found.values()] == [2, 2, 0]


def test_what_is_not_there_is_said_at_once() -> None:
    cluster = AdministeredLists()
    cluster.create("orders", 3)
    for operation, why in (
        (operations.offsets([TopicPartition("orders", 3)]), "there is no partition orders-3"),
        (operations.offsets([TopicPartition("clicks", 0)]), "there is no topic clicks"),
        (operations.topics(["clicks"]), "there is no topic clicks"),
    ):
        with pytest.raises(ApiError, match=why):
            run(cluster, operation)
    assert cluster.now_ms < 500


def test_time_is_over_with_the_reason_for_the_waiting() -> None:
    cluster = AdministeredLists()
    cluster.create("orders", 1)
    cluster.logs[ORDERS[0]].leader = -1
    with pytest.raises(ApiError, match="nobody leads orders-0") as late:
        run(cluster, operations.offsets(ORDERS[:1]))
    assert late.value.code is ErrorCode.LEADER_NOT_AVAILABLE
    assert 5_000 <= cluster.now_ms < 6_000
    cluster.down.update(BROKERS)
    with pytest.raises(ApiError) as silent:
        run(cluster, operations.cluster())
    assert silent.value.code is ErrorCode.REQUEST_TIMED_OUT


def test_a_coordinator_that_is_not_there_yet_is_waited_for() -> None:
    cluster = AdministeredLists()
    cluster.is_slow = 5
    assert run(cluster, group_operations.coordinator("billing")) == 3


def test_nobody_waits_for_what_was_forgotten() -> None:
    cluster = AdministeredLists()
    core = AdminCore(Exchange(list(BROKERS)))
    running = core.start(operations.cluster(), 0)
    core.forget(running)
    assert running.is_done
    cluster.step(core)
    assert core.next_deadline() is None
    assert isinstance(cluster.asked[0].request, metadata.MetadataRequest)
