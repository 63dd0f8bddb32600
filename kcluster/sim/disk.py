"""A disk made of bytearrays: volatile until synced, and it remembers what a power cut would take.

Carries out the same operations as `world/disk.py` and passes the same conformance suite. Two
views of the same files:

    files     what the running system sees (the page cache)      survives a kill
    durable   names and contents that reached the platter        survives a power cut

A sync makes one file's content and name durable, and deletions in its directory. A power cut
keeps that, and of everything newer an arbitrary part: pages of 4 KiB in any order, sectors of 512
bytes torn, names that were never synced or not, deletes forgotten or not, renames forgotten from
one on.
"""

from __future__ import annotations

import errno as errnos
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from kcluster.core.turn import (
    Append,
    Buffer,
    Delete,
    DiskOperation,
    Rename,
    Replace,
    Sync,
    Truncate,
    Volume,
)

PAGE_BYTES = 4096
SECTOR_BYTES = 512

Names = list[str]

Operation = Literal["sync", "roll", "replace", "truncate", "rename", "delete"]
"""What may fail by its kind; `roll` is the first append to the file of a segment."""


@dataclass(slots=True)
class SimFile:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None
    """Content at the last sync; None when there never was one."""
    stable: int = 0
    """Below this position `data` and `synced` are the same."""

    def sync(self, content: bytes) -> None:
        """`content` is what the file held when the sync began: newer bytes stay volatile."""
        stable = 0
        if self.data.startswith(content):
            stable = len(content)
        self.synced = content
        self.stable = stable


@dataclass(frozen=True, slots=True)
class Syncing:
    """A sync on its way: what it will have made durable when it ends."""

    path: str
    file: SimFile
    content: bytes
    gone: tuple[tuple[str, SimFile], ...] = ()
    """What else had been deleted in the directory, and is still there after a power cut."""


class SimDisk:
    """Files of one process. `Files` to its core; `perform` to `run_turn`."""

    def __init__(self, capacity_bytes: int = -1) -> None:
        self.files: dict[str, SimFile] = {}
        self.durable: dict[str, SimFile] = {}
        self.deleted: set[str] = set()
        """Names that are durable and that no sync has removed yet."""
        self.moves: list[tuple[str, str]] = []
        """Renames, oldest first, that no sync has made durable yet."""
        self.fail_next: dict[str, int] = {}
        """errno by path, for the next write to it (a fault to inject)."""
        self.fail_kind: dict[Operation, int] = {}
        """errno of the next operation of a kind."""
        self.short_next: dict[str, tuple[int, int]] = {}
        """(bytes that still get written, errno) by path, for the next append to it: what a full
        disk does to a pwritev, a torn record and an error at once."""
        self.failures = 0
        """Operations that failed by their kind."""
        self.broken: int = 0
        """errno of every write from now on, as of a dead device; 0 when it is well."""
        self.capacity_bytes = capacity_bytes
        """Writes beyond it end in ENOSPC; -1 for any."""

    # --- what a core reads ----------------------------------------------------------------

    def read(self, path: str, position: int, size: int) -> bytes:
        file = self.files.get(path)
        return bytes(file.data[position : position + size]) if file is not None else b""

    def size(self, path: str) -> int:
        file = self.files.get(path)
        return len(file.data) if file is not None else -1

    def list(self, directory: str) -> Names:
        prefix = directory.rstrip("/") + "/" if directory not in ("", ".") else ""
        return sorted(
            {path[len(prefix) :].split("/", 1)[0] for path in self.files if path.startswith(prefix)}
        )

    def volume(self) -> Volume:
        total = self.capacity_bytes
        return Volume("/sim", total, total - self.used_bytes() if total >= 0 else -1)

    def used_bytes(self) -> int:
        return sum(len(file.data) for file in self.files.values())

    # --- what a turn asks for -------------------------------------------------------------

    def perform(self, operation: DiskOperation) -> int:
        """0 or an errno. A `Sync` is done at once here; its event is the caller's business, and
        who wants it to take time uses `begin_sync` and `end_sync`."""
        match operation:
            case Append(path, position, _, buffers, _):
                return self._append(path, position, buffers)
            case Replace(path, data, durable):
                if code := self._failure(path, "replace"):
                    return code
                # The temporary file is synced before the rename only when asked to.
                file = SimFile(bytearray(data))
                self.files[path] = file
                if durable:
                    self.end_sync(Syncing(path, file, bytes(data)))
            case Truncate(path, size):
                file_ = self.files.get(path)
                if file_ is None:
                    return errnos.ENOENT
                if code := self._failure(path, "truncate"):
                    return code
                del file_.data[size:]
                file_.stable = min(file_.stable, size)
            case Rename(source, target):
                return self._rename(source, target)
            case Delete(path):
                if code := self._failure(path, "delete"):
                    return code
                for name in _below(self.files, path):
                    del self.files[name]
                    if name in self.durable:
                        self.deleted.add(name)
            case Sync(path, _):
                syncing = self.begin_sync(path)
                if isinstance(syncing, int):
                    return syncing
                self.end_sync(syncing)
        return 0

    def _append(self, path: str, position: int, buffers: Sequence[Buffer]) -> int:
        is_roll = position == 0 and path.endswith(".log")
        if code := self._failure(path, "roll" if is_roll else None):
            return code
        data = b"".join(buffers)
        file = self.files.setdefault(path, SimFile())
        assert position <= len(file.data), "an append must not leave a hole"
        room, code = self.short_next.pop(path, (len(data), 0))
        if self.capacity_bytes >= 0:
            free = self.capacity_bytes - self.used_bytes()
            if free < len(data) and free < room:
                room, code = max(free, 0), errnos.ENOSPC
        room = min(room, len(data))
        file.data[position : position + room] = data[:room]
        file.stable = min(file.stable, position)
        return code

    def _rename(self, source: str, target: str) -> int:
        moved = _below(self.files, source)
        if not moved:
            return errnos.ENOENT
        if code := self._failure(source, "rename"):
            return code
        if source not in self.files and self.list(target):
            return errnos.ENOTEMPTY
        for path in moved:
            self.files[target + path[len(source) :]] = self.files.pop(path)
        self.moves.append((source, target))
        return 0

    def _failure(self, path: str, kind: Operation | None) -> int:
        if self.broken:
            return self.broken
        if kind is not None and kind in self.fail_kind:
            self.failures += 1
            return self.fail_kind.pop(kind)
        return self.fail_next.pop(path, 0)

    def begin_sync(self, path: str) -> Syncing | int:
        """What a sync started now would make durable, or the errno of its failure. A failed one
        leaves the pages marked clean: no later sync brings them to the platter either, which is
        why a core must never try again."""
        file = self.files.get(path)
        if file is None:
            return errnos.ENOENT
        if code := self._failure(path, "sync"):
            return code
        return Syncing(path, file, bytes(file.data), self._deleted_beside(path))

    def _deleted_beside(self, path: str) -> tuple[tuple[str, SimFile], ...]:
        directory = path.rpartition("/")[0]
        return tuple(
            (name, self.durable[name])
            for name in sorted(self.deleted)
            if name in self.durable
            and name not in self.files
            and name.rpartition("/")[0] == directory
        )

    def end_sync(self, syncing: Syncing) -> None:
        """The content is durable, and so is the name of the file, if it still has it."""
        syncing.file.sync(syncing.content)
        for name, file in syncing.gone:
            self.deleted.discard(name)
            if self.durable.get(name) is file:
                del self.durable[name]
        path = syncing.path
        if self.files.get(path) is not syncing.file:
            return
        if self.moves:
            self._end_moves(path)
        if self.durable.get(path) is syncing.file:
            # No file has two durable names.
            return
        for name in [name for name, file in self.durable.items() if file is syncing.file]:
            del self.durable[name]
        self.durable[path] = syncing.file

    def _end_moves(self, path: str) -> None:
        """A rename that gave `path` its name, or that made room for it, is durable with it."""
        last = max(
            (
                index
                for index, names in enumerate(self.moves)
                if any(path == name or path.startswith(name + "/") for name in names)
            ),
            default=-1,
        )
        for source, target in self.moves[: last + 1]:
            self._move_durable(source, target)
        del self.moves[: last + 1]

    def _move_durable(self, source: str, target: str) -> None:
        for name in _below(self.durable, source):
            self.durable[target + name[len(source) :]] = self.durable.pop(name)

    # --- faults ---------------------------------------------------------------------------

    def lose_power(self, random: Random | None = None) -> None:
        """The machine goes dark. Without `random` everything that was not synced is gone; with
        it, what survives of that is drawn."""
        after: dict[str, SimFile] = {}
        if random is None:
            names = dict(self.durable)
        else:
            for source, target in self.moves[: random.randint(0, len(self.moves))]:
                self._move_durable(source, target)
            names = {}
            homes = {id(file): path for path, file in self.durable.items()}
            alive = {id(file) for file in self.files.values()}
            for path in sorted(self.durable.keys() | self.files.keys()):
                old, new = self.durable.get(path), self.files.get(path)
                # A rename is done or forgotten, in the order of all: what has a durable name is
                # never under two, nor under none.
                if homes.get(id(new), path) != path or (new is None and id(old) in alive):
                    new = old
                kept = new if old is None or (new is not old and random.random() < 0.5) else old
                if old is None and random.random() < 0.5:
                    kept = None
                if kept is not None:
                    names[path] = kept
        for path, file in names.items():
            content = file.synced or b""
            if random is not None:
                content = _torn(file, random)
            after[path] = SimFile(bytearray(content), content, len(content))
        self.files = after
        self.durable = dict(after)
        self.deleted.clear()
        self.moves.clear()
        self.fail_next.clear()
        self.fail_kind.clear()
        self.short_next.clear()

    def mend(self) -> None:
        """Whatever was to fail does not."""
        self.capacity_bytes = -1
        self.broken = 0
        self.fail_next.clear()
        self.fail_kind.clear()
        self.short_next.clear()

    def remove(self, path: str) -> None:
        """A file is lost for good, by no operation of its process."""
        self.files.pop(path, None)
        self.durable.pop(path, None)


def _below(files: dict[str, SimFile], path: str) -> list[str]:
    """`path` itself and what is in it when it is a directory. Directories are one deep."""
    if path in files or "/" in path:
        return [path] if path in files else []
    return [name for name in files if name == path or name.startswith(path + "/")]


def _torn(file: SimFile, random: Random) -> bytes:
    """The synced content with an arbitrary part of what came after it: each page old, new,
    torn within, or never written (zeros)."""
    old, new = file.synced or b"", bytes(file.data)
    if len(old) == len(new) == file.stable:
        return old
    length = random.choice(
        [len(old), len(new), random.randint(min(len(old), len(new)), max(len(old), len(new)))]
    )
    length = max(length, file.stable)
    out = bytearray(old[: file.stable])
    while len(out) < length:
        start = len(out)
        end = min((start // PAGE_BYTES + 1) * PAGE_BYTES, length)
        zeros = bytes(end - start)
        page_old = (old[start:end] + zeros)[: end - start]
        page_new = (new[start:end] + zeros)[: end - start]
        chance = random.random()
        if chance < 0.5:
            out += page_new
        elif chance < 0.8:
            out += page_old
        else:
            tear = random.randrange(end - start + 1) // SECTOR_BYTES * SECTOR_BYTES
            out += page_new[:tear] + page_old[tear:]
    return bytes(out)
