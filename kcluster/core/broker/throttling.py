"""The limits of replication that hold for what this broker pushes, as the image has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.config import LONG_MAX, throttled_replicas
from kcluster.core.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE, ClusterImage
from kcluster.core.replication.throttle import Throttles, names

if TYPE_CHECKING:
    from kcluster.config import Settings

LEADER_RATE: Final = "leader.replication.throttled.rate"
FOLLOWER_RATE: Final = "follower.replication.throttled.rate"
FOLLOWER_REPLICAS: Final = "follower.replication.throttled.replicas"


def configure(throttles: Throttles, image: ClusterImage, settings: Settings) -> None:
    """Whenever configs, leaders or ISRs have changed."""
    limited = {
        id: rate for id in image.brokers if (rate := _rate_of(image, settings, id)) is not None
    }
    shares = {}
    if limited:
        leaders = _leaders_of_laggards(image)
        shares = {id: rate // max(len(leaders.get(id, ())), 1) for id, rate in limited.items()}
    throttles.configure(settings.int(LEADER_RATE), shares)


def _rate_of(image: ClusterImage, settings: Settings, broker: int) -> int | None:
    """What may be sent to a broker; None for no limit."""
    layers = (
        image.overrides(BROKER_RESOURCE, str(broker)),
        image.overrides(BROKER_RESOURCE, ""),
        settings.static,
    )
    for layer in layers:
        if FOLLOWER_RATE in layer:
            rate = int(layer[FOLLOWER_RATE])
            return rate if rate < LONG_MAX else None
    return None


def _leaders_of_laggards(image: ClusterImage) -> dict[int, set[int]]:
    """By broker, who leads partitions of which its replica is throttled and not in sync."""
    found: dict[int, set[int]] = {}
    for name, topic in image.topics.items():
        places = throttled_replicas(
            image.overrides(TOPIC_RESOURCE, name).get(FOLLOWER_REPLICAS, "")
        )
        if not places:
            continue
        for index, state in topic.partitions.items():
            for id in state.replicas:
                if id not in state.isr and names(places, index, id):
                    found.setdefault(id, set()).add(state.leader)
    return found
