"""A member of a consumer group as a value: what it says of itself, and where it stands.

    STABLE --the target has partitions less--> UNREVOKED_PARTITIONS --it gave them up--.
      ^ |                                       (keeps its epoch)                      |
      | '--the target has partitions that others hold--> UNRELEASED_PARTITIONS <-------'
      '--------------- they are free, and given to it ---------'      (or STABLE at once)

    epoch           what the member is to name; it is the target's when nothing is left to give up
    previous epoch  taken from one that may have missed the answer
    assigned        its to read
    revoking        taken away, and still its own until it says that it has given them up

Source: KIP-848; Kafka's ConsumerGroupMember.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from kcluster.model import TopicId

JOINS: Final = 0
LEAVES: Final = -1
LEAVES_FOR_A_WHILE: Final = -2
"""Member epochs of a heartbeat; the last is of a static member, whose next start takes its
place, and is its epoch in the log, too."""

Part = tuple[TopicId, int]
"""(topic id, partition index)."""

Held = Mapping[Part, int]
"""{partition: the member epoch with which it came} (KIP-1251)."""


class MemberState(enum.IntEnum):
    """By their numbers in records."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2
    UNKNOWN = 127
    """Of a record that a later Kafka wrote."""


class ClassicTerms(msgspec.Struct, frozen=True):
    """Of a member that speaks the classic protocol."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    """(name, metadata) in the order of the member's preference."""


class Member(msgspec.Struct, frozen=True):
    id: str
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: tuple[str, ...] = ()
    """Subscribed by name; sorted."""
    pattern: str | None = None
    """Subscribed by regular expression; empty is none, too."""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    """It asks for; None leaves it to the others."""
    classic: ClassicTerms | None = None

    epoch: int = 0
    previous_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: Held = {}
    revoking: Held = {}

    def is_reconciled_to(self, epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.epoch == epoch

    @property
    def is_away(self) -> bool:
        """A static member that left for a while."""
        return self.epoch == LEAVES_FOR_A_WHILE
