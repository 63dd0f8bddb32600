"""How fast replicas that are not in sync are filled, where somebody has set a limit (KIP-73).

    leader.replication.throttled.rate     bytes a second that a broker sends as a leader
    follower.replication.throttled.rate   bytes a second that are sent to a broker
    *.throttled.replicas                  of a topic: whom that holds for, PARTITION:BROKER or *

In-sync replicas are never throttled, or a limit would cost them their place. In Kafka a follower
holds itself back. Here it is pushed to, so that its leaders hold back for it: each has an equal
share of its rate, as long as it leads something of which that broker lacks records.

A bucket fills with its rate, up to what `BURST_MS` bring, and may be overdrawn by one batch, which
is waited for afterwards: over seconds the rate holds, as with Kafka's windows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from kcluster.config import LONG_MAX

if TYPE_CHECKING:
    from kcluster.core.replication.streams import Stream

BURST_MS: Final = 200
SHORTEST_WAIT_MS: Final = 20
LONGEST_WAIT_MS: Final = 1000


class Bucket:
    __slots__ = ("_at_ms", "_room", "rate")

    def __init__(self, rate: int) -> None:
        self.rate = rate
        """Bytes a second."""
        self._room = 0.0
        """Negative: overdrawn."""
        self._at_ms = 0

    def room(self, now_ms: int) -> int:
        """Bytes that may be sent now; 0 or less: none."""
        earned = self.rate * max(now_ms - self._at_ms, 0) / 1000
        self._room = min(self._room + earned, max(self.rate * BURST_MS / 1000, 1.0))
        self._at_ms = now_ms
        return int(self._room)

    def take(self, size: int) -> None:
        self._room -= size

    def wait_ms(self) -> int:
        """Until there is room again, as of the last look."""
        lacking = 1 - self._room
        wait_ms = lacking * 1000 / self.rate if self.rate else LONGEST_WAIT_MS
        return int(min(max(wait_ms, SHORTEST_WAIT_MS), LONGEST_WAIT_MS))


class Throttles:
    """Of what one broker pushes."""

    def __init__(self) -> None:
        self.is_on = False
        self._leader: Bucket | None = None
        self._followers: dict[int, Bucket] = {}

    def configure(self, leader_rate: int, follower_rates: Mapping[int, int]) -> None:
        """`follower_rates`: this broker's share of what may be sent to others, by their ids; who
        is missing has no limit."""
        self._leader = _bucket(self._leader, leader_rate)
        self._followers = {
            id: bucket
            for id, rate in follower_rates.items()
            if (bucket := _bucket(self._followers.get(id), rate)) is not None
        }
        self.is_on = self._leader is not None or bool(self._followers)

    def of(self, stream: Stream) -> list[Bucket]:
        """What a stream has to find room in."""
        leader, follower = stream.leader, stream.peer.broker_id
        if follower in leader.isr:
            return []
        config, partition = stream.replica.log.config, stream.replica.tp.partition
        buckets = []
        if self._leader and names(config.leader_throttled_replicas, partition, leader.me):
            buckets.append(self._leader)
        bucket = self._followers.get(follower)
        if bucket and names(config.follower_throttled_replicas, partition, follower):
            buckets.append(bucket)
        return buckets


def _bucket(known: Bucket | None, rate: int) -> Bucket | None:
    if rate >= LONG_MAX:
        return None
    if known is None:
        return Bucket(rate)
    known.rate = rate
    return known


def names(places: Collection[str], partition: int, broker: int) -> bool:
    """Whether a `throttled.replicas` means the replica of a partition on a broker."""
    return bool(places) and ("*" in places or f"{partition}:{broker}" in places)
