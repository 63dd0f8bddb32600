"""What members of consumer groups saw, and what must not be in it.

    two-owners       one partition assigned to two members in one generation
    lost-commit      a group was told an offset that an acknowledged commit had replaced, or none
    stale-commit     a commit of a generation was taken after one of a later generation
    skipped-record   an acknowledged commit stands above a record that no member had been given
    two-holders      a partition was given to a member while another held it (`ownership`)

In groups of the consumer protocol the epoch of a member stands for the generation: a partition
goes from one member to another in a later epoch.

Moments are places in one order of all that clients did and heard. A commit that was neither
acknowledged nor refused may have been taken at any time, until a commit of a later generation,
or a later one of its own generation, was acknowledged: coordinators refuse what is older.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kcluster.check import ownership
from kcluster.check.ownership import Ownership
from kcluster.model import TopicPartition

NEVER = -1
"""The committed offset of a partition that has none."""

Place = tuple[str, TopicPartition]
"""Of a group."""


@dataclass(slots=True)
class Committed:
    """One partition of one OffsetCommit."""

    member: str
    generation: int
    offset: int
    asked: int
    """Moment."""
    acknowledged: int | None = None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """One partition of an answer to OffsetFetch."""

    who: str
    offset: int
    asked: int
    answered: int


@dataclass(slots=True)
class GroupHistory:
    owners: dict[tuple[str, int, TopicPartition], set[str]] = field(default_factory=dict)
    """Members by (group, generation, partition)."""
    commits: dict[Place, list[Committed]] = field(default_factory=dict)
    reads: dict[Place, list[Read]] = field(default_factory=dict)
    given: dict[Place, dict[int, int]] = field(default_factory=dict)
    """The moment at which each offset was first given to a member."""
    ownership: Ownership = field(default_factory=Ownership)
    repeated: int = 0
    """Records given again: at least once allows it."""
    _moment: int = 0

    def moment(self) -> int:
        self._moment += 1
        return self._moment

    def assigned(
        self, group: str, generation: int, member: str, partitions: Sequence[TopicPartition]
    ) -> None:
        for tp in partitions:
            self.owners.setdefault((group, generation, tp), set()).add(member)

    def committing(self, place: Place, member: str, generation: int, offset: int) -> Committed:
        commit = Committed(member, generation, offset, self.moment())
        self.commits.setdefault(place, []).append(commit)
        return commit

    def read(self, place: Place, who: str, offset: int, asked: int) -> None:
        self.reads.setdefault(place, []).append(Read(who, offset, asked, self.moment()))

    def give(self, place: Place, offset: int) -> None:
        given = self.given.setdefault(place, {})
        if offset in given:
            self.repeated += 1
        else:
            given[offset] = self.moment()

    def last_known(self, place: Place) -> int:
        """The newest commit that was acknowledged, or told to somebody who asked. In which order
        that was heard tells nothing: a member that stood still hears an old answer late."""
        commits = self.commits.get(place, ())
        known = [commit for commit in commits if commit.acknowledged is not None]
        last_reads = {read.offset: read for read in self.reads.get(place, ())}
        for read in last_reads.values():
            # Of those that it may have told only the oldest is certain: the others may never have
            # been taken.
            told = min(_tellable(read, commits), key=_rank, default=None)
            if told is not None:
                known.append(told)
        newest = max(known, key=_rank, default=None)
        return NEVER if newest is None else newest.offset


def find(
    history: GroupHistory, known: Mapping[TopicPartition, Sequence[int]]
) -> Iterator[tuple[str, str]]:
    """(name, example) of each anomaly. `known`: offsets of the records of each partition."""
    for (group, generation, tp), members in sorted(history.owners.items()):
        if len(members) > 1:
            yield "two-owners", f"{group} generation {generation}: {tp} of {sorted(members)}"
    yield from ownership.find(history.ownership)
    for place, reads in sorted(history.reads.items()):
        commits = history.commits.get(place, [])
        for read in sorted(reads, key=lambda each: each.answered):
            if not _may_be_told(read, commits):
                yield "lost-commit", f"{place[0]} {place[1]}: {read} after {_newest(read, commits)}"
            _learn(read, commits)
    for place, commits in sorted(history.commits.items()):
        yield from _stale(place, commits)
        yield from _skipped(place, commits, history.given.get(place, {}), known)


def _stale(place: Place, commits: Sequence[Committed]) -> Iterator[tuple[str, str]]:
    newest: Committed | None = None
    """Of the latest generation, among those acknowledged before the commit that is looked at."""
    acknowledged = sorted(
        (commit for commit in commits if commit.acknowledged is not None),
        key=lambda commit: commit.acknowledged or 0,
    )
    at = 0
    for commit in sorted(acknowledged, key=lambda each: each.asked):
        while at < len(acknowledged) and (acknowledged[at].acknowledged or 0) < commit.asked:
            if newest is None or acknowledged[at].generation > newest.generation:
                newest = acknowledged[at]
            at += 1
        if newest is not None and newest.generation > commit.generation:
            yield "stale-commit", f"{place[0]} {place[1]}: {commit} after {newest}"


def _may_be_told(read: Read, commits: Sequence[Committed]) -> bool:
    """Some commit of this offset, or having none, is not replaced for certain."""
    if read.offset == NEVER:
        return not _acknowledged_before(read, commits)
    return any(True for _ in _tellable(read, commits))


def _tellable(read: Read, commits: Sequence[Committed]) -> Iterator[Committed]:
    """Those that a read may have told: of its offset, and not replaced for certain."""
    before = _acknowledged_before(read, commits)
    for commit in commits:
        if (
            commit.offset == read.offset
            and commit.asked < read.answered
            and not commit.is_refused
            and not any(_replaces(later, commit) for later in before)
        ):
            yield commit


def _acknowledged_before(read: Read, commits: Sequence[Committed]) -> list[Committed]:
    return [c for c in commits if c.acknowledged is not None and c.acknowledged < read.asked]


def _learn(read: Read, commits: Sequence[Committed]) -> None:
    """What was told is committed, also when its own acknowledgement got lost."""
    told = [
        commit
        for commit in commits
        if commit.offset == read.offset and commit.asked < read.answered and not commit.is_refused
    ]
    if len(told) == 1 and told[0].acknowledged is None:
        told[0].acknowledged = read.answered


def _replaces(later: Committed, earlier: Committed) -> bool:
    """An acknowledged commit certainly came behind another."""
    return _rank(later) > _rank(earlier)


def _rank(commit: Committed) -> tuple[int, int]:
    """The order in which commits that are taken come."""
    return commit.generation, commit.asked


def _newest(read: Read, commits: Sequence[Committed]) -> Committed | None:
    return max(_acknowledged_before(read, commits), key=_rank, default=None)


def _skipped(
    place: Place,
    commits: Sequence[Committed],
    given: Mapping[int, int],
    known: Mapping[TopicPartition, Sequence[int]],
) -> Iterator[tuple[str, str]]:
    offsets = known.get(place[1], ())
    at = 0
    latest, latest_offset = 0, NEVER
    """Of the records below: the one that was given to a member last."""
    for commit in sorted(commits, key=lambda each: each.offset):
        while at < len(offsets) and offsets[at] < commit.offset:
            moment = given.get(offsets[at])
            if moment is None:
                moment = 1 << 62
            if moment > latest:
                latest, latest_offset = moment, offsets[at]
            at += 1
        if commit.acknowledged is not None and latest > commit.asked:
            yield "skipped-record", f"{place[0]} {place[1]}@{latest_offset}: below {commit}"
