"""State changes worth telling, as values: cores put them into the turn and never log.

One stream of them feeds the log file, `kcluster events`, the screen and the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec


class Trace(msgspec.Struct, frozen=True, tag=True):
    """Base: `str()` is the line that a log or a golden script shows."""

    def __str__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(fields)})"


class BecameLeader(Trace, frozen=True):
    topic: str
    partition: int
    leader_epoch: int
    log_end_offset: int
    high_watermark: int = -1
    """Its own, as far as it had heard; -1 where that was not told."""


class FirstCommitted(Trace, frozen=True):
    """The first records of a leader epoch are committed: whoever writes is served again."""

    topic: str
    partition: int
    leader_epoch: int
    high_watermark: int


class BecameFollower(Trace, frozen=True):
    topic: str
    partition: int
    leader_epoch: int
    leader: int


class FellBehind(Trace, frozen=True):
    """A member of the ISR did not keep up: its leader proposes an ISR without it."""

    topic: str
    partition: int
    broker_id: int
    leader_epoch: int
    log_end_offset: int
    """Of what it is known to hold; -1: it has said nothing in this epoch."""
    leader_log_end_offset: int
    behind_ms: int
    """Since it was last known to hold all; -1: it never was, in this epoch."""


class IsrShrunk(Trace, frozen=True):
    topic: str
    partition: int
    before: list[int]
    isr: list[int]
    cause: str


class IsrExpanded(Trace, frozen=True):
    topic: str
    partition: int
    before: list[int]
    isr: list[int]


class IsrRefused(Trace, frozen=True):
    topic: str
    partition: int
    error: str


class Elected(Trace, frozen=True):
    topic: str
    partition: int
    before: int
    """Who led: -1 for nobody."""
    leader: int
    leader_epoch: int
    source: str
    """isr, elr, unclean, lossy, preferred, none."""
    cause: str = ""
    """What made the controller look for another leader."""


class ReassignmentStarted(Trace, frozen=True):
    """A partition is to have other replicas (KIP-455)."""

    topic: str
    partition: int
    before: list[int]
    target: list[int]
    adding: list[int]
    removing: list[int]


class ReassignmentCompleted(Trace, frozen=True):
    topic: str
    partition: int
    replicas: list[int]
    gone: list[int]
    leader: int
    leader_epoch: int
    """A new one with the same leader, too, when replicas have gone."""


class ReassignmentCancelled(Trace, frozen=True):
    topic: str
    partition: int
    replicas: list[int]
    gone: list[int]
    """What was being added."""
    leader: int
    leader_epoch: int


class ReplicaMovedAway(Trace, frozen=True):
    """A broker deletes its copy: metadata has placed the partition elsewhere."""

    topic: str
    partition: int
    log_end_offset: int


class BrokerFenced(Trace, frozen=True):
    broker_id: int
    cause: str
    silent_ms: int = -1
    """Since it was last heard of; -1 where that says nothing."""


class BrokerUnfenced(Trace, frozen=True):
    broker_id: int
    broker_epoch: int


class BrokerRegistered(Trace, frozen=True):
    broker_id: int
    broker_epoch: int
    restart: str = ""
    """How its logs survived: clean, crash or lossy."""


class Truncated(Trace, frozen=True):
    topic: str
    partition: int
    from_offset: int
    to_offset: int


class SegmentRolled(Trace, frozen=True):
    topic: str
    partition: int
    base_offset: int


class SegmentDeleted(Trace, frozen=True):
    topic: str
    partition: int
    base_offset: int
    size_bytes: int
    cause: str


class LogCompacted(Trace, frozen=True):
    topic: str
    partition: int
    cleaned_end: int
    """Exclusive: below it each key stands once."""
    bytes_before: int
    bytes_after: int
    records_before: int
    records_after: int


class LogRecovered(Trace, frozen=True):
    topic: str
    partition: int
    log_end_offset: int
    cut_bytes: int


class LogOffline(Trace, frozen=True):
    topic: str
    partition: int
    cause: str


class TopicCreated(Trace, frozen=True):
    topic: str
    partitions: int
    replication_factor: int


class TopicDeleted(Trace, frozen=True):
    topic: str


class Warned(Trace, frozen=True):
    """Something a person should read that has no kind of its own."""

    text: str


# --- groups -------------------------------------------------------------------------------


class GroupsLoaded(Trace, frozen=True):
    """A partition of `__consumer_offsets` was read back by its new leader."""

    partition: int
    groups: int
    took_ms: int


class GroupRebalancing(Trace, frozen=True):
    group: str
    generation: int
    """The one that ends."""
    cause: str


class GroupGeneration(Trace, frozen=True):
    """All have joined: the leader is to assign."""

    group: str
    generation: int
    members: int
    protocol: str


class GroupStable(Trace, frozen=True):
    group: str
    generation: int
    members: int


class GroupEpoch(Trace, frozen=True):
    """Of a group of the consumer protocol: who subscribes to what has changed."""

    group: str
    epoch: int
    cause: str


class GroupAssigned(Trace, frozen=True):
    """Of a group of the consumer protocol: it is decided who is to have what."""

    group: str
    epoch: int
    members: int
    assignor: str


class GroupConverted(Trace, frozen=True):
    """From one group protocol to the other, with its members."""

    group: str
    protocol: str
    """That it has now: consumer, classic."""
    members: int


class GroupDeleted(Trace, frozen=True):
    group: str


class OffsetsExpired(Trace, frozen=True):
    group: str
    count: int


AnyTrace = (
    BecameLeader | FirstCommitted | BecameFollower | FellBehind | IsrShrunk | IsrExpanded
    | IsrRefused | Elected | ReassignmentStarted | ReassignmentCompleted | ReassignmentCancelled
    | ReplicaMovedAway | BrokerFenced | BrokerUnfenced | BrokerRegistered | Truncated
    | SegmentRolled | SegmentDeleted | LogCompacted | LogRecovered | LogOffline | TopicCreated
    | TopicDeleted | Warned | GroupsLoaded | GroupRebalancing | GroupGeneration | GroupStable
    | GroupEpoch | GroupAssigned | GroupConverted | GroupDeleted | OffsetsExpired
)  # fmt: skip
"""All of them, for who reads them back."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[AnyTrace])


def encode(traces: Sequence[Trace]) -> bytes:
    return _encoder.encode(list(traces))


def decode(data: bytes | bytearray | memoryview) -> list[AnyTrace]:
    """Raises msgspec.DecodeError on anything else."""
    return _decoder.decode(data)
