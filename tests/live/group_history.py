"""What the members of a group said, judged.

The lines of all members, in the order of CLOCK_MONOTONIC, are one history of the group. Pure.

skipped      a delivery began behind offsets that nobody had been given yet
ahead        an offset was committed that nobody had been given yet
went_back    after a rebalance an owner began below the last acknowledged commit of an owner. Who
             owns a partition no more may commit it still, as a client does that repeats a refused
             commit after it has joined again: what is higher does not bind the owner, and from
             what is lower it goes on, also before the answer to that commit is heard.
two_owners   two members were assigned one partition in one generation
overlaps     a partition was assigned while another member had not given it up: two at one time,
             as they see it. Legal where a member was fenced and had not heard of it yet.
recommits    a commit below the one acknowledged before it. A client may do it after a rebalance.

Delivery is at least once: what is delivered again is counted, not an anomaly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]


@dataclass
class Heard:
    """One line of one member."""

    at_ns: int
    member: str
    line: Line


@dataclass(frozen=True)
class Beginning:
    """A first record of an owner, below what was committed as far as it had been heard."""

    at_ns: int
    partition: int
    first: int
    told: str


@dataclass
class GroupHistory:
    """Partitions are 0 to `partitions` - 1, their first offset is 0."""

    partitions: int
    owned: dict[str, set[int]] = field(default_factory=dict)
    frontier: list[int] = field(default_factory=list)
    """Per partition; all offsets below were delivered to somebody."""
    committed: list[int] = field(default_factory=list)
    """Per partition, what was acknowledged last; 0 before the first."""
    generation: dict[str, int] = field(default_factory=dict)
    owners: dict[tuple[int, int], str] = field(default_factory=dict)
    """(generation, partition) -> member"""
    settled: list[int] = field(default_factory=list)
    """Per partition, what an owner committed last, or whoever went below it since."""
    floors: dict[tuple[str, int], int] = field(default_factory=dict)
    """(member, partition) -> what was settled when it was assigned, until its first record."""
    beginnings: list[Beginning] = field(default_factory=list)
    """Those of `went_back`, in its order."""
    changed_ns: int = 0
    """When the ownership changed last."""

    delivered: int = 0
    redelivered: int = 0
    assignments: int = 0
    revocations: int = 0
    commits: int = 0
    commits_failed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    skipped: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    two_owners: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    recommits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frontier = self.frontier or [0] * self.partitions
        self.committed = self.committed or [0] * self.partitions
        self.settled = self.settled or [0] * self.partitions

    @property
    def went_back(self) -> list[str]:
        return [each.told for each in self.beginnings]

    @property
    def is_sound(self) -> bool:
        return not (self.skipped or self.ahead or self.went_back or self.two_owners)

    def is_shared_by(self, members: int) -> bool:
        """True when each of so many owns something, and each partition has one owner."""
        sets = [owned for owned in self.owned.values() if owned]
        return (
            len(sets) == members
            and sum(map(len, sets)) == self.partitions
            and len(set().union(*sets)) == self.partitions
        )

    @property
    def is_even(self) -> bool:
        """Of those that own something, nobody has more than one more than another."""
        sizes = [len(owned) for owned in self.owned.values() if owned]
        return not sizes or max(sizes) - min(sizes) <= 1

    def take(self, heard: Heard) -> None:
        line, member = heard.line, heard.member
        match line["event"]:
            case "assigned":
                self._assigned(heard)
            case "revoked" | "lost":
                self._gone(heard, line["partitions"])
            case "leaving" | "stopped" | "ended":
                self._gone(heard, list(self.owned.get(member, ())), is_asked=True)
            case "generation":
                self._claim(member, line["generation"])
            case "records":
                for partition, first, last in line["runs"]:
                    self._records(heard, partition, first, last)
            case "committed":
                for partition, offset in line["offsets"].items():
                    self._committed(heard, int(partition), offset)
                self.commits += 1
            case "commit_failed":
                kind = str(line["error"]).split(":")[0][:60]
                self.commits_failed[kind] = self.commits_failed.get(kind, 0) + 1
            case "error":
                kind = str(line["error"])[:80]
                self.errors[kind] = self.errors.get(kind, 0) + 1

    def _assigned(self, heard: Heard) -> None:
        member = heard.member
        for partition in heard.line["partitions"]:
            for other, owned in self.owned.items():
                if other != member and partition in owned:
                    self.overlaps.append(f"{partition}: {other} and {member}")
            self.floors[member, partition] = self.settled[partition]
        self.owned.setdefault(member, set()).update(heard.line["partitions"])
        self.assignments += 1
        self.changed_ns = heard.at_ns
        self._claim(member, heard.line.get("generation", -1))

    def _claim(self, member: str, generation: int) -> None:
        """What a member owns, it owns in this generation."""
        if generation < 0:
            return
        self.generation[member] = generation
        for partition in self.owned.get(member, ()):
            owner = self.owners.setdefault((generation, partition), member)
            if owner != member:
                self.two_owners.append(f"{partition} in {generation}: {owner} and {member}")

    def _gone(self, heard: Heard, partitions: list[int], *, is_asked: bool = False) -> None:
        owned = self.owned.setdefault(heard.member, set())
        if owned & set(partitions):
            owned.difference_update(partitions)
            self.changed_ns = heard.at_ns
            self.revocations += not is_asked

    def _records(self, heard: Heard, partition: int, first: int, last: int) -> None:
        member, at = heard.member, self.frontier[partition]
        if first > at:
            self.skipped.append(f"{partition}: {member} went on at {first}, given were {at}")
        floor = self.floors.pop((member, partition), 0)
        if first < floor:
            told = f"{partition}: {member} began at {first}, committed was {floor}"
            self.beginnings.append(Beginning(heard.at_ns, partition, first, told))
        self.delivered += last + 1 - first
        self.redelivered += max(0, min(at, last + 1) - first)
        self.frontier[partition] = max(at, last + 1)

    def _committed(self, heard: Heard, partition: int, offset: int) -> None:
        member = heard.member
        if offset > self.frontier[partition]:
            given = self.frontier[partition]
            self.ahead.append(f"{partition}: {member} committed {offset}, given were {given}")
        if offset < self.committed[partition]:
            before = self.committed[partition]
            self.recommits.append(f"{partition}: {member} committed {offset} after {before}")
        self.committed[partition] = offset
        began_ns = heard.line.get("began_ns", heard.at_ns)
        self.beginnings = [
            each
            for each in self.beginnings
            if not (each.partition == partition and began_ns < each.at_ns and offset <= each.first)
        ]
        if offset < self.settled[partition]:
            self.settled[partition] = offset
            for key in self.floors.keys() & {(each, partition) for each in self.owned}:
                self.floors[key] = min(self.floors[key], offset)
        elif partition in self.owned.get(member, ()):
            self.settled[partition] = offset


def judge(heard: Iterable[Heard], partitions: int) -> GroupHistory:
    """The whole history, in the order in which it was."""
    history = GroupHistory(partitions)
    for each in sorted(heard, key=lambda one: one.at_ns):
        history.take(each)
    return history


def unowned_ms(heard: Iterable[Heard], partitions: int, from_ns: int, until_ns: int) -> float:
    """The longest time between the two in which some partition had no owner, in ms."""
    history = GroupHistory(partitions)
    longest = 0
    since: int | None = None
    for each in sorted(heard, key=lambda one: one.at_ns):
        history.take(each)
        is_whole = len(set().union(*history.owned.values())) == partitions
        if is_whole and since is not None:
            longest = max(longest, min(each.at_ns, until_ns) - max(since, from_ns))
            since = None
        elif not is_whole and since is None:
            since = each.at_ns
        if each.at_ns > until_ns:
            break
    return max(0, longest) / 1e6
