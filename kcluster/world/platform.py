"""What only Linux has, each with a portable fall-back beside it.

Tests force the fall-backs on Linux by passing `portable=True`.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

IS_LINUX = sys.platform.startswith("linux")

POLL_S = 0.01
"""How often the portable watch looks whether a process has ended."""

FILE_LIMIT = 65_536
"""Soft limit of descriptors that a server process asks for, if the hard one allows."""

LAST_NICENESS = 19
"""Where there is no idle class."""

AUTOGROUP_TRIES = 30
AUTOGROUP_PAUSE_S = 0.1
"""For all users together, the kernel takes one change of an autogroup's niceness in 0.1 s."""

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_PR_SET_CHILD_SUBREAPER = 36


# --- a process's life ---------------------------------------------------------------------


def become_subreaper() -> bool:
    """Orphans below this process become its children from now on. False where unknown."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process, stopped or not, when its parent `parent` ends. Call it
    after reparenting. False where the kernel cannot, or when `parent` is already gone: then the
    caller exits."""
    if not _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        return False
    # The parent may have ended before the request took effect.
    return os.getppid() == parent


def _prctl(option: int, value: int) -> bool:
    if not IS_LINUX:
        return False
    import ctypes  # noqa: PLC0415  (11 ms that only the zygote's children pay)

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(option, value, 0, 0, 0) == 0)


def new_session() -> None:
    """Leave the terminal's session, so that Ctrl-C does not reach this process."""
    try:
        os.setsid()
    except PermissionError:
        # Already the leader of a process group: it has left.
        return


class PidWatch:
    """Tells once that a process has ended: `on_exit(pid, status)`, status as of `waitpid`, or -1
    when the process is not a child of ours. A child is reaped by it."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        pid: int,
        on_exit: Callable[[int, int], None],
        *,
        portable: bool = False,
    ) -> None:
        self.pid = pid
        self._loop = loop
        self._on_exit: Callable[[int, int], None] | None = on_exit
        self._fd = -1
        self._poll: TimerHandle | None = None
        if not portable and hasattr(os, "pidfd_open"):
            try:
                self._fd = os.pidfd_open(pid)
            except ProcessLookupError:
                # Not a child, or reaped elsewhere: gone either way. Told from the loop.
                self._poll = loop.call_soon(self._look)  # type: ignore[assignment]
                return
            except OSError as error:
                if error.errno not in (errnos.ENOSYS, errnos.EPERM, errnos.EMFILE):
                    raise
        if self._fd >= 0:
            loop.add_reader(self._fd, self._look)
        else:
            self._poll = loop.call_later(POLL_S, self._look)

    def close(self) -> None:
        """Watch no more. A child that ends later is then reaped by whoever waits for it."""
        self._on_exit = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def _look(self) -> None:
        status = -1
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                self._again()
                return
        except ChildProcessError:
            if self._fd < 0 and is_alive(self.pid):
                self._again()
                return
            status = -1
        on_exit = self._on_exit
        self.close()
        if on_exit is not None:
            on_exit(self.pid, status)

    def _again(self) -> None:
        if self._fd < 0:
            self._poll = self._loop.call_later(POLL_S, self._look)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# --- the machine --------------------------------------------------------------------------


def boot_id(*, portable: bool = False) -> str:
    """Changes with every boot: tells a crash of a process from one of the machine. Empty when
    it cannot be known, which counts as another boot."""
    if not portable:
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            pass
    try:
        answer = subprocess.run(
            ["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def rss_bytes(pid: int, *, portable: bool = False) -> int:
    """Resident memory of a process, 0 when it is gone."""
    if not portable:
        try:
            pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            if IS_LINUX:
                return 0
    import psutil  # noqa: PLC0415  (36 ms to import)

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def cpu_ms(pid: int, *, portable: bool = False) -> int:
    """User and system time that a process has used, 0 when it is gone."""
    if not portable:
        try:
            # The name in parentheses may hold anything, spaces too.
            fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2]
            ticks = sum(map(int, fields.split()[11:13]))
            return ticks * 1000 // os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            if IS_LINUX:
                return 0
    import psutil  # noqa: PLC0415  (36 ms to import)

    try:
        times = psutil.Process(pid).cpu_times()
        return int((times.user + times.system) * 1000)
    except psutil.Error:
        return 0


def processors() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def give_way() -> None:
    """Run when nobody else wants to. A lower niceness alone still lets whoever wakes up wait for
    the end of a time slice; Linux's idle class is preempted at once. But both count within a
    session only where the kernel first shares out between sessions (autogroup, sched(7))."""
    with contextlib.suppress(OSError):
        os.nice(LAST_NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for _ in range(AUTOGROUP_TRIES):
        try:
            Path("/proc/self/autogroup").write_text(str(LAST_NICENESS), "ascii")
        except BlockingIOError:
            time.sleep(AUTOGROUP_PAUSE_S)
        except OSError:
            return
        else:
            return


@contextlib.contextmanager
def in_slices(work_s: float, rest_s: float) -> Iterator[None]:
    """Sleep `rest_s` after each `work_s` of the block, in the main thread, so that nobody waits
    longer for the processor than `work_s`, whatever the scheduler does. One long call into C is
    not interrupted. Takes SIGALRM and its timer."""

    def rest(signum: int, frame: FrameType | None) -> None:
        time.sleep(rest_s)
        signal.setitimer(signal.ITIMER_REAL, work_s)

    # A rest is lengthened by 50 us otherwise.
    _prctl(_PR_SET_TIMERSLACK, 1)
    signal.signal(signal.SIGALRM, rest)
    signal.setitimer(signal.ITIMER_REAL, work_s)
    try:
        yield
    finally:
        # A timer that is set again meanwhile goes unheard.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def name_process(name: str) -> None:
    """What `ps` and `top` show instead of the interpreter's name, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15], "ascii")


def raise_file_limit(wanted: int = FILE_LIMIT) -> int:
    """Raise the soft limit of descriptors as far as the hard one lets; returns what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            return target
        except (OSError, ValueError):
            return soft
    return soft


# --- files and sockets --------------------------------------------------------------------


def lock_directory(path: str | Path) -> int | None:
    """Hold `path` for this process: a descriptor to keep open, or None when another has it.

    The kernel lets go when the last copy of the descriptor is closed, however the process ends.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def sync_data(fd: int, *, portable: bool = False) -> None:
    """fdatasync; where there is none, F_FULLFSYNC (macOS's fsync does not reach the platter),
    or fsync."""
    if not portable and hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    elif hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def write_at(
    fd: int,
    buffers: Sequence[bytes | bytearray | memoryview],
    position: int,
    *,
    portable: bool = False,
) -> int:
    """One pwritev of at most IOV_MAX buffers, or one pwrite of the first; bytes written."""
    if not portable and hasattr(os, "pwritev"):
        return os.pwritev(fd, buffers, position)
    return os.pwrite(fd, buffers[0], position)


def send_file(
    socket_fd: int, file_fd: int, position: int, size: int, *, portable: bool = False
) -> int:
    """Bytes of a file to a socket; how many it took, 0 at the end of the file. Raises
    BlockingIOError when it takes none now."""
    if not portable and hasattr(os, "sendfile"):
        return os.sendfile(socket_fd, file_fd, position, size)
    data = os.pread(file_fd, min(size, 1 << 18), position)
    return os.write(socket_fd, data) if data else 0
