"""A disk that fails when it is told to, and remembers what a power loss would take.

Only built where the cluster was started with `fault.injection.enable=true`; the ordinary disk
knows nothing of it and costs nothing for it.

    .kcluster_failpoints     in the data directory: a JSON list of `Failpoint`. Looked at before
                             each operation, so that writing it is all it takes to arm one, also
                             for a process that is yet to be started
    .kcluster_synced         one JSON line for each file that became durable, and how far

    log.append                     before bytes go to a segment         metadata.append
    log.after_write_before_index   when they are in the page cache      metadata.after_write
    segment.roll                   before the first bytes of a segment
    log.fsync                      instead of, or before, an fsync      metadata.before_fsync
    index.write                    before an index is replaced
    snapshot.before_rename         between a snapshot's temporary file and its name
    checkpoint.before_rename       the same for checkpoints and caches
    file.delete, file.rename, file.truncate

`lose_power` does to the files of a dead process what a power cut may do: everything that was not
synced is cut, garbled or kept, page by page, and the boot id becomes another one.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from kcluster.core.metadata.metadata_log import DIRECTORY as METADATA
from kcluster.core.turn import Append, Buffer, Delete, DiskOperation, Rename, Sync, Truncate
from kcluster.world.disk import TEMPORARY, OpenFile, RealDisk

FAILPOINTS_FILE = ".kcluster_failpoints"
SYNCED_FILE = ".kcluster_synced"
BOOT_ID_FILE = ".kcluster_boot_id"

JOURNAL_BYTES = 4 << 20
"""At which the journal of syncs is written anew."""

PAGE_BYTES = 4096


class Failpoint(msgspec.Struct, frozen=True):
    """One rule: at which point, from which time on, and what happens."""

    point: str
    action: str
    """kill, stop (SIGSTOP), sleep, errno, short (part of a write, then errno)."""
    errno: str = "EIO"
    sleep_ms: int = 0
    size: int = 0
    """Bytes of a short write that arrive."""
    path: str = ""
    """Part of the file's path; empty for any."""
    after: int = 0
    """So many times nothing happens."""
    times: int = 1
    """And then so often something does; -1 for ever."""


def arm(data_dir: Path, failpoints: Sequence[Failpoint]) -> None:
    """For the process that runs, or will run, on this data directory; none disarms it."""
    path = data_dir / FAILPOINTS_FILE
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_bytes(msgspec.json.encode(list(failpoints)))
    temporary.replace(path)


class FaultyDisk(RealDisk):
    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)
        self._rules: list[Failpoint] = []
        self._hits: list[int] = []
        self._rules_id = (0, 0)
        self._rules_lock = threading.Lock()
        """Syncs look at the rules in their threads."""
        self._paths: dict[int, str] = {}
        """By descriptor, of files whose sync is under way."""
        self._journal = Journal(Path(root) / SYNCED_FILE)

    def perform(self, operation: DiskOperation) -> int:
        try:
            match operation:
                case Append(path, position, _, buffers, _):
                    return self._faulty_append(operation, path, position, buffers)
                case Truncate(path, size):
                    self._strike("file.truncate", path)
                    self._journal.cut(path, size)
                case Rename(source, target):
                    self._strike("file.rename", source)
                    self._journal.move(source, target)
                case Delete(path):
                    self._strike("file.delete", path)
                    self._journal.forget(path)
                case _:
                    pass
        except OSError as error:
            return error.errno or errnos.EIO
        return super().perform(operation)

    def _faulty_append(
        self, operation: Append, path: str, position: int, buffers: Sequence[Buffer]
    ) -> int:
        is_metadata = path.startswith(METADATA)
        self._journal.cut(path, position)
        if not position and not is_metadata:
            self._strike("segment.roll", path)

        def write_part(size: int) -> None:
            self._append(path, position, [b"".join(buffers)[:size]])

        self._strike("metadata.append" if is_metadata else "log.append", path, write_part)
        errno = super().perform(operation)
        self._strike(
            "metadata.after_write" if is_metadata else "log.after_write_before_index", path
        )
        return errno

    def _replace(self, path: str, data: Buffer, durable: bool) -> None:
        if path.endswith((".index", ".timeindex")):
            self._strike("index.write", path)
        else:
            is_snapshot = path.endswith(".snapshot") or path.startswith(METADATA)
            point = "snapshot.before_rename" if is_snapshot else "checkpoint.before_rename"
            if self._is_armed(point):
                file = self._create(path + TEMPORARY, os.O_TRUNC)
                self._write_all(file.fd, [data], 0, 0)
                self._strike(point, path)
        super()._replace(path, data, durable)
        self._journal.synced(path, len(data) if durable else -1)

    def _start_sync(self, operation: Sync, file: OpenFile) -> None:
        self._paths[file.fd] = operation.path
        super()._start_sync(operation, file)

    def _sync_now(self, file: OpenFile, names: Sequence[str]) -> int:
        path = self._paths[file.fd]
        is_metadata = path.startswith(METADATA)
        try:
            self._strike("metadata.before_fsync" if is_metadata else "log.fsync", path)
        except OSError as error:
            return error.errno or errnos.EIO
        size = os.fstat(file.fd).st_size
        errno = super()._sync_now(file, names)
        if not errno:
            self._journal.synced(path, size)
        return errno

    # --- rules ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Take over the rules, if the file is another one."""
        path = Path(self.root, FAILPOINTS_FILE)
        try:
            status = path.stat()
        except FileNotFoundError:
            self._rules, self._hits, self._rules_id = [], [], (0, 0)
            return
        if self._rules_id != (status.st_ino, status.st_mtime_ns):
            self._rules = msgspec.json.decode(path.read_bytes(), type=list[Failpoint])
            self._hits = [0] * len(self._rules)
            self._rules_id = (status.st_ino, status.st_mtime_ns)

    def _is_armed(self, point: str) -> bool:
        with self._rules_lock:
            self._look()
            return any(rule.point == point for rule in self._rules)

    def _due(self, point: str, path: str) -> list[Failpoint]:
        """The rules that this hit is for."""
        due = []
        with self._rules_lock:
            self._look()
            for number, rule in enumerate(self._rules):
                if rule.point != point or rule.path not in path:
                    continue
                self._hits[number] += 1
                hit = self._hits[number] - rule.after
                if hit >= 1 and (rule.times < 0 or hit <= rule.times):
                    due.append(rule)
                    if rule.action == "kill" and hit == rule.times:
                        # Of all incarnations together, or none would ever get further.
                        arm(Path(self.root), [other for other in self._rules if other is not rule])
        return due

    def _strike(
        self, point: str, path: str, write_part: Callable[[int], None] | None = None
    ) -> None:
        """Do what the rules say. Raises OSError where that is a failure."""
        for rule in self._due(point, path):
            match rule.action:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "sleep":
                    time.sleep(rule.sleep_ms / 1000)
                case "short" | "errno":
                    if rule.action == "short" and write_part is not None:
                        write_part(rule.size)
                    raise OSError(getattr(errnos, rule.errno), f"failpoint {point}")
                case _:
                    raise OSError(errnos.EINVAL, f"failpoint action {rule.action}")


# --- power loss ---------------------------------------------------------------------------


class Journal:
    """How far each file was synced, in a file that outlives the process. -1: replaced since, and
    not synced. What it does not name was never synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        """Syncs end in threads."""
        self.sizes = read_journal(path)
        self._fd = -1
        self._written = 0
        self._begin()

    def _begin(self) -> None:
        temporary = self._path.with_name(self._path.name + TEMPORARY)
        lines = "".join(json.dumps([path, size]) + "\n" for path, size in self.sizes.items())
        temporary.write_text(lines)
        temporary.replace(self._path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._written = len(lines)

    def synced(self, path: str, size: int) -> None:
        with self._lock:
            if self.sizes.get(path) == size:
                return
            self.sizes[path] = size
            self._written += os.write(self._fd, (json.dumps([path, size]) + "\n").encode())
            if self._written > JOURNAL_BYTES:
                self._begin()

    def cut(self, path: str, size: int) -> None:
        if self.sizes.get(path, -1) > size:
            self.synced(path, size)

    def move(self, source: str, target: str) -> None:
        below = source + "/"
        for path in [p for p in self.sizes if p == source or p.startswith(below)]:
            self.synced(target + path[len(source) :], self.sizes[path])
            self.synced(path, -1)

    def forget(self, path: str) -> None:
        below = path + "/"
        for known in [p for p in self.sizes if p == path or p.startswith(below)]:
            self.synced(known, -1)


def read_journal(path: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            name, size = json.loads(line)
            sizes[name] = size
    return sizes


def lose_power(data_dir: Path, random: Random) -> list[str]:
    """To the files of a process that is dead; what was lost, for a person to read."""
    sizes = read_journal(data_dir / SYNCED_FILE)
    lost: list[str] = []
    for path in sorted(data_dir.rglob("*")):
        name = str(path.relative_to(data_dir))
        if not path.is_file() or path.name.startswith(".kcluster"):
            continue
        durable, size = sizes.get(name, -1), path.stat().st_size
        if durable >= size:
            continue
        if path.suffix != ".log" and durable < 0:
            # Replaced by a rename that nothing was waiting for: the name may be there first.
            if random.random() < 0.3:
                path.write_bytes(b"")
                lost.append(f"{name}: emptied")
        else:
            kept = max(durable, 0)
            path.write_bytes(_torn(path.read_bytes(), kept, random))
            lost.append(f"{name}: {size - kept} bytes behind {kept}")
    (data_dir / SYNCED_FILE).write_text(
        "".join(
            json.dumps([str(path.relative_to(data_dir)), path.stat().st_size]) + "\n"
            for path in sorted(data_dir.rglob("*"))
            if path.is_file() and not path.name.startswith(".kcluster")
        )
    )
    (data_dir / BOOT_ID_FILE).write_text("of a machine that lost power")
    return lost


def _torn(data: bytes, kept: int, random: Random) -> bytes:
    """Pages behind `kept` in any order: there, never written (zeros), or torn; or none of them."""
    if random.random() < 0.4:
        return data[:kept]
    out = bytearray(data[: random.randint(kept, len(data))])
    page = kept
    while page < len(out):
        end = min((page // PAGE_BYTES + 1) * PAGE_BYTES, len(out))
        chance = random.random()
        if chance < 0.3:
            out[page:end] = bytes(end - page)
        elif chance < 0.4:
            tear = random.randint(page, end)
            out[tear:end] = random.randbytes(end - tear)
        page = end
    return bytes(out)
