"""What a group committed, partition by partition: what is durable, and what is on its way to be.

    slot    [entry, entry ...]      oldest first; each knows where in the log it lies

An entry is replayed at append, so that it is there for what is decided next, and shown once the
high watermark has passed it: until then readers see the one before. A deletion is an entry, too.
What a committed entry has replaced is forgotten with the next one, so a slot is as long as what
is on its way.

Sources: KIP-211 (expiry); Kafka's OffsetMetadataManager.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

DELETED: Final = -1
"""The offset of an entry that is a deletion."""


class Committed(msgspec.Struct, frozen=True, gc=False):
    """A position that was committed."""

    offset: int
    leader_epoch: int
    """-1 for none."""
    metadata: str
    commit_ms: int
    """Wall clock."""
    expire_ms: int = -1
    """Wall clock; -1 to go by the broker's retention."""
    log_offset: int = -1
    """Of its record in the log of `__consumer_offsets`."""


def deletion(log_offset: int) -> Committed:
    return Committed(DELETED, -1, "", -1, -1, log_offset)


Place = tuple[str, int]
"""(topic, partition)."""


class Expiry(NamedTuple):
    """Which offsets of a group may expire."""

    subscribed: set[str]
    """Topics whose offsets do not."""
    since_ms: int
    """Wall ms: they count from here, or from their commit if that is later; -1 for the commit."""


class Offsets:
    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: dict[Place, list[Committed]] = {}

    def __bool__(self) -> bool:
        """Whether there is any, or one is on its way."""
        return any(slot[-1].offset != DELETED for slot in self._slots.values())

    def replay(self, place: Place, entry: Committed, high_watermark: int) -> None:
        self._slots.setdefault(place, []).append(entry)
        self.settle(place, high_watermark)

    def load(self, place: Place, entry: Committed) -> None:
        """Replay of a log that is committed before anything of it is shown: the last one counts."""
        if entry.offset == DELETED:
            self._slots.pop(place, None)
        else:
            self._slots[place] = [entry]

    def settle(self, place: Place, high_watermark: int) -> Committed | None:
        """What is committed for `place`; forgets what that has replaced."""
        slot = self._slots.get(place)
        if slot is None:
            return None
        while len(slot) > 1 and slot[1].log_offset < high_watermark:
            del slot[0]
        first = slot[0]
        if first.log_offset >= high_watermark:
            return None
        if first.offset == DELETED:
            if len(slot) == 1:
                del self._slots[place]
            return None
        return first

    def committed(self, high_watermark: int) -> Iterator[tuple[Place, Committed]]:
        for place in list(self._slots):
            entry = self.settle(place, high_watermark)
            if entry is not None:
                yield place, entry

    def is_forgotten(self, high_watermark: int) -> bool:
        """Nothing is left, also not of what was committed before deletions on their way."""
        for place in list(self._slots):
            self.settle(place, high_watermark)
        return not self._slots

    def latest(self, place: Place) -> Committed:
        """Committed or not."""
        return self._slots[place][-1]

    def places(self) -> list[Place]:
        """Those that are not deleted, committed or not."""
        return [place for place, slot in self._slots.items() if slot[-1].offset != DELETED]

    def expired(self, expiry: Expiry | None, now_ms: int, retention_ms: int) -> list[Place]:
        """Those whose time is over (KIP-211). Wall clock."""
        if expiry is None:
            return []
        subscribed, since_ms = expiry
        due = []
        for place, slot in self._slots.items():
            entry = slot[-1]
            if entry.offset == DELETED or place[0] in subscribed:
                continue
            if entry.expire_ms >= 0:
                is_due = now_ms >= entry.expire_ms
            else:
                is_due = now_ms - max(entry.commit_ms, since_ms) >= retention_ms
            if is_due:
                due.append(place)
        return due
