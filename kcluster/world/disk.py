"""Files of one process: the operations of a turn, carried out with pwritev and rename.

Descriptors live in one bounded cache, by path. Whoever still needs a file whose path has changed
or whose entry was evicted (a reply on its way to a slow reader, a sync in its thread) holds its
`OpenFile`, and the descriptor is closed with the last reference to it.

What a process handed to `write(2)` survives its kill; only `Sync` and a durable `Replace` survive
a power cut. Syncs run in threads, because they wait for the device; everything else is done in
the loop's thread: a write to the page cache is faster than the way to a thread and back.

A name is data of its directory: the first sync of a file in this incarnation, and the first
after it was created or renamed, syncs the directories above it too (invariant 18).
"""

from __future__ import annotations

import errno as errnos
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kcluster.core.turn import (
    Append,
    Buffer,
    Delete,
    DiskOperation,
    Rename,
    Replace,
    Sync,
    Synced,
    Truncate,
    Volume,
)
from kcluster.errors import DiskError
from kcluster.world import platform

OPEN_FILES = 1000
"""Descriptors kept open; the least recently used is closed first."""

SYNC_THREADS = 4

BUFFERS_PER_WRITE = 1024
"""IOV_MAX of Linux and macOS."""

TEMPORARY = ".tmp"
"""Suffix of a file that a `Replace` has not put in place yet."""


class OpenFile:
    """A descriptor that is closed when nothing refers to it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class RealDisk:
    """`Files` to a core and `perform` to `run_turn`, below one directory."""

    def __init__(
        self,
        root: str,
        *,
        call_in_loop: Callable[..., Any] | None = None,
        open_files_max: int = OPEN_FILES,
        portable: bool = False,
    ) -> None:
        """Paths are relative to `root`, which is made when missing. `call_in_loop` is
        `loop.call_soon_threadsafe`; without it a `Sync` is carried out at once."""
        self.root = root
        self.on_synced: Callable[[Synced], None] | None = None
        """Takes the end of every `Sync`, in the loop's thread."""
        self._prefix = os.path.join(root, "")
        self._call_in_loop = call_in_loop
        self._portable = portable
        self._files: dict[str, OpenFile] = {}
        """By path, the least recently used first."""
        self._open_files_max = open_files_max
        self._durable_names: set[str] = set()
        self._deleted_in: set[str] = set()
        """Directories whose deletions are not known to be durable."""
        self._name_changes = 0
        """Counts creations, renames and deletions: a sync that one of them overtook does not
        vouch for any name."""
        self._syncs: dict[str, deque[Sync]] = {}
        """Of each file the syncs that are in flight (the first) and that wait for it."""
        self._threads: ThreadPoolExecutor | None = None
        os.makedirs(root, exist_ok=True)

    # --- Files ----------------------------------------------------------------------------

    def read(self, path: str, position: int, size: int) -> bytes:
        """Raises DiskError when the disk refuses."""
        try:
            file = self.open(path)
            return os.pread(file.fd, size, position)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            raise DiskError(error.errno or errnos.EIO, path, "read") from error

    def size(self, path: str) -> int:
        try:
            status = os.stat(self._prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        except OSError as error:
            raise DiskError(error.errno or errnos.EIO, path, "stat") from error
        return status.st_size if stat.S_ISREG(status.st_mode) else -1

    def list(self, directory: str) -> list[str]:
        """Also what the process before this one left half done (`*.tmp`)."""
        try:
            return sorted(os.listdir(self._prefix + directory))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise DiskError(error.errno or errnos.EIO, directory, "list") from error

    def volume(self) -> Volume:
        try:
            status = os.statvfs(self.root)
        except OSError:
            return Volume(os.path.abspath(self.root), -1, -1)
        block = status.f_frsize
        return Volume(os.path.abspath(self.root), status.f_blocks * block, status.f_bavail * block)

    def open(self, path: str) -> OpenFile:
        """The file, for reading and writing. Raises FileNotFoundError and other OSErrors."""
        file = self._files.pop(path, None)
        if file is None:
            file = OpenFile(os.open(self._prefix + path, os.O_RDWR | os.O_CLOEXEC))
            self._keep(path, file)
        else:
            self._files[path] = file
        return file

    # --- operations -----------------------------------------------------------------------

    def perform(self, operation: DiskOperation) -> int:
        """0, or the errno of the failure. A `Sync` only starts.

        The one point through which every change of a file goes: faults are injected here.
        """
        try:
            match operation:
                case Append(path, position, _, buffers, _):
                    self._append(path, position, buffers)
                case Replace(path, data, durable):
                    self._replace(path, data, durable)
                case Truncate(path, size):
                    file = self.open(path)
                    if os.fstat(file.fd).st_size > size:
                        os.ftruncate(file.fd, size)
                case Rename(source, target):
                    self._rename(source, target)
                case Delete(path):
                    self._delete(path)
                case Sync(path, _):
                    self._sync(operation)
        except OSError as error:
            return error.errno or errnos.EIO
        return 0

    def close(self) -> None:
        """Wait for the syncs in flight, then let go of all files. Safe to call twice."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            self._threads = None
        self._files.clear()

    def _append(self, path: str, position: int, buffers: Sequence[Buffer]) -> None:
        try:
            file = self.open(path)
        except FileNotFoundError:
            file = self._create(path)
        fd = file.fd
        if len(buffers) == 1:
            done = os.pwrite(fd, buffers[0], position)
            if done < len(buffers[0]):
                self._write_all(fd, buffers, position, done)
        else:
            self._write_all(fd, buffers, position, 0)

    def _write_all(self, fd: int, buffers: Sequence[Buffer], position: int, done: int) -> None:
        """Go on after the first `done` bytes until all is written. A short write is the kernel
        saying that the next one will tell why (a full disk, a limit): so ask again."""
        waiting = deque(memoryview(buffer) for buffer in buffers)
        total = sum(len(buffer) for buffer in buffers)
        position += done
        skip = done
        while done < total:
            while skip >= len(waiting[0]):
                skip -= len(waiting.popleft())
            if skip:
                waiting[0] = waiting[0][skip:]
            some = [waiting[n] for n in range(min(len(waiting), BUFFERS_PER_WRITE))]
            skip = platform.write_at(fd, some, position, portable=self._portable)
            if skip == 0:
                raise OSError(errnos.ENOSPC, "the disk takes no more bytes")
            done += skip
            position += skip

    def _replace(self, path: str, data: Buffer, durable: bool) -> None:
        temporary = path + TEMPORARY
        file = self._create(temporary, os.O_TRUNC)
        try:
            self._write_all(file.fd, [data], 0, 0)
            if durable:
                os.fsync(file.fd)
            os.rename(self._prefix + temporary, self._prefix + path)
        except OSError:
            self._forget_file(temporary)
            raise
        self._forget_file(path)
        self._files.pop(temporary, None)
        self._keep(path, file)
        if durable:
            for name in _names_above(path, self._durable_names):
                self._sync_directory_of(name)
                self._durable_names.add(name)

    def _rename(self, source: str, target: str) -> None:
        try:
            os.rename(self._prefix + source, self._prefix + target)
        except FileNotFoundError:
            if not os.path.lexists(self._prefix + source):
                raise
            os.makedirs(os.path.dirname(self._prefix + target), exist_ok=True)
            os.rename(self._prefix + source, self._prefix + target)
        if not os.path.isdir(self._prefix + target):
            # Compaction and retention rename hundreds: no look at all the names that there are.
            self._forget_file(target)
            file = self._files.pop(source, None)
            if file is not None:
                self._files[target] = file
            self._forget_file(source)
            return
        # What had the target's name has none any more; what was below the source has moved.
        self._forget(target)
        below = source + "/"
        moved = [p for p in self._files if p == source or p.startswith(below)]
        for path in moved:
            self._files[target + path[len(source) :]] = self._files.pop(path)
        self._forget(source)

    def _delete(self, path: str) -> None:
        if os.path.isdir(self._prefix + path):
            self._forget(path)
        else:
            self._forget_file(path)
            self._deleted_in.add(os.path.dirname(path))
        _delete_tree(self._prefix + path)

    def _create(self, path: str, flags: int = 0) -> OpenFile:
        full = self._prefix + path
        flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            file = OpenFile(os.open(full, flags, 0o644))
        except FileNotFoundError:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            file = OpenFile(os.open(full, flags, 0o644))
        self._name_changes += 1
        self._durable_names.discard(path)
        self._keep(path, file)
        return file

    def _keep(self, path: str, file: OpenFile) -> None:
        while len(self._files) >= self._open_files_max:
            del self._files[next(iter(self._files))]
        self._files[path] = file

    def _forget_file(self, path: str) -> None:
        """The name means nothing any more; there are none below it."""
        self._name_changes += 1
        self._files.pop(path, None)
        self._durable_names.discard(path)

    def _forget(self, path: str) -> None:
        """The name, and all names below it, mean nothing any more."""
        self._forget_file(path)
        below = path + "/"
        for name in [p for p in self._files if p.startswith(below)]:
            del self._files[name]
        for name in [p for p in self._durable_names if p.startswith(below)]:
            self._durable_names.discard(name)

    # --- syncs ----------------------------------------------------------------------------

    def _sync(self, operation: Sync) -> None:
        file = self.open(operation.path)
        queue = self._syncs.get(operation.path)
        if queue is not None:
            queue.append(operation)
            return
        self._syncs[operation.path] = deque([operation])
        self._start_sync(operation, file)

    def _start_sync(self, operation: Sync, file: OpenFile) -> None:
        names = _names_above(operation.path, self._durable_names)
        if not names and os.path.dirname(operation.path) in self._deleted_in:
            names = [operation.path]
        changes = self._name_changes
        if self._call_in_loop is None:
            self._sync_ended(operation, names, changes, self._sync_now(file, names))
            return
        call_in_loop = self._call_in_loop

        def work() -> None:
            errno = self._sync_now(file, names)
            try:
                call_in_loop(self._sync_ended, operation, names, changes, errno)
            except RuntimeError:
                # The loop was closed while the device was busy: nobody waits any more.
                return

        if self._threads is None:
            self._threads = ThreadPoolExecutor(SYNC_THREADS, "sync")
        self._threads.submit(work)

    def _sync_now(self, file: OpenFile, names: Sequence[str]) -> int:
        """In a thread of its own: touches nothing of this disk."""
        try:
            platform.sync_data(file.fd, portable=self._portable)
            for name in names:
                self._sync_directory_of(name)
        except OSError as error:
            return error.errno or errnos.EIO
        return 0

    def _sync_ended(self, operation: Sync, names: Sequence[str], changes: int, errno: int) -> None:
        if not errno and changes == self._name_changes:
            self._durable_names.update(names)
            self._deleted_in.discard(os.path.dirname(operation.path))
        queue = self._syncs[operation.path]
        queue.popleft()
        if self.on_synced is not None:
            self.on_synced(Synced(operation.path, operation.token, errno))
        while queue:
            following = queue[0]
            try:
                file = self.open(following.path)
            except OSError as error:
                queue.popleft()
                if self.on_synced is not None:
                    failed = Synced(following.path, following.token, error.errno or errnos.EIO)
                    self.on_synced(failed)
                continue
            self._start_sync(following, file)
            return
        del self._syncs[operation.path]

    def _sync_directory_of(self, name: str) -> None:
        fd = os.open(os.path.dirname(self._prefix + name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _names_above(path: str, durable: set[str]) -> Sequence[str]:
    """`path` and the directories above it, up to the root, that are not known to be durable."""
    names = []
    while path and path not in durable:
        names.append(path)
        path = os.path.dirname(path)
    return names


def _delete_tree(path: str) -> None:
    """Missing is fine, also when it goes missing meanwhile."""
    try:
        os.unlink(path)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # macOS says EPERM for a directory.
        if not os.path.isdir(path):
            raise
    try:
        with os.scandir(path) as entries:
            names = [entry.path for entry in entries]
        for name in names:
            _delete_tree(name)
        os.rmdir(path)
    except FileNotFoundError:
        return
