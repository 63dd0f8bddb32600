"""Whether a broker could listen on a port, who does, and whose it is while nobody does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
from pathlib import Path


class KeptPorts:
    """Ports that this cluster keeps to itself, from when they are chosen until it is down: also
    before its brokers listen, and while one of them is dead.

    A byte of one file of the user's stands for each port. The supervisor locks it, and the kernel
    unlocks it when the supervisor ends, however it ends. Where there can be no such file a port
    is as good as kept."""

    def __init__(self) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(locks_path(), flags, 0o600)

    def keep(self, port: int) -> bool:
        """False when another cluster keeps it."""
        return self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, port)

    def give_up(self, port: int) -> None:
        self._lock(fcntl.LOCK_UN, port)

    def close(self) -> None:
        """Give up all."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock(self, how: int, port: int) -> bool:
        if self._fd < 0:
            return True
        try:
            fcntl.lockf(self._fd, how, 1, port)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True


def locks_path() -> Path:
    return Path(tempfile.gettempdir()) / f"kcluster-ports-{os.getuid()}"


def is_free(host: str, port: int) -> bool:
    return _bind_error(host, port) is None


def port_problem(host: str, port: int) -> str | None:
    """Why a broker could not listen there, or None."""
    error = _bind_error(host, port)
    if error is None:
        return None
    if error.errno == errno.EADDRINUSE:
        return f"is in use{_port_holder(port)}"
    return f"cannot be used on {host}: {error.strerror}"


def _bind_error(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # With SO_REUSEADDR two may bind, but only one can listen.
            probe.listen(1)
        except OSError as error:
            return error
    return None


def _port_holder(port: int) -> str:
    """ " (pid 812, java)" where the system lets us see it."""
    try:
        import psutil  # noqa: PLC0415 - 36 ms that only an error costs

        for connection in psutil.net_connections("tcp"):
            if connection.status == "LISTEN" and connection.laddr.port == port and connection.pid:
                return f" (pid {connection.pid}, {psutil.Process(connection.pid).name()})"
    except Exception:  # the name of the holder is a courtesy: any failure leaves it out
        return ""
    return ""
