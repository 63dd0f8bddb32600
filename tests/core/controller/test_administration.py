"""ElectLeaders, DescribeQuorum, UpdateFeatures, UnregisterBroker: forwarded by a broker."""

from __future__ import annotations

from typing import Any

import pytest

from kcluster.core.controller.telling import FORWARD_WAIT_MS
from kcluster.core.metadata import features
from kcluster.errors import ErrorCode
from kcluster.model import SUPERVISOR
from kcluster.wire import bus
from kcluster.wire.message import encode
from kcluster.wire.messages import describe_quorum as dq
from kcluster.wire.messages import elect_leaders as el
from kcluster.wire.messages import unregister_broker as ub
from kcluster.wire.messages import update_features as uf
from kcluster.wire.messages.describe_quorum_request import PartitionData, TopicData

from .playbook import Playbook, only
from .test_topics import forward

PREFERRED, UNCLEAN = 0, 1


@pytest.fixture
def p() -> Playbook:
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3], [2, 3, 1])
    return p


# --- ElectLeaders -----------------------------------------------------------------------------


def elect(
    p: Playbook,
    kind: int,
    wanted: list[tuple[str, list[int]]] | None,
    version: int = 2,
) -> dict[tuple[str, int], int]:
    topics = None
    if wanted is not None:
        topics = [el.TopicPartitions(topic=name, partitions=indexes) for name, indexes in wanted]
    request = el.ElectLeadersRequest(election_type=kind, topic_partitions=topics)
    response = forward(p, request, version)
    assert response.error_code == 0
    return {
        (topic.topic, part.partition_id): part.error_code
        for topic in response.replica_election_results
        for part in topic.partition_result
    }


def lose_and_regain(p: Playbook, id: int) -> None:
    """It dies, comes back, and the leaders let it in again."""
    p.die(id)
    p.join(id)
    for index in (0, 1):
        state = p.partition("t", index)
        outcome = p.alter(state.leader, sorted({*state.isr, id}), "t", index)
        assert outcome.error == 0


@pytest.mark.parametrize("version", range(3))
def test_a_preferred_leader_gets_its_partition_back(p: Playbook, version: int) -> None:
    lose_and_regain(p, 1)
    before = p.partition("t", 0)
    assert before.leader == 2
    assert elect(p, PREFERRED, [("t", [0])], version) == {("t", 0): 0}
    after = p.partition("t", 0)
    assert (after.leader, after.leader_epoch) == (1, before.leader_epoch + 1)


def test_who_leads_already_needs_no_election(p: Playbook) -> None:
    needless = ErrorCode.ELECTION_NOT_NEEDED
    assert elect(p, PREFERRED, [("t", [0])]) == {("t", 0): needless}
    assert elect(p, UNCLEAN, [("t", [0])]) == {("t", 0): needless}


def test_all_partitions_are_meant_by_null_and_only_those_in_need_are_answered(p: Playbook) -> None:
    assert elect(p, PREFERRED, None) == {}
    lose_and_regain(p, 1)
    assert elect(p, PREFERRED, None) == {("t", 0): 0}


def test_a_preferred_leader_that_is_not_in_sync_is_not_elected(p: Playbook) -> None:
    p.die(1)
    missing = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    assert elect(p, PREFERRED, None) == {("t", 0): missing}
    assert p.partition("t", 0).leader == 2


def test_an_unclean_election_takes_who_lives_and_says_that_records_may_be_missing(
    p: Playbook,
) -> None:
    p.make_topic("u", [2, 3])
    p.alter(2, [2], "u")
    p.die(2)
    assert p.partition("u").leader == -1
    assert elect(p, PREFERRED, [("u", [0])]) == {("u", 0): ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE}
    assert elect(p, UNCLEAN, [("u", [0])]) == {("u", 0): 0}
    state = p.partition("u")
    assert (state.leader, state.isr, state.recovering) == (3, [3], True)


def test_an_unclean_election_prefers_who_is_eligible(p: Playbook) -> None:
    p.make_topic("u", [2, 3])
    p.alter(2, [2], "u")
    p.die(2)
    p.die(3)
    p.join(2)
    assert p.partition("u").leader == 2 and not p.partition("u").recovering


def test_nobody_is_elected_where_nobody_lives(p: Playbook) -> None:
    p.make_topic("u", [3])
    p.die(3)
    none = ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
    assert elect(p, UNCLEAN, [("u", [0])]) == {("u", 0): none}


def test_unknown_partitions_and_kinds_of_election_are_refused(p: Playbook) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert elect(p, PREFERRED, [("t", [7]), ("gone", [0])]) == {
        ("t", 7): unknown,
        ("gone", 0): unknown,
    }
    response = forward(p, el.ElectLeadersRequest(election_type=2, topic_partitions=None), 2)
    assert response.error_code == ErrorCode.INVALID_REQUEST


def test_a_cluster_that_goes_down_elects_nobody(p: Playbook) -> None:
    lose_and_regain(p, 1)
    p.receive(SUPERVISOR, bus.Freeze())
    start = len(p.sent)
    request = el.ElectLeadersRequest(topic_partitions=None)
    p.receive(1, bus.Forward(3, request.KEY, 2, "test", 1000), payload=[encode(request, 2)])
    p.pass_time(FORWARD_WAIT_MS)
    forwarded = only(p.sent[start:], bus.Forwarded)
    assert forwarded.error == ErrorCode.OPERATION_NOT_ATTEMPTED
    assert p.partition("t", 0).leader == 2


# --- DescribeQuorum ---------------------------------------------------------------------------


def quorum(p: Playbook, topic: str = "__cluster_metadata", version: int = 2) -> Any:
    asked = [TopicData(topic_name=topic, partitions=[PartitionData(partition_index=0)])]
    response = forward(p, dq.DescribeQuorumRequest(topics=asked), version)
    assert response.error_code == 0
    return response


@pytest.mark.parametrize("version", range(3))
def test_the_coordinator_is_a_quorum_of_one_and_brokers_observe_it(
    p: Playbook, version: int
) -> None:
    p.heartbeats()
    p.now_ms += 700
    p.heartbeat(2, offset=3)
    response = quorum(p, version=version)
    [part] = response.topics[0].partitions
    end = p.core.log.committed_offset
    assert (part.leader_id, part.leader_epoch, part.high_watermark) == (0, 1, end)
    assert [(v.replica_id, v.log_end_offset) for v in part.current_voters] == [(0, end)]
    ends = [(o.replica_id, o.log_end_offset) for o in part.observers]
    assert ends == [(1, end), (2, 3), (3, end)]
    if version >= 1:
        wall_ms = p.clock()[1]
        heard = [o.last_fetch_timestamp - wall_ms for o in part.observers]
        assert heard == [-700, 0, -700]
        caught_up = [o.last_caught_up_timestamp - wall_ms for o in part.observers]
        assert caught_up == [-700, -1 - wall_ms, -700]
    if version >= 2:
        assert [(node.node_id, node.listeners) for node in response.nodes] == [(0, [])]


def test_other_topics_have_no_quorum(p: Playbook) -> None:
    [part] = quorum(p, "t").topics[0].partitions
    assert part.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


# --- UpdateFeatures ---------------------------------------------------------------------------


def update(p: Playbook, name: str, level: int, version: int = 1, **fields: Any) -> Any:
    dry_run = fields.pop("validate_only", False)
    key = uf.FeatureUpdateKey(feature=name, max_version_level=level, **fields)
    request = uf.UpdateFeaturesRequest(feature_updates=[key], validate_only=dry_run)
    return forward(p, request, version)


@pytest.fixture
def supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features.SUPPORTED, "tea.version", (1, 3))


@pytest.mark.parametrize("version", range(3))
def test_a_feature_that_kcluster_lacks_is_refused(p: Playbook, version: int) -> None:
    response = update(p, "metadata.version", 20, version)
    assert response.error_code == ErrorCode.INVALID_UPDATE_VERSION
    assert "metadata.version" in response.error_message
    assert not p.image.features


@pytest.mark.usefixtures("supported")
def test_levels_rise_and_fall_only_when_that_is_said(p: Playbook) -> None:
    response = update(p, "tea.version", 3)
    assert [(r.feature, r.error_code) for r in response.results] == [("tea.version", 0)]
    assert p.image.features == {"tea.version": 3}
    assert update(p, "tea.version", 2).error_code == ErrorCode.INVALID_UPDATE_VERSION
    assert update(p, "tea.version", 2, upgrade_type=2).error_code == 0
    assert update(p, "tea.version", 1, 0, allow_downgrade=True).error_code == 0
    assert update(p, "tea.version", 0, 2, upgrade_type=3).error_code == 0
    assert p.image.features == {}


@pytest.mark.usefixtures("supported")
def test_a_dry_run_and_what_is_out_of_range_change_nothing(p: Playbook) -> None:
    assert update(p, "tea.version", 2, validate_only=True).error_code == 0
    assert update(p, "tea.version", 4).error_code == ErrorCode.INVALID_UPDATE_VERSION
    assert update(p, "tea.version", 1, upgrade_type=0).error_code == ErrorCode.INVALID_REQUEST
    assert p.image.features == {}


# --- UnregisterBroker -------------------------------------------------------------------------


def unregister(p: Playbook, id: int) -> int:
    return int(forward(p, ub.UnregisterBrokerRequest(broker_id=id), 0).error_code)


def test_a_dead_broker_without_replicas_is_forgotten_and_may_come_back(p: Playbook) -> None:
    p.join(4)
    p.die(4)
    assert unregister(p, 4) == 0
    assert 4 not in p.image.brokers
    reloaded = Playbook(disk=p.disk, incarnation=2)
    assert sorted(reloaded.image.brokers) == [1, 2, 3]
    p.join(4)
    assert p.image.is_alive(4)


def test_what_a_forgotten_broker_still_says_is_of_an_unknown_epoch(p: Playbook) -> None:
    p.join(4)
    p.pass_time(p.core.brokers.session_timeout_ms - 1)
    p.heartbeats(1, 2, 3)
    p.pass_time(2)
    assert not p.image.is_alive(4)
    assert unregister(p, 4) == 0
    [reply] = [s.message for s in p.heartbeat(4) if isinstance(s.message, bus.HeartbeatReply)]
    assert reply.unknown_epoch


def test_brokers_that_live_hold_replicas_or_are_unknown_are_not_forgotten(p: Playbook) -> None:
    assert unregister(p, 1) == ErrorCode.INVALID_REQUEST
    p.die(3)
    assert unregister(p, 3) == ErrorCode.INVALID_REQUEST
    assert unregister(p, 9) == ErrorCode.BROKER_ID_NOT_REGISTERED
    assert sorted(p.image.brokers) == [1, 2, 3]
