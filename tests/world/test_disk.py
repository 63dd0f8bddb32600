"""What only the real disk can be asked: errors, threads, descriptors."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kcluster.core.turn import Append, Delete, Rename, Replace, Sync, Synced
from kcluster.errors import DiskError
from kcluster.world import disk as disk_module
from kcluster.world import platform
from kcluster.world.disk import RealDisk

PATIENCE_S = 20


def append(path: str, position: int, *buffers: bytes) -> Append:
    owner: Any = None
    return Append(path, position, owner, list(buffers), sum(map(len, buffers)))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("portable", [False, True])
def test_a_short_write_is_continued(
    tmp_path: Path, portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(str(tmp_path), portable=portable)
    real = platform.write_at

    def short(fd: int, buffers: Any, position: int, *, portable: bool) -> int:
        return real(fd, [memoryview(buffers[0])[:3]], position, portable=portable)

    monkeypatch.setattr(platform, "write_at", short)
    assert disk.perform(append("f", 0, b"0123456789", b"", b"abcdefg", b"h")) == 0
    assert disk.read("f", 0, 100) == b"0123456789abcdefgh"


LIMITED = """
import resource, sys
from kcluster.core.turn import Append
from kcluster.world.disk import RealDisk
disk = RealDisk(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
print(disk.perform(Append("f", 0, None, [bytes(4000)] * 2, 8000)))
print(disk.perform(Append("f", 8000, None, [bytes(4000)] * 2, 8000)), disk.size("f"))
print(disk.perform(Append("f", 10000, None, [bytes(1)], 1)), disk.size("f"))
"""


def test_a_full_disk_leaves_a_torn_write_and_its_errno(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["0", str(errno.EFBIG), "10000", str(errno.EFBIG), "10000"]


def test_an_append_to_what_is_a_directory_fails_with_its_errno(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    disk.perform(append("d/f", 0, b"x"))
    assert disk.perform(append("d", 0, b"abc")) == errno.EISDIR
    assert disk.perform(Replace("d", b"abc")) == errno.EISDIR
    assert disk.perform(append("d/f/g", 0, b"abc")) == errno.ENOTDIR
    assert disk.read("d/f/g", 0, 1) == b""
    assert disk.size("d") == -1


def test_a_refused_read_says_so(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    (tmp_path / "d").mkdir()
    with pytest.raises(DiskError) as raised:
        disk.read("d", 0, 1)
    assert raised.value.errno == errno.EISDIR


def test_descriptors_are_bounded_and_closed(tmp_path: Path) -> None:
    gc.collect()
    before = descriptors()
    disk = RealDisk(str(tmp_path), open_files_max=5)
    for n in range(30):
        disk.perform(append(f"d/{n}", 0, b"%d" % n))
    assert descriptors() == before + 5
    for n in range(30):
        assert disk.read(f"d/{n}", 0, 9) == b"%d" % n
    assert descriptors() == before + 5
    held = disk.open("d/29")
    disk.perform(Delete("d"))
    assert descriptors() == before + 1
    assert os.pread(held.fd, 9, 0) == b"29"
    del held
    disk.close()
    assert descriptors() == before


def test_the_file_used_last_is_kept_open(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path), open_files_max=2)
    disk.perform(append("a", 0, b"a"))
    a = disk.open("a")
    disk.perform(append("b", 0, b"b"))
    disk.read("a", 0, 1)
    disk.perform(append("c", 0, b"c"))
    assert disk.open("a") is a
    assert list(disk._files) == ["c", "a"]


def test_a_failed_replace_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(str(tmp_path))
    disk.perform(Replace("f", b"old"))

    def full(*args: Any, **kwargs: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(platform, "write_at", full)
    assert disk.perform(Replace("f", b"new content")) == errno.ENOSPC
    assert disk.read("f", 0, 100) == b"old"


class Syncs:
    """A disk on a loop whose device is held until the test lets go of it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = asyncio.new_event_loop()
        self.ended: list[Synced] = []
        self.gate = threading.Event()
        self.running = 0
        self.peak = 0
        self.calls = 0
        self.error = 0
        self._lock = threading.Lock()
        self.disk = RealDisk(str(root), call_in_loop=self.loop.call_soon_threadsafe)
        self.disk.on_synced = self.ended.append
        monkeypatch.setattr(platform, "sync_data", self.sync_data)

    def sync_data(self, fd: int, *, portable: bool = False) -> None:
        with self._lock:
            self.running += 1
            self.calls += 1
            self.peak = max(self.peak, self.running)
        assert self.gate.wait(PATIENCE_S)
        with self._lock:
            self.running -= 1
        if self.error:
            raise OSError(self.error, "fsync")

    def run_until(self, claim: Callable[[], bool]) -> None:
        deadline = self.loop.time() + PATIENCE_S
        while not claim():
            assert self.loop.time() < deadline
            self.loop.call_later(0.001, self.loop.stop)
            self.loop.run_forever()

    def close(self) -> None:
        self.gate.set()
        self.disk.close()
        self.loop.close()


@pytest.fixture
def syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    syncs = Syncs(tmp_path, monkeypatch)
    yield syncs
    syncs.close()


def test_at_most_one_sync_of_a_file_is_in_flight(syncs: Any) -> None:
    for path in ("a", "b"):
        syncs.disk.perform(append(path, 0, b"x"))
    for token in range(3):
        assert syncs.disk.perform(Sync("a", token)) == 0
    assert syncs.disk.perform(Sync("b", 9)) == 0
    syncs.run_until(lambda: syncs.calls == 2)
    assert syncs.ended == []
    syncs.gate.set()
    syncs.run_until(lambda: len(syncs.ended) == 4)
    assert [s.token for s in syncs.ended if s.path == "a"] == [0, 1, 2]
    assert syncs.peak == 2
    assert syncs.disk._syncs == {}


def test_a_failed_sync_tells_its_errno_and_the_next_still_comes(syncs: Any) -> None:
    syncs.disk.perform(append("a", 0, b"x"))
    syncs.error = errno.EIO
    syncs.disk.perform(Sync("a", 1))
    syncs.disk.perform(Sync("a", 2))
    syncs.run_until(lambda: syncs.calls == 1)
    syncs.disk.perform(Delete("a"))
    syncs.gate.set()
    syncs.run_until(lambda: len(syncs.ended) == 2)
    assert syncs.ended == [Synced("a", 1, errno.EIO), Synced("a", 2, errno.ENOENT)]


def test_a_loop_closed_meanwhile_is_no_trouble_to_a_sync(syncs: Any) -> None:
    syncs.disk.perform(append("a", 0, b"x"))
    syncs.disk.perform(Sync("a", 1))
    syncs.run_until(lambda: syncs.calls == 1)
    syncs.loop.close()


def test_the_first_sync_of_a_name_syncs_the_directories_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    disk = RealDisk(str(tmp_path))
    monkeypatch.setattr(disk, "_sync_directory_of", synced.append)
    disk.perform(append("t-0/0.log", 0, b"x"))
    disk.perform(Sync("t-0/0.log", 1))
    assert synced == ["t-0/0.log", "t-0"]
    disk.perform(Sync("t-0/0.log", 2))
    disk.perform(append("t-0/1.log", 0, b"x"))
    disk.perform(Sync("t-0/1.log", 3))
    assert synced[2:] == ["t-0/1.log"]
    disk.perform(Rename("t-0", "t-1"))
    disk.perform(Sync("t-1/1.log", 4))
    assert synced[3:] == ["t-1/1.log", "t-1"]
    disk.perform(Replace("t-1/1.log", b"y"))
    disk.perform(Sync("t-1/1.log", 5))
    assert synced[5:] == ["t-1/1.log"]
    disk.perform(Replace("t-1/c", b"y", durable=True))
    assert synced[6:] == ["t-1/c"]


def test_a_sync_takes_deletions_in_its_directory_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    disk = RealDisk(str(tmp_path))
    for name in ("t-0/0.log", "t-0/1.log", "t-1/0.log"):
        disk.perform(append(name, 0, b"x"))
        disk.perform(Sync(name, 1))
    monkeypatch.setattr(disk, "_sync_directory_of", synced.append)
    disk.perform(Delete("t-0/1.log"))
    disk.perform(Sync("t-1/0.log", 2))
    assert synced == []
    disk.perform(Sync("t-0/0.log", 3))
    disk.perform(Sync("t-0/0.log", 4))
    assert synced == ["t-0/0.log"]


def test_a_sync_that_a_rename_overtook_vouches_for_no_name(syncs: Any) -> None:
    syncs.disk.perform(append("a", 0, b"x"))
    syncs.disk.perform(Sync("a", 1))
    syncs.run_until(lambda: syncs.calls == 1)
    syncs.disk.perform(Rename("a", "b"))
    syncs.gate.set()
    syncs.run_until(lambda: len(syncs.ended) == 1)
    assert syncs.disk._durable_names == set()


def test_a_symbolic_link_is_deleted_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"x")
    disk = RealDisk(str(tmp_path / "root"))
    disk.perform(append("d/g", 0, b"x"))
    (tmp_path / "root" / "d" / "link").symlink_to(outside)
    assert disk.perform(Delete("d")) == 0
    assert disk.list("") == []
    assert (outside / "f").exists()


def test_interrupted_writes_are_nobodys_trouble(tmp_path: Path) -> None:
    """Python repeats calls that a signal interrupts (PEP 475)."""
    disk = RealDisk(str(tmp_path))
    old = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for n in range(200):
            assert disk.perform(append("f", n * 100_000, bytes(100_000))) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert disk.size("f") == 20_000_000


def test_the_fallback_of_fdatasync_works(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path), portable=True)
    ended: list[Synced] = []
    disk.on_synced = ended.append
    disk.perform(append("f", 0, b"x"))
    assert disk.perform(Sync("f", 7)) == 0
    assert ended == [Synced("f", 7, 0)]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > disk_module.OPEN_FILES
