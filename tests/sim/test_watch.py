"""What the watch claims: no more than is true, and no less."""

from __future__ import annotations

import errno
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from kcluster.check.elections import Elections
from kcluster.check.history import OK, History
from kcluster.check.seen import InvariantViolated
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Event, Received, Timer
from kcluster.model import COORDINATOR, SUPERVISOR, TopicPartition
from kcluster.sim.admin import create_topic, delete_records
from kcluster.sim.claims import Claims, first_registrations, told_dead
from kcluster.sim.clients import Producer, SimClient
from kcluster.sim.cluster import SimCluster
from kcluster.sim.cores import make_broker, make_controller
from kcluster.sim.mutants import ALL_MUTANTS
from kcluster.sim.watch import Watch
from kcluster.wire import bus
from kcluster.wire.messages import create_topics as ct
from kcluster.wire.messages import fetch as f
from kcluster.wire.messages import metadata as m
from kcluster.wire.record_walk import empty_batch

ORDERS = TopicPartition("orders", 0)
SESSION_MS = 1500
SYNC_US = 100_000
ASKED = (1, 1)
"""A connection, and the correlation id of a request."""


def led(**configs: str) -> tuple[SimCluster, Watch, SimClient, Any]:
    """A topic and its leader, with a slow disk."""
    cluster = SimCluster(
        "watch",
        make_broker=make_broker,
        make_controller=make_controller,
        settings={"broker.session.timeout.ms": str(SESSION_MS)},
    )
    watch = Watch(cluster)
    cluster.start_all()
    client = SimClient(cluster, "client", History())
    watch.client(client)
    client.live(create_topic(client, "orders", 1, 3, configs=configs))
    cluster.run_until(lambda: not client.running, 10_000, "the topic is created")
    leader = cluster.processes[watch._states[ORDERS].leader]
    cluster.slow_disk(leader.id, (SYNC_US, SYNC_US))
    return cluster, watch, client, leader


def sends(client: SimClient) -> None:
    client.live(Producer(client, ORDERS, acks=1, is_idempotent=False, limit=1).life())


def test_what_was_asked_before_a_broker_stood_still_may_be_answered_at_once() -> None:
    cluster, _, client, leader = led(**{"flush.messages": "1"})
    sends(client)
    log = leader.core.replicas[ORDERS].log
    cluster.run_until(lambda: log.written_end == 1, 1000, "the record is written")
    cluster.pause(leader.id)
    cluster.run(SESSION_MS + 1000)
    cluster.resume(leader.id)
    cluster.run_until(lambda: not client.running, 1000, "the record is answered")
    assert client.history.sends[0].outcome == OK


def test_what_is_asked_while_a_broker_stands_still_waits_for_the_word() -> None:
    with ALL_MUTANTS["serves-after-standing-still"].applied():
        cluster, _, client, leader = led()
        cluster.pause(leader.id)
        client.leaders[ORDERS] = leader.id
        sends(client)
        cluster.run(SESSION_MS + 1000)
        cluster.resume(leader.id)
        with pytest.raises(InvariantViolated, match="who stood still asks before it serves"):
            cluster.run(1000)


def died(id: int, incarnation: int) -> Event:
    return Received(SUPERVISOR, 1, bus.Died(id, incarnation))


def test_a_death_is_known_to_answers_of_later_turns_and_to_those_behind_its_news() -> None:
    known = {1: 4, 2: 5}
    assert told_dead(known, []) == known
    assert told_dead(known, [died(1, 7), died(2, 3), died(3, 6), Timer()]) == {1: 7, 2: 5, 3: 6}
    assert told_dead(known, [Timer(), died(1, 7)]) == known


def test_a_controller_that_knows_of_less_than_is_durable_takes_nothing_back() -> None:
    cluster, _, _, _ = led()
    elections = Elections()
    claims = Claims(cluster, elections)
    core: Any = cluster.processes[COORDINATOR].core
    claims.controller(core, [], {}, {}, {})
    durable = dict(elections.durable)
    assert durable
    log = SimpleNamespace(committed_offset=core.log.committed_offset - 1, image=ClusterImage())
    younger = SimpleNamespace(image=core.image, incarnation=core.incarnation + 1, log=log)
    claims.controller(younger, [], {}, {}, {})
    assert elections.durable == durable


def test_an_answer_that_waits_behind_another_names_who_lived_when_it_was_made() -> None:
    cluster, _, _, leader = led()
    claims = Claims(cluster, Elections())
    other = next(cluster.processes[id] for id in cluster.broker_ids if id != leader.id)
    core: Any = other.core
    partition = m.MetadataResponsePartition(partition_index=0, leader_id=leader.id)
    answer = m.MetadataResponse(topics=[m.MetadataResponseTopic("orders", partitions=[partition])])
    waiting = SimpleNamespace(parts=None)
    ready = SimpleNamespace(parts=[b"answer"], header=SimpleNamespace(correlation_id=ASKED[1]))
    core.connections._calls[ASKED[0]] = deque([waiting, ready])
    claims.broker(other, core, [])
    core.members._dead[leader.id] = leader.incarnation
    claims.broker(other, core, [died(leader.id, leader.incarnation)])
    claims.answered(other.id, m.MetadataRequest(), answer, ASKED)
    with pytest.raises(InvariantViolated, match="known to be dead"):
        claims.answered(other.id, m.MetadataRequest(), answer, (ASKED[0], ASKED[1] + 1))


def test_a_broker_that_has_no_image_yet_need_not_know_of_a_topic_that_was_created() -> None:
    cluster, _, _, leader = led()
    claims = Claims(cluster, Elections())
    claims._elections.alive({"new": None}, frozenset(cluster.broker_ids), cluster.now_ms)
    answer = ct.CreateTopicsResponse(topics=[ct.CreatableTopicResult(name="new")])
    for id in cluster.broker_ids:
        with pytest.raises(InvariantViolated, match="answers when all have applied it"):
            claims.answered(leader.id, ct.CreateTopicsRequest(), answer, ASKED)
        core: Any = cluster.processes[id].core
        core.has_image = False
    claims.answered(leader.id, ct.CreateTopicsRequest(), answer, ASKED)


def test_nothing_is_to_be_had_below_a_high_watermark_that_lies_inside_a_compacted_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, _, client, leader = led()
    client.live(
        Producer(client, ORDERS, values=[b"%d" % n for n in range(6)], records_max=1).life()
    )
    cluster.run_until(lambda: not client.running, 1000, "six records are written")
    claims = Claims(cluster, Elections())
    request = f.FetchRequest(
        topics=[
            f.FetchTopic(topic="orders", partitions=[f.FetchPartition(partition=0, fetch_offset=0)])
        ]
    )
    part = f.PartitionData(partition_index=0, high_watermark=3, records=b"")
    topics = [f.FetchableTopicResponse(topic="orders", partitions=[part])]
    nothing = f.FetchResponse(responses=topics)
    with pytest.raises(InvariantViolated, match="at least one whole batch"):
        claims.answered(leader.id, request, nothing, ASKED)
    joined = empty_batch(0, 4, 0, 0)
    monkeypatch.setattr("kcluster.sim.claims.peek", lambda log, start, max_bytes, end: joined)
    claims.answered(leader.id, request, nothing, ASKED)
    part.high_watermark = 5
    with pytest.raises(InvariantViolated, match="at least one whole batch"):
        claims.answered(leader.id, request, nothing, ASKED)


def test_a_broker_is_judged_by_the_registration_that_counted() -> None:
    def register(incarnation: int, *logs: bus.LogEnd) -> Received:
        message = bus.Register(2, incarnation, "h", 1, "ipc://x", "crash", list(logs))
        return Received(2, incarnation, message)

    log = bus.LogEnd(b"t" * 16, 0, 1, 5)
    older, first, again = register(7), register(8, log), register(8)
    assert first_registrations([older, first, again]) == {2: first.message}


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_log_start_counts_that_moved_in_the_turn_in_which_the_log_went_offline(
    is_asked: bool,
) -> None:
    cluster, watch, client, leader = led()
    client.live(Producer(client, ORDERS, limit=3).life())
    cluster.run_until(lambda: not client.running, 1000, "three records are committed")
    if is_asked:
        watch.deletions.ask(ORDERS, -1)
    replica = leader.core.replicas[ORDERS]
    end = replica.log.high_watermark
    leader.disk.fail_kind["replace"] = errno.EIO
    client.live(delete_records(client, leader.id, ORDERS, -1))
    if is_asked:
        cluster.run_until(lambda: replica.offline, 1000, "the log is offline")
        assert watch.deletions.start(watch.topic_id(ORDERS), 0) == end > 0
    else:
        with pytest.raises(InvariantViolated, match="old, too much, or unwanted"):
            cluster.run_until(lambda: replica.offline, 1000, "the log is offline")
