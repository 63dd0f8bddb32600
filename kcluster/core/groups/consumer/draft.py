"""What was decided about a consumer group: replayed at once, so that the next decision sees it,
appended as one batch, and undone when it cannot be appended.

with Draft(shard, group) as draft:
    draft.add(epoch_entry(...))         # the group has moved
    draft.commit(turn, done)            # or it is as before, and ApiError says why
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from kcluster.core.groups.consumer.group import ConsumerGroup, Facts
from kcluster.core.groups.consumer.records import Entry, replay
from kcluster.wire.group_records import encode_key, encode_value
from kcluster.wire.records import Record

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Done, Shard
    from kcluster.core.turn import Turn


class Draft:
    def __init__(self, shard: Shard, group: ConsumerGroup, before: Sequence[Record] = ()) -> None:
        """`before`: records of a classic group in whose place this one comes."""
        self.shard = shard
        self.group = group
        self.then: list[Callable[[Turn], None]] = []
        """What is done when it is appended."""
        self._before = list(before)
        self._entries: list[Entry] = []
        self._was: Facts | None = None

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        if self._was is not None:
            self.group.facts = self._was

    def add(self, *entries: Entry) -> None:
        group = self.group
        if self._was is None:
            self._was = group.facts
            group.facts = group.facts.copy()
        for key, value in entries:
            replay(group, key, value)
            self._entries.append((key, value))

    @property
    def has_records(self) -> bool:
        return bool(self._entries or self._before)

    def commit(self, turn: Turn, done: Done) -> None:
        """`done` is told when it is committed, and all that is known of the group with it. Raises
        ApiError; then nothing has happened."""
        shard, group = self.shard, self.group
        if self.has_records:
            batch = [*self._before, *encoded(self._entries, turn.wall_ms)]
            base_offset = shard.append(turn, batch, done)
            group.written_end = base_offset + len(batch)
            shard.groups[group.id] = group
        self._was = None
        for each in self.then:
            each(turn)
        if not self.has_records:
            shard.when_written(turn, group.written_end, done)


def encoded(entries: Iterable[Entry], wall_ms: int) -> list[Record]:
    return [
        Record(
            encode_value(value) if value is not None else None, encode_key(key), timestamp=wall_ms
        )
        for key, value in entries
    ]
