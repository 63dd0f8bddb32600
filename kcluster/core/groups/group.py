"""One classic group: its states, its members, and the protocol that they agree on.

                  a member joins
      .--> EMPTY -----------------> PREPARING_REBALANCE <-----------.
      |      |                        |    all have joined          | a member joins anew, leaves
      |      |                        |    (or the time is over)    | or falls silent
      |      | deleted, expired       v                             |
      |      v                      COMPLETING_REBALANCE -----------+
      |    DEAD                       |    the leader's assignment  |
      |                               |    is committed             |
      |                               v                             |
      '--- nobody has joined        STABLE -------------------------'
           (from PREPARING)

    state                  join            sync            heartbeat       commit
    EMPTY                  a member        no member       no member       without a member only
    PREPARING_REBALANCE    waits           rejoin          rejoin          taken, or rejoin
    COMPLETING_REBALANCE   as before, or   waits for the   taken           rejoin
                           a rebalance     leader's
    STABLE                 as before, or   the assignment  taken           taken
                           a rebalance
    DEAD                   another coordinator has it, or it is gone

Each generation is one pass through PREPARING_REBALANCE; whatever names an older one is refused
(ILLEGAL_GENERATION), so that within a generation a partition has one owner. A commit is taken of
a generation whose assignment is committed: the next coordinator would count others from what the
log names, and take an older generation's commit after it (Kafka's does).

Sources: KIP-62, KIP-345 (static members), KIP-394 (member ids); Kafka's ClassicGroup.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from kcluster.core.groups.offsets import Expiry, Offsets
from kcluster.core.purgatory import Waiter
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, ErrorCode, RemoteProtocolError
from kcluster.wire.consumer_protocol import PROTOCOL_TYPE, decode_subscription
from kcluster.wire.messages.join_group import JoinGroupResponse
from kcluster.wire.messages.sync_group import SyncGroupResponse

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Shard

R = TypeVar("R")
AnswerJoin = Callable[[Turn, JoinGroupResponse], None]
AnswerSync = Callable[[Turn, SyncGroupResponse], None]
Protocols = tuple[tuple[str, bytes], ...]
"""(name, metadata) in the order of the member's preference."""

NO_GENERATION: Final = -1

ASKED_MAX: Final = 16
"""Questions of one member for one join or sync that are answered together."""


class GroupState(enum.Enum):
    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_E, _P, _C, _S, _D = GroupState

MAY_FOLLOW: Final[dict[GroupState, frozenset[GroupState]]] = {
    _E: frozenset({_P, _D}),
    _P: frozenset({_E, _C, _D}),
    _C: frozenset({_P, _S, _D}),
    _S: frozenset({_P, _D}),
    _D: frozenset(),
}


class Terms(NamedTuple):
    """What a client says of itself when it joins."""

    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: Protocols


class Member(Waiter):
    """One member; its deadline is that of its session."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "group",
        "id",
        "instance_id",
        "is_new",
        "join",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "shard",
        "sync",
    )

    def __init__(
        self,
        shard: Shard,
        group: Group,
        id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        session_timeout_ms: int,
        rebalance_timeout_ms: int,
        protocols: Protocols,
    ) -> None:
        self.due_ms = 0
        self.shard = shard
        self.group = group
        self.id = id
        self.instance_id = instance_id
        """Of a static member, which keeps its place over a restart; else None."""
        self.client_id = client_id
        self.client_host = client_host
        self.session_timeout_ms = session_timeout_ms
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.protocols = protocols
        self.assignment = b""
        self.join: AnswerJoin | None = None
        """Waits for the end of the rebalance."""
        self.sync: AnswerSync | None = None
        """Waits for the leader's assignment."""
        self.is_new = False
        """It has not been told its id yet: a client that went away while it waited cannot be
        heard to be silent, so it waits for `NEW_MEMBER_JOIN_MS` at most."""

    def supports(self, protocol: str | None) -> bool:
        return any(name == protocol for name, _ in self.protocols)

    def metadata(self, protocol: str | None) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    @property
    def terms(self) -> Terms:
        return Terms(
            self.client_id,
            self.client_host,
            self.session_timeout_ms,
            self.rebalance_timeout_ms,
            self.protocols,
        )

    def expire(self, turn: Turn) -> None:
        self.shard.member_fell_silent(self, turn)


def ask_again(asked: Callable[[Turn, R], None] | None, more: Callable[[Turn, R], None]) -> Asked[R]:
    """What answers both, in the order in which they were asked."""
    assert not is_asked_enough(asked)
    earlier = asked.answers if isinstance(asked, Asked) else [asked] if asked is not None else []
    return Asked([*earlier, more])


def is_asked_enough(asked: object) -> bool:
    """Whoever asks now is to be answered alone, and those before at once."""
    return isinstance(asked, Asked) and len(asked.answers) >= ASKED_MAX


class Asked(Generic[R]):
    """One question, asked several times while it waits. KafkaJS joins once for each broker that
    it fetches from, all on one connection; Kafka serves a connection's requests one by one, so
    that each of them gets the answer of the generation."""

    __slots__ = ("answers",)

    def __init__(self, answers: list[Callable[[Turn, R], None]]) -> None:
        self.answers = answers

    def __call__(self, turn: Turn, response: R) -> None:
        for answer in self.answers:
            answer(turn, response)


class PendingMember(Waiter):
    """An id that was handed out by MEMBER_ID_REQUIRED and has not come back (KIP-394)."""

    __slots__ = ("group", "id", "shard")

    def __init__(self, shard: Shard, group: Group, id: str) -> None:
        self.due_ms = 0
        self.shard = shard
        self.group = group
        self.id = id

    def expire(self, turn: Turn) -> None:
        self.shard.pending_member_fell_silent(self, turn)


class Group:
    TYPE: Final = "classic"

    def __init__(self, id: str) -> None:
        self.id = id
        self.state = GroupState.EMPTY
        self.state_since_ms = -1
        """Wall ms of the last change of state: what expiry of an empty group counts from."""
        self.generation = 0
        self.protocol_type = ""
        """Empty for a group that only keeps offsets, of consumers that assign for themselves."""
        self.protocol: str | None = None
        """Chosen for this generation."""
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        """In the order in which they joined."""
        self.static: dict[str, str] = {}
        """{instance id: member id}; invariant: the member is in `members`."""
        self.pending: dict[str, PendingMember] = {}
        self.not_synced: set[str] = set()
        """Members that were answered their join, and have not asked for their assignment."""
        self.assigned = NO_GENERATION
        """The generation whose assignment was handed in: there is one, whoever asks again."""
        self.settled = 0
        """The last generation that the log is certain to name: its assignment is committed, or it
        was loaded. 0 of a group without any."""
        self.deadline: Waiter | None = None
        """Of the join phase, or of the sync phase."""
        self.is_initial = False
        """The join phase of a group that was empty: it waits for others to come."""
        self.offsets = Offsets()
        self._supporters: Counter[str] = Counter()
        """{protocol: members that support it}"""

    def __repr__(self) -> str:
        return f"Group({self.id}, {self.state.value}, generation {self.generation})"

    # --- states ---------------------------------------------------------------------------

    def enter(self, state: GroupState, wall_ms: int) -> None:
        assert state in MAY_FOLLOW[self.state], (self, state)
        self.state = state
        self.state_since_ms = wall_ms

    @property
    def is_empty(self) -> bool:
        return self.state is GroupState.EMPTY

    @property
    def is_stable(self) -> bool:
        return self.state is GroupState.STABLE

    @property
    def is_unused(self) -> bool:
        """Without members, pending ones, offsets or generation: it was never more than a
        question, or it is deleted. Nobody is told of it."""
        return (
            self.is_empty
            and not self.members
            and not self.pending
            and not self.offsets
            and not self.generation
        )

    @property
    def may_rebalance(self) -> bool:
        return GroupState.PREPARING_REBALANCE in MAY_FOLLOW[self.state]

    def next_generation(self, wall_ms: int) -> None:
        """The join phase is over: who has joined is in it."""
        self.generation = self.generation + 1 & 0x7FFFFFFF
        if self.members:
            self.protocol = self.choose_protocol()
            self.enter(GroupState.COMPLETING_REBALANCE, wall_ms)
        else:
            self.protocol = None
            self.leader = None
            self.enter(GroupState.EMPTY, wall_ms)

    # --- members --------------------------------------------------------------------------

    def add(self, member: Member) -> None:
        if self.leader is None:
            self.leader = member.id
        self.members[member.id] = member
        self._supporters.update({name for name, _ in member.protocols})
        if member.instance_id is not None:
            self.static[member.instance_id] = member.id

    def remove(self, member: Member) -> None:
        del self.members[member.id]
        self._supporters.subtract({name for name, _ in member.protocols})
        self.not_synced.discard(member.id)
        if member.instance_id is not None and self.static.get(member.instance_id) == member.id:
            del self.static[member.instance_id]
        if self.leader == member.id:
            self.leader = next(iter(self.members), None)

    def change_terms(self, member: Member, terms: Terms) -> None:
        self._supporters.subtract({name for name, _ in member.protocols})
        member.client_id, member.client_host = terms.client_id, terms.client_host
        member.session_timeout_ms = terms.session_timeout_ms
        member.rebalance_timeout_ms = terms.rebalance_timeout_ms
        member.protocols = terms.protocols
        self._supporters.update({name for name, _ in terms.protocols})

    def replace_static(self, instance_id: str, new_id: str) -> Member:
        """The same static member under a new id: it keeps its place in the order."""
        old_id = self.static[instance_id]
        member = self.members[old_id]
        self.members = {
            (new_id if id == old_id else id): known for id, known in self.members.items()
        }
        self.static[instance_id] = member.id = new_id
        self.not_synced.discard(old_id)
        if self.leader == old_id:
            self.leader = new_id
        return member

    def find(self, member_id: str, instance_id: str | None) -> Member:
        """The member that a request names. Raises ApiError UNKNOWN_MEMBER_ID, and
        FENCED_INSTANCE_ID when another has taken its instance's place (KIP-345)."""
        if instance_id is not None:
            current = self.static.get(instance_id)
            if current is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
            if current != member_id:
                raise ApiError(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    @property
    def has_all_joined(self) -> bool:
        return not self.pending and all(member.join for member in self.members.values())

    def elect_joined_leader(self) -> bool:
        """Have a leader that has joined; whether there is one."""
        leader = self.members.get(self.leader) if self.leader is not None else None
        if leader is not None and leader.join is not None:
            return True
        for member in self.members.values():
            if member.join is not None:
                self.leader = member.id
                return True
        return False

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((m.rebalance_timeout_ms for m in self.members.values()), default=0)

    # --- protocols ------------------------------------------------------------------------

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member with these could be in the group."""
        if not protocol_type or not protocols:
            return False
        if not self.members:
            return True
        return protocol_type == self.protocol_type and any(
            self._is_common(name) for name, _ in protocols
        )

    def _is_common(self, protocol: str) -> bool:
        """Whether every member supports it."""
        return self._supporters[protocol] == len(self.members)

    def choose_protocol(self) -> str:
        """Each member votes for the first of its list that all support; the most votes win, and
        among equals the one that was voted for first."""
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = next(name for name, _ in member.protocols if self._is_common(name))
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    def subscribed_topics(self) -> set[str] | None:
        """Topics that consumers of this generation subscribe to; None when their metadata does
        not tell."""
        if not self.members:
            return set()
        if self.protocol_type != PROTOCOL_TYPE or self.protocol is None:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            try:
                topics.update(decode_subscription(member.metadata(self.protocol)).topics)
            except RemoteProtocolError:
                return None
        return topics

    def expiry(self) -> Expiry | None:
        """Of a stable group, offsets of topics that nobody in it subscribes to; of an empty one,
        so long after it became empty; of one that never had members, so long after the commit.
        Between two generations none (KIP-211)."""
        subscribed = self.subscribed_topics() if self.is_empty or self.is_stable else None
        if subscribed is None:
            return None
        is_left = self.is_empty and bool(self.protocol_type)
        return Expiry(subscribed, self.state_since_ms if is_left else -1)

    # --- who waits ------------------------------------------------------------------------

    def waiting_syncs(self) -> Iterable[Member]:
        return [member for member in self.members.values() if member.sync is not None]
