"""What only Linux has, and its fall-backs, forced here."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kcluster.world import platform
from kcluster.world.platform import PidWatch

both = pytest.mark.parametrize("portable", [False, True])


@both
def test_the_end_of_a_child_is_told_with_its_status(
    loop: asyncio.AbstractEventLoop, portable: bool
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    told: list[tuple[int, int]] = []

    def on_exit(pid: int, status: int) -> None:
        told.append((pid, status))
        loop.stop()

    PidWatch(loop, child.pid, on_exit, portable=portable)
    loop.call_soon(child.kill)
    loop.call_later(20, loop.stop)
    loop.run_forever()
    child.returncode = -9
    assert [(pid, os.waitstatus_to_exitcode(status)) for pid, status in told] == [
        (child.pid, -signal.SIGKILL)
    ]


@both
def test_the_end_of_a_process_that_is_no_child_is_told(
    loop: asyncio.AbstractEventLoop, portable: bool
) -> None:
    # The grandchild sleeps on; its parent prints its pid and ends.
    script = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    pid = int(answer.stdout)
    told: list[int] = []

    def on_exit(pid: int, status: int) -> None:
        told.append(status)
        loop.stop()

    PidWatch(loop, pid, on_exit, portable=portable)
    loop.call_soon(os.kill, pid, signal.SIGKILL)
    loop.call_later(20, loop.stop)
    loop.run_forever()
    assert told == [-1]


@both
def test_a_process_that_is_gone_already_is_told_from_the_loop(
    loop: asyncio.AbstractEventLoop, portable: bool
) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    told: list[int] = []

    def on_exit(pid: int, status: int) -> None:
        told.append(status)
        loop.stop()

    PidWatch(loop, child.pid, on_exit, portable=portable)
    assert told == []
    loop.call_later(20, loop.stop)
    loop.run_forever()
    assert told == [-1]


def test_a_closed_watch_tells_nothing(loop: asyncio.AbstractEventLoop) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    told: list[int] = []
    watch = PidWatch(loop, child.pid, lambda pid, status: told.append(pid))
    watch.close()
    watch.close()
    assert child.wait() == 0
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert told == []


ORPHAN = """
import os, sys
from kcluster.world import platform
assert platform.become_subreaper()
me = os.getpid()
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.read(read, 1)
        while os.getppid() not in (me,):
            pass
        ok = platform.die_with_parent(me)
        platform.new_session()
        print(os.getpid(), ok, os.getsid(0) == os.getpid(), flush=True)
        os.read(read, 1)
        os.read(read, 1)
    os._exit(0)
os.wait()
os.write(write, b"x")
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.skipif(not platform.IS_LINUX, reason="only Linux has a subreaper")
def test_an_orphan_becomes_a_child_and_dies_with_its_parent(
    loop: asyncio.AbstractEventLoop,
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None and parent.stdin is not None
    pid, dies, leads = parent.stdout.readline().split()
    assert (dies, leads) == ("True", "True")
    PidWatch(loop, int(pid), lambda pid, status: loop.stop())
    os.kill(int(pid), signal.SIGSTOP)
    parent.kill()
    parent.wait()
    failed: list[bool] = []
    loop.call_later(20, lambda: (failed.append(True), loop.stop()))
    loop.run_forever()
    assert not failed
    parent.stdout.close()
    parent.stdin.close()


def test_a_wrong_parent_is_noticed() -> None:
    script = (
        "import os; from kcluster.world import platform; "
        "print(platform.die_with_parent(os.getppid()), platform.die_with_parent(1 << 22))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"{platform.IS_LINUX} False\n"


def test_the_boot_id_stays_the_same() -> None:
    assert platform.boot_id() == platform.boot_id()
    if platform.IS_LINUX:
        assert len(platform.boot_id()) == 36


@both
def test_resident_memory_is_known_until_the_process_is_gone(portable: bool) -> None:
    assert 1 << 20 < platform.rss_bytes(os.getpid(), portable=portable) < 1 << 32
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert platform.rss_bytes(child.pid, portable=portable) == 0


def test_a_directory_is_locked_by_one_process_at_a_time(tmp_path: Path) -> None:
    lock = platform.lock_directory(tmp_path)
    assert lock is not None
    assert platform.lock_directory(tmp_path) is None
    os.close(lock)
    lock = platform.lock_directory(tmp_path)
    assert lock is not None
    os.close(lock)


@both
def test_a_file_reaches_a_socket(tmp_path: Path, portable: bool) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    here, there = socket.socketpair()
    with here, there, path.open("rb") as file:
        assert platform.send_file(here.fileno(), file.fileno(), 2, 5, portable=portable) == 5
        assert there.recv(100) == b"23456"
        assert platform.send_file(here.fileno(), file.fileno(), 10, 5, portable=portable) == 0
        here.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                platform.send_file(here.fileno(), file.fileno(), 0, 10, portable=portable)


def test_the_limit_of_files_never_falls() -> None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert platform.raise_file_limit(soft) == soft
    assert platform.raise_file_limit(1) == soft


def words_of(program: str) -> list[str]:
    """What a process of its own prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_who_gives_way_runs_when_nobody_else_wants_to() -> None:
    program = (
        "import os; from kcluster.world import platform; os.setsid(); platform.give_way();"
        "print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == os.SCHED_IDLE)"
    )
    assert words_of(program) == ["19", "True"]


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no autogroups here")
def test_who_gives_way_does_so_to_other_sessions_too() -> None:
    program = (
        "import os; from kcluster.world import platform; os.setsid(); platform.give_way();"
        "print(open('/proc/self/autogroup').read())"
    )
    assert words_of(program)[-1] == "19"


def test_work_in_slices_rests_in_between_and_no_more_at_its_end() -> None:
    program = (
        "import signal; from kcluster.world import platform; rests = [];"
        "platform.time.sleep = rests.append\n"
        "with platform.in_slices(0.001, 0.002):\n"
        "    while len(rests) < 3: sum(range(100))\n"
        "print(set(rests), signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM))"
    )
    assert words_of(program) == ["{0.002}", "(0.0,", "0.0)", "1"]
