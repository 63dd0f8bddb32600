"""Small files of a cluster directory: replaced whole, or appended to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOG_BYTES_MAX = 8 << 20
"""A process's log is moved aside at its next start when it is larger."""


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Put a small file in place atomically: readers see the old or the new one, whole."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_log(path: Path) -> int:
    """A descriptor that appends to a process's log; a large old one is moved aside first."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
