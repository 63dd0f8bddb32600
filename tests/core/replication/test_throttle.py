"""Limits of what replicas that are not in sync are sent."""

from __future__ import annotations

import pytest

from kcluster.config import LONG_MAX, Settings, check_topic_config
from kcluster.core.broker import throttling
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.replication.throttle import BURST_MS, Bucket, Throttles
from kcluster.errors import ApiError
from kcluster.wire import bus
from tests.core.broker.stage import Stage, batch, produce

LEADER, FOLLOWER = "leader.replication.throttled", "follower.replication.throttled"


def test_a_bucket_gives_its_rate_over_time_whatever_it_is_overdrawn_by() -> None:
    bucket = Bucket(1000)
    bucket.room(0)
    sent = 0
    for now_ms in range(0, 10_000, 10):
        if bucket.room(now_ms) > 0:
            bucket.take(300)
            sent += 300
    assert 9_500 <= sent <= 10_500


def test_a_bucket_saves_no_more_than_a_burst() -> None:
    bucket = Bucket(1000)
    assert bucket.room(1_000_000) == BURST_MS


def test_without_limits_nothing_is_throttled() -> None:
    throttles = Throttles()
    throttles.configure(LONG_MAX, {2: LONG_MAX})
    assert not throttles.is_on


def slow(side: str, rate: str, places: str = "*") -> Stage:
    """Broker 1 leads, 3 is added and lacks all, and what it is sent is limited."""
    stage = Stage(3)
    stage.create([1, 2])
    stage.deliver()
    for _ in range(40):
        stage[1].asks(produce(batch(b"x" * 1000)), 9)
        stage.deliver()
    stage.dictate(
        r.ConfigChanged(2, "orders", f"{side}.replicas", places),
        r.ConfigChanged(4, "", f"{side}.rate", rate),
    )
    stage.change(replicas=[1, 2, 3], adding=[3])
    stage.deliver()
    return stage


@pytest.mark.parametrize("side", [LEADER, FOLLOWER])
def test_who_is_not_in_sync_is_filled_at_the_rate(side: str) -> None:
    stage = slow(side, "10000")
    first = stage[3].replica.log.log_end_offset
    assert first < 10
    stage.wait(2000)
    second = stage[3].replica.log.log_end_offset
    assert 15 <= second - first <= 25, "20 kB in 2 s"
    stage.wait(4000)
    assert stage[3].replica.log.log_end_offset == 40


@pytest.mark.parametrize("places", ["0:2", "1:1,1:3", ""])
def test_who_is_not_named_is_not_throttled(places: str) -> None:
    stage = slow(FOLLOWER, "10000", places)
    stage.wait(100)
    assert stage[3].replica.log.log_end_offset == 40


def test_who_is_in_sync_is_not_throttled() -> None:
    stage = slow(LEADER, "1")
    for _ in range(20):
        stage[1].asks(produce(batch(b"y" * 1000)), 9)
        stage.deliver()
    assert stage[2].replica.log.log_end_offset == 60


def test_what_is_held_back_comes_when_the_limit_goes() -> None:
    stage = slow(LEADER, "1")
    stage.wait(500)
    assert stage[3].replica.log.log_end_offset < 5
    stage.dictate(r.ConfigChanged(4, "", f"{LEADER}.rate", None))
    stage.wait(1000)
    assert stage[3].replica.log.log_end_offset == 40
    assert not stage.waiting(bus.Push)


def test_leaders_share_what_a_follower_may_be_sent() -> None:
    image = ClusterImage()
    for id in (1, 2, 3, 4):
        image.replay(r.BrokerRegistered(id, id, 1, "h", id, "e"))
    image.replay(r.TopicCreated("t", b"t"))
    image.replay(r.ConfigChanged(2, "t", f"{FOLLOWER}.replicas", "*"))
    image.replay(r.ConfigChanged(4, "", f"{FOLLOWER}.rate", "900"))
    image.replay(r.ConfigChanged(4, "4", f"{FOLLOWER}.rate", "600"))
    for index, (leader, isr) in enumerate([(1, [1]), (2, [2]), (1, [1]), (3, [3, 4])]):
        image.replay(r.PartitionChanged(b"t", index, [leader, 4], isr, leader, 0, 0))
    throttles = Throttles()
    throttling.configure(throttles, image, Settings())
    rates = {id: bucket.rate for id, bucket in throttles._followers.items()}
    assert rates == {1: 900, 2: 900, 3: 900, 4: 300}, "brokers 1 and 2 lead what broker 4 lacks"


@pytest.mark.parametrize("value", ["*", "", "0:1", "0:1, 12:3"])
def test_replicas_are_named_as_in_kafka(value: str) -> None:
    assert check_topic_config(f"{LEADER}.replicas", value) == value


@pytest.mark.parametrize("value", ["1", "0:x", "0:1:2", "-1:2", "none", "0:1,*x"])
def test_what_names_no_replica_is_refused(value: str) -> None:
    with pytest.raises(ApiError):
        check_topic_config(f"{FOLLOWER}.replicas", value)
