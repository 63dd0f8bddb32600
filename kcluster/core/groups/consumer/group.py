"""A consumer group: its epochs, members, target assignment, and who holds which partition.

    EMPTY       nobody is in it
    ASSIGNING   the group's epoch is ahead of the target assignment's
    RECONCILING some member has not come to the target assignment yet
    STABLE      all have
    DEAD        another coordinator has it, or it is gone

The state moves by records alone, by `put_...` and `drop_...`: when they are appended and when the
log is loaded. Records may come in whatever order compaction left them: a partition is its
holder's until that member is heard to hold it no more, or another is heard to hold it.

Sources: KIP-848; Kafka's ConsumerGroup and ModernGroup.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core.groups.consumer.clocks import Clock, ClockKind
from kcluster.core.groups.consumer.member import Member, MemberState, Part
from kcluster.core.groups.offsets import Expiry, Offsets
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.consumer_protocol import PROTOCOL_TYPE

if TYPE_CHECKING:
    from kcluster.core.metadata.image import ClusterImage

NO_EPOCH: Final = -1


class ConsumerGroupState(enum.Enum):
    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    DEAD = "Dead"


class Resolved(msgspec.Struct, frozen=True):
    """What a pattern was found to match."""

    topics: tuple[str, ...]
    version: int
    """Offset of the metadata that it was held against."""
    wall_ms: int


class Facts(msgspec.Struct):
    """All that records say; a copy of it undoes what was decided and could not be appended."""

    epoch: int = 0
    metadata_hash: int = 0
    assignment_epoch: int = NO_EPOCH
    members: dict[str, Member] = {}
    """In the order in which they joined."""
    static: dict[str, str] = {}
    """{instance id: member id}"""
    target: dict[str, frozenset[Part]] = {}
    """{member id: what it is to have}"""
    holders: dict[Part, str] = {}
    """{partition: member that has it, or has still to give it up}"""
    patterns: dict[str, Resolved] = {}

    def copy(self) -> Facts:
        return Facts(
            self.epoch,
            self.metadata_hash,
            self.assignment_epoch,
            dict(self.members),
            dict(self.static),
            dict(self.target),
            dict(self.holders),
            dict(self.patterns),
        )


class ConsumerGroup:
    protocol_type: Final = PROTOCOL_TYPE
    TYPE: Final = "consumer"

    def __init__(self, id: str, offsets: Offsets | None = None) -> None:
        self.id = id
        self.facts = Facts()
        self.offsets = offsets if offsets is not None else Offsets()
        self.clocks: dict[tuple[str, ClockKind], Clock] = {}
        self.is_stale = True
        """Topics may have changed since the group looked at them."""
        self.written_end = 0
        """Log offset behind its last record: what is said of it is certain from there on."""
        self.is_dead = False

    def __repr__(self) -> str:
        return f"ConsumerGroup({self.id}, {self.state.value}, epoch {self.epoch})"

    # --- what it is -----------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self.facts.epoch

    @property
    def assignment_epoch(self) -> int:
        return self.facts.assignment_epoch

    @property
    def members(self) -> dict[str, Member]:
        return self.facts.members

    @property
    def state(self) -> ConsumerGroupState:
        facts = self.facts
        if self.is_dead:
            return ConsumerGroupState.DEAD
        if not facts.members:
            return ConsumerGroupState.EMPTY
        if facts.epoch > facts.assignment_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(each.is_reconciled_to(facts.assignment_epoch) for each in facts.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    @property
    def is_empty(self) -> bool:
        return not self.facts.members and not self.is_dead

    @property
    def is_unused(self) -> bool:
        """Nobody is told of it: it is deleted, or was never more than a question."""
        return self.is_empty and not self.epoch and not self.offsets

    def expiry(self) -> Expiry:
        """Offsets count from their commit, whether there are members or not (as in Kafka)."""
        return Expiry(self.subscribed_topics(), -1)

    # --- members --------------------------------------------------------------------------

    def find(self, member_id: str, instance_id: str | None = None) -> Member:
        """Raises ApiError UNKNOWN_MEMBER_ID, and FENCED_INSTANCE_ID when another has taken its
        instance's place (KIP-345)."""
        if instance_id is not None:
            current = self.facts.static.get(instance_id)
            if current is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"nobody is instance {instance_id}.")
            if current != member_id:
                raise ApiError(
                    ErrorCode.FENCED_INSTANCE_ID,
                    f"instance {instance_id} is member {current} now, and {member_id} no more.",
                )
        member = self.facts.members.get(member_id)
        if member is None:
            raise ApiError(
                ErrorCode.UNKNOWN_MEMBER_ID,
                f"group {self.id} has no member {member_id}.",
            )
        return member

    def topics_of(self, member: Member) -> Iterable[str]:
        """By name and by pattern, as far as that is resolved."""
        resolved = self.facts.patterns.get(member.pattern) if member.pattern else None
        return {*member.topics, *(resolved.topics if resolved is not None else ())}

    def subscribed_topics(self) -> set[str]:
        topics: set[str] = set()
        for member in self.facts.members.values():
            topics.update(self.topics_of(member))
        return topics

    def subscribers_of(self, pattern: str) -> int:
        return sum(member.pattern == pattern for member in self.facts.members.values())

    def topics_counted(self) -> None:
        self.is_stale = False

    def is_free(self, part: Part, member_id: str) -> bool:
        """Nobody else has it, or has still to give it up."""
        return self.facts.holders.get(part) in (None, member_id)

    def preferred_assignor(self, known: tuple[str, ...]) -> str:
        """What most ask for; the first of those that are configured when nobody asks."""
        votes = Counter(
            member.assignor for member in self.facts.members.values() if member.assignor in known
        )
        if not votes:
            return known[0]
        return str(min(votes, key=lambda name: (-votes[name], known.index(str(name)))))

    # --- classic members ------------------------------------------------------------------

    @property
    def classic_members(self) -> list[Member]:
        return [member for member in self.facts.members.values() if member.classic is not None]

    def supports_classic(self, protocol_type: str, protocols: Iterable[str]) -> bool:
        """Whether a classic member with these could be in the group: they share one with all
        classic members."""
        if protocol_type != PROTOCOL_TYPE:
            return False
        common = set(protocols)
        is_any = bool(common)
        for member in self.classic_members:
            assert member.classic is not None
            common &= {name for name, _ in member.classic.protocols}
        return is_any and bool(common)

    # --- replay ---------------------------------------------------------------------------

    def put_member(self, member: Member) -> None:
        facts = self.facts
        old = facts.members.get(member.id)
        facts.members[member.id] = member
        if member.instance_id is not None:
            facts.static[member.instance_id] = member.id
        if old is not None:
            self._let_go(old)
        for part in (*member.assigned, *member.revoking):
            facts.holders[part] = member.id

    def drop_member(self, member_id: str) -> None:
        facts = self.facts
        member = facts.members.pop(member_id, None)
        if member is None:
            return
        self._let_go(member)
        instance_id = member.instance_id
        if instance_id is not None and facts.static.get(instance_id) == member_id:
            del facts.static[instance_id]

    def drop_assignment(self, member_id: str) -> None:
        member = self.facts.members.get(member_id)
        if member is not None:
            self.put_member(
                msgspec.structs.replace(
                    member,
                    epoch=NO_EPOCH,
                    previous_epoch=NO_EPOCH,
                    state=MemberState.STABLE,
                    assigned={},
                    revoking={},
                )
            )

    def _let_go(self, member: Member) -> None:
        holders = self.facts.holders
        for part in (*member.assigned, *member.revoking):
            if holders.get(part) == member.id:
                del holders[part]


def metadata_hash(topics: Iterable[str], image: ClusterImage) -> int:
    """Of the topics that there are, with their partitions; 0 of none. Kafka's is another one, and
    its coordinator would assign once more when it reads ours."""
    known = [image.topics[name] for name in sorted(topics) if name in image.topics]
    if not known:
        return 0
    digest = blake2b(digest_size=8)
    for topic in known:
        digest.update(b"%d %b %d " % (len(topic.name), topic.id, len(topic.partitions)))
        digest.update(topic.name.encode())
    return int.from_bytes(digest.digest(), "big", signed=True)
