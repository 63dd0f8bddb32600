"""A disk made of bytearrays: volatile until synced, and it remembers what a power cut would take.

Carries out the same operations as `world/disk.py` and passes the same conformance suite.
"""

from __future__ import annotations

import errno as errnos
from dataclasses import dataclass, field

from kcluster.core.turn import (
    Append,
    Delete,
    DiskOperation,
    Rename,
    Replace,
    Sync,
    Truncate,
)


@dataclass(slots=True)
class SimFile:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None
    """Content at the last sync; None when its name was never made durable."""


class SimDisk:
    """Files of one process. `Files` to its core; `perform` to `run_turn`."""

    def __init__(self) -> None:
        self.files: dict[str, SimFile] = {}
        self.fail_next: dict[str, int] = {}
        """errno by path, for the next write to it (a fault to inject)."""

    def read(self, path: str, position: int, size: int) -> bytes:
        file = self.files.get(path)
        return bytes(file.data[position : position + size]) if file is not None else b""

    def size(self, path: str) -> int:
        file = self.files.get(path)
        return len(file.data) if file is not None else -1

    def list(self, directory: str) -> list[str]:
        prefix = directory.rstrip("/") + "/" if directory not in ("", ".") else ""
        return sorted(
            {path[len(prefix) :].split("/", 1)[0] for path in self.files if path.startswith(prefix)}
        )

    def perform(self, operation: DiskOperation) -> int:
        """0 or an errno. A `Sync` is done at once here; its event is the caller's business."""
        match operation:
            case Append(path, position, _, buffers, _):
                if code := self.fail_next.pop(path, 0):
                    return code
                file = self.files.setdefault(path, SimFile())
                assert position <= len(file.data), "an append must not leave a hole"
                data = b"".join(buffers)
                file.data[position : position + len(data)] = data
            case Replace(path, data, durable):
                if code := self.fail_next.pop(path, 0):
                    return code
                old = self.files.get(path)
                content = bytearray(data)
                self.files[path] = SimFile(
                    content, bytes(content) if durable else (old.synced if old else None)
                )
            case Truncate(path, size):
                if path not in self.files:
                    return errnos.ENOENT
                del self.files[path].data[size:]
            case Rename(source, target):
                moved = [p for p in self.files if p == source or p.startswith(source + "/")]
                if not moved:
                    return errnos.ENOENT
                for path in moved:
                    self.files[target + path[len(source) :]] = self.files.pop(path)
            case Delete(path):
                for name in [p for p in self.files if p == path or p.startswith(path + "/")]:
                    del self.files[name]
            case Sync(path, _):
                if path not in self.files:
                    return errnos.ENOENT
                self.files[path].synced = bytes(self.files[path].data)
        return 0

    def lose_power(self) -> None:
        """Everything that was not synced is gone."""
        for path, file in list(self.files.items()):
            if file.synced is None:
                del self.files[path]
            else:
                file.data = bytearray(file.synced)
