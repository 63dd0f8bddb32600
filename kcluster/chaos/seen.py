"""What readers were given, by partition: one number an offset, eight bytes each.

Each reader has a position of its own in each partition, from the moment it is given it: an
offset at or below is given again, one above the next is a gap, which is looked into when it is
known what the log holds there. Pure; the readers share it under its lock.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from typing import Final

from kcluster.chaos.workload import EMPTY

NOTES_MAX: Final = 1_000
"""Findings of one kind that are kept of one partition."""


@dataclass(frozen=True, slots=True)
class Note:
    """`reader` was given `offset` where `expected` was next."""

    reader: str
    expected: int
    offset: int


class Seen:
    """Of one partition, from `begin_offset` on."""

    def __init__(self, begin_offset: int, offsets_max: int = 1_000_000) -> None:
        """What is read behind `offsets_max` offsets is not judged."""
        self._offsets_max = offsets_max
        self.begin_offset = begin_offset
        self.tokens = array("q")
        """By offset, EMPTY where nobody was given anything."""
        self.next_offset = begin_offset
        """Exclusive end of what any reader was given."""
        self.repeated = 0
        """Records given again: at least once allows it, to another reader."""
        self.backwards: list[Note] = []
        self.gaps: list[Note] = []
        self.changed: list[tuple[int, int, int]] = []
        """(offset, token, token): one offset was read twice, with two values."""
        self.is_cut = False
        """It was more than is judged."""
        self._positions: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, reader: str) -> None:
        """It is given the partition: it may begin anywhere."""
        with self._lock:
            self._positions.pop(reader, None)

    def position(self, reader: str) -> int:
        """Where it goes on."""
        return self._positions.get(reader, self.begin_offset)

    def give(self, reader: str, offset: int, token: int) -> None:
        with self._lock:
            expected = self._positions.get(reader, offset)
            if offset < expected:
                _keep(self.backwards, Note(reader, expected, offset))
            elif offset > expected:
                _keep(self.gaps, Note(reader, expected, offset))
            self._positions[reader] = max(expected, offset + 1)
            self.next_offset = max(self.next_offset, offset + 1)
            self._write(offset - self.begin_offset, token)

    def _write(self, index: int, token: int) -> None:
        tokens = self.tokens
        if index < 0:
            return
        if index >= self._offsets_max:
            self.is_cut = True
            return
        if index >= len(tokens):
            tokens.extend([EMPTY] * (index - len(tokens)))
            tokens.append(token)
            return
        before = tokens[index]
        if before == EMPTY:
            tokens[index] = token
            return
        self.repeated += 1
        if before != token and len(self.changed) < NOTES_MAX:
            self.changed.append((index + self.begin_offset, before, token))


def _keep(notes: list[Note], note: Note) -> None:
    if len(notes) < NOTES_MAX:
        notes.append(note)
