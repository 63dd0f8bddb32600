"""Whether a broker could listen on a port, and who does."""

from __future__ import annotations

import errno
import socket


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
