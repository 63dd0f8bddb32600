"""`topic config|offsets|trim`, `elect-leaders`, `restart --rolling` as a person types them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.live import killing
from tests.live.conftest import LiveCluster
from tests.live.killing import KclusterBrokers, Writer
from tests.live.test_administration import write
from tests.live.test_commands import kcluster, ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def as_json(*words: str) -> Any:
    return json.loads(ok(*words, "-c", "live", "-o", "json"))


def test_configs_are_shown_set_and_deleted(cluster: LiveCluster, topic: str) -> None:
    def source(name: str, configs: list[dict[str, str]]) -> tuple[str, str]:
        [found] = [each for each in configs if each["name"] == name]
        return found["value"], found["source"]

    shown = as_json("topic", "config", topic)["configs"]
    assert source("retention.ms", shown) == ("604800000", "default")
    changed = as_json("topic", "config", topic, "-X", "retention.ms=60000")["configs"]
    assert source("retention.ms", changed) == ("60000", "topic")
    table = ok("topic", "config", topic, "-c", "live").splitlines()
    assert table[0].split() == ["CONFIG", "VALUE", "FROM"]
    assert table[1].split() == ["retention.ms", "60000", "topic"]
    back = as_json("topic", "config", topic, "-d", "retention.ms")["configs"]
    assert source("retention.ms", back) == ("604800000", "default")
    done = kcluster("topic", "config", topic, "-X", "retention.ms=soon", "-c", "live")
    assert done.returncode == 1 and "must be a number" in done.stderr


def test_offsets_are_shown_and_records_trimmed(cluster: LiveCluster, topic: str) -> None:
    write(cluster, topic)

    def offsets(*words: str) -> dict[str, Any]:
        [part] = as_json("topic", "offsets", topic, *words)["partitions"]
        found: dict[str, Any] = part
        return found

    shown = offsets("--at", "@-1h")
    assert (shown["earliest"], shown["latest"], shown["at"]) == (0, 10, 0)
    assert 0 <= shown["max_timestamp_offset"] < 10 and shown["max_timestamp"] > 0
    [trimmed] = as_json("topic", "trim", f"{topic}-0", "--before", "4")["partitions"]
    assert trimmed == {"partition": 0, "before": 4, "log_start": 4, "error": None}
    assert offsets()["earliest"] == 4
    far = kcluster("topic", "trim", topic, "--before", "99", "-c", "live")
    assert far.returncode == 1
    assert far.stderr.splitlines() == [
        f"error: {topic}-0 was not trimmed",
        "OFFSET_OUT_OF_RANGE: it ends before that offset",
        f"try: kcluster topic offsets {topic} -c live",
    ]
    as_json("topic", "trim", topic, "--before", "@-1h")
    assert offsets()["earliest"] == 4
    as_json("topic", "trim", topic, "--before", "@-0s")
    as_json("topic", "trim", topic, "--before", "end")
    assert (offsets()["earliest"], offsets()["max_timestamp"]) == (10, None)
    assert killing.read_all(cluster.bootstrap, topic) == []


def test_topics_and_partitions_that_are_not_there_are_told(cluster: LiveCluster) -> None:
    topic = cluster.topic(partitions=2)
    for words, why in (
        (("offsets", "never-made"), "UNKNOWN_TOPIC_OR_PARTITION"),
        (("offsets", f"{topic}-2"), f"{topic} has 2: 0 to 1"),
        (("trim", f"{topic}-7", "--before", "end"), f"{topic} has 2: 0 to 1"),
    ):
        done = kcluster("topic", *words, "-c", "live")
        assert done.returncode == 4, done.stderr
        assert why in done.stderr
    done = kcluster("topic", "trim", topic, "--before", "3", "-c", "live")
    assert done.returncode == 2
    assert f"try: kcluster topic trim {topic}-0 --before 3" in done.stderr


def test_leaders_are_elected_by_name_and_all_at_once(cluster: LiveCluster, topic: str) -> None:
    cluster.stop(cluster.leader(topic))
    away = cluster.leader(topic)
    cluster.heal()
    told = as_json("elect-leaders", f"{topic}-0")
    assert [row["result"] for row in told["results"]] in (["elected"], ["not needed"])
    assert cluster.leader(topic) != away
    as_json("elect-leaders")
    assert as_json("elect-leaders", topic)["results"][0]["result"] == "not needed"
    assert kcluster("elect-leaders", "never-made", "-c", "live").returncode == 4


def test_an_election_that_cannot_be_fails_with_its_reason(cluster: LiveCluster, topic: str) -> None:
    preferred = cluster.leader(topic)
    cluster.kill(preferred)
    cluster.wait(lambda _: cluster.leader(topic) not in (preferred, -1), "another leader")
    done = kcluster("elect-leaders", topic, "-c", "live")
    assert done.returncode == 1
    assert f"Broker {preferred} is not in sync" in done.stderr


def test_a_rolling_restart_is_not_noticed_by_a_writer(cluster: LiveCluster, topic: str) -> None:
    before = {state.id: state.incarnation for state in cluster.states() if state.id}
    with Writer(cluster.bootstrap, topic, rate=500) as writer:
        writer.await_acknowledgements(100)
        told = as_json("restart", "--rolling")
        writer.await_acknowledgements(100)
    assert killing.audit(cluster.bootstrap, writer).is_clean
    assert [step["id"] for step in told["brokers"]] == [1, 2, 3]
    after = {state.id: state.incarnation for state in cluster.states() if state.id}
    assert all(after[id] > before[id] for id in before)
    assert cluster.status().is_healthy


def test_a_rolling_restart_does_not_begin_with_a_broker_down(cluster: LiveCluster) -> None:
    KclusterBrokers(cluster.bootstrap, cluster.control).kill([2])
    done = kcluster("restart", "--rolling", "-c", "live")
    assert done.returncode == 10
    assert done.stderr.splitlines() == [
        "error: broker 2 is killed",
        "a rolling restart begins with all brokers running",
        "try: kcluster start-broker 2 -c live",
    ]


def test_internal_topics_are_listed_when_asked_for(cluster: LiveCluster) -> None:
    """What makes them is in the group and transaction coordinators; here anybody does."""
    name = "__transaction_state"
    cluster.topic(name)
    try:
        listed = [topic["topic"] for topic in as_json("topic", "ls")["topics"]]
        everything = [topic["topic"] for topic in as_json("topic", "ls", "--internal")["topics"]]
        assert name not in listed
        assert name in everything
    finally:
        ok("topic", "delete", name, "-c", "live")
