"""The journal of events: lines of JSON in two files of bounded size, the older one aside.

    events.jsonl      grows; at its bound it becomes
    events.1.jsonl    and the one before that is gone

Not synced: it tells what happened, and decides nothing. A line that a crash has torn is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from kcluster.wire.events import ClusterEvent, from_line, to_line

FILES = ("events.1.jsonl", "events.jsonl")
"""The older one first."""

FILE_BYTES = 8 << 20

TAIL_BYTES = 256 << 10
"""More than any line has."""


class Journal:
    """Appends. Reading needs none: `read_events`."""

    def __init__(self, directory: Path, *, file_bytes: int = FILE_BYTES) -> None:
        self._path = directory / FILES[1]
        self._file_bytes = file_bytes
        self.next_seq = _last_seq(directory) + 1
        self._open()
        if self._size and not self._ends_with_a_line():
            os.write(self._fd, b"\n")

    def append(self, events: Sequence[ClusterEvent]) -> None:
        data = b"".join(map(to_line, events))
        if self._size and self._size + len(data) > self._file_bytes:
            self._turn_over()
        try:
            self._size += os.write(self._fd, data)
        except OSError:
            # A full disk must not stop the supervisor that tells of it.
            return

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o644)
        self._size = os.fstat(self._fd).st_size

    def _ends_with_a_line(self) -> bool:
        return os.pread(self._fd, 1, self._size - 1) == b"\n"

    def _turn_over(self) -> None:
        try:
            self._path.replace(self._path.with_name(FILES[0]))
            os.close(self._fd)
            self._open()
        except OSError:
            self._size = 0


def _last_seq(directory: Path) -> int:
    """0 when there is none. Only the ends of the files are looked at: a start is not to wait."""
    for name in reversed(FILES):
        try:
            with (directory / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            continue
        for line in reversed(lines):
            try:
                return from_line(line).seq
            except msgspec.DecodeError:
                continue
    return 0


def read_events(directory: Path) -> Iterator[ClusterEvent]:
    """All that is kept, oldest first."""
    for name in FILES:
        try:
            file = (directory / name).open("rb")
        except FileNotFoundError:
            continue
        with file:
            for line in file:
                try:
                    yield from_line(line)
                except msgspec.DecodeError:
                    continue
