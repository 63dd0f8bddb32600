"""Bus messages by which a process tells of its state: asked once, or to whoever watches."""

from __future__ import annotations

from typing import Final

import msgspec


class DescribeReplicas(msgspec.Struct, frozen=True, tag=True):
    """Control connection to a broker: the state of its replicas."""

    request: int


class ReplicaState(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    role: str
    """leader, follower or offline."""
    leader_epoch: int
    log_start_offset: int
    log_end_offset: int
    high_watermark: int
    size_bytes: int
    segments: list[tuple[int, int]]
    """(base offset, bytes) of each, oldest first."""
    is_in_sync: bool = False
    problem: str = ""
    """Why it is offline or set aside."""


class Replicas(msgspec.Struct, frozen=True, tag=True):
    request: int
    broker_id: int
    broker_epoch: int
    replicas: list[ReplicaState]
    """To a watcher: those that changed, after the first time."""
    notices: list[str] = []
    """What this incarnation found broken on its disk, and what became of it."""
    gone: list[tuple[str, int]] = []
    """To a watcher: partitions that it holds no more."""
    told: int = 0
    counters: Counters | None = None


class Watch(msgspec.Struct, frozen=True, tag=True):
    """Control connection to coordinator or broker: tell me your state now and whatever changes of
    it, until `lease_ms` are over or I ask again under the same number.

    A broker answers with `Replicas`, the coordinator with `Image`. `told` counts from 0 for each
    watcher and number: who misses one asks again under a new number, and begins anew.
    """

    request: int
    interval_ms: int = 250
    lease_ms: int = 10_000


class Traffic(msgspec.Struct):
    """What clients wrote and read, since this incarnation started."""

    bytes_in: int = 0
    """Of record batches, as they came."""
    bytes_out: int = 0
    records_in: int = 0


class RequestTimes(msgspec.Struct, frozen=True):
    """Of one API: from a frame's last byte to its answer, waiting for others included."""

    api: int
    count: int
    total_us: int
    buckets: list[int]
    """How many took no longer than each of REQUEST_BOUNDS_MS; not cumulative. One more for those
    beyond the last."""


class Throttled(msgspec.Struct, frozen=True):
    """Answers by which clients over their quotas were told to wait."""

    requests: int = 0
    total_ms: int = 0
    """Told."""


REQUEST_BOUNDS_MS: Final = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000)


class Counters(msgspec.Struct, frozen=True):
    """Of one incarnation of a broker: they only rise."""

    traffic: Traffic
    topics: dict[str, Traffic] = {}
    requests: list[RequestTimes] = []
    connections: int = 0
    """Open now."""
    throttled: Throttled = Throttled()


class DescribeImage(msgspec.Struct, frozen=True, tag=True):
    """Control connection to coordinator or broker: the image, as in `Registered`."""

    request: int


class Image(msgspec.Struct, frozen=True, tag=True):
    """Records of the image in the payload frame."""

    request: int
    metadata_offset: int
    told: int = 0
