"""The sink of traces: one line each, `<wall ms> <text>`, in the process's log file.

Lines of one turn are one write(2) to a file opened for appending, so that several writers
(a traceback on stderr sent to the same file) never tear a line. The file is bounded: at
`size_max` it becomes `<path>.1`, and the one before that is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOG_BYTES = 8 << 20


class TraceLog:
    def __init__(self, path: str | Path, *, size_max: int = LOG_BYTES) -> None:
        """`size_max` in bytes, for each of at most two files."""
        self.path = Path(path)
        self._size_max = size_max
        self._fd = -1
        self._size = 0
        self._open()

    def write(self, wall_ms: int, traces: Iterable[Any]) -> None:
        """Each as `str()` shows it; line ends within it are escaped."""
        if self._fd < 0:
            return
        text = "".join(f"{wall_ms} {_one_line(str(trace))}\n" for trace in traces)
        data = text.encode("utf-8", "backslashreplace")
        if self._size and self._size + len(data) > self._size_max:
            self._rotate()
        try:
            self._size += os.write(self._fd, data)
        except OSError:
            # A log that cannot be written (disk full) must not stop the broker that tells it.
            return

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o644)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        try:
            self.path.rename(self.path.with_name(self.path.name + ".1"))
            os.close(self._fd)
            self._open()
        except OSError:
            self._size = 0


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
