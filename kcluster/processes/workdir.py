"""A cluster's directory: where it is, who holds it, its ports, and what is remembered of it.

    <data home>/kcluster/<name>      the directory, or a link to where `--dir` put it
      cluster.json                   what the cluster is and how to reach it; replaced atomically
      lock                           held (flock) by the supervisor as long as it lives
      coordinator/  broker-<id>/     data; each locked by its process
      logs/                          what the processes said

Sockets live elsewhere: a unix socket's path ends at about 107 bytes, so they get a short
directory of mode 0700 that cluster.json names. It is new for each supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kcluster.client.find import (
    ClusterFile,
    Seat,
    check_name,
    data_home,
    holder,
    list_clusters,
    locate,
    read_cluster,
)
from kcluster.errors import UsageError
from kcluster.processes.ports import KeptPorts, is_free, port_problem
from kcluster.processes.small_files import replace_file
from kcluster.world import platform

__all__ = [
    "FIRST_PORT",
    "ClusterFile",
    "Seat",
    "Workdir",
    "check_name",
    "data_home",
    "holder",
    "list_clusters",
    "locate",
    "process_name",
    "read_cluster",
]

FIRST_PORT = 19092
PORT_BLOCK = 10
"""Clusters start this far apart, so that each has room for more brokers."""

INCARNATION_BLOCK = 100
"""So many are reserved on disk at once: a start costs no fsync."""

SOCKET_PATH_MAX = 80
"""Bytes of a socket directory: what follows is short, and the kernel's limit is 107."""

SERVERS_END_S = 5
"""How long servers may take to be gone after their supervisor was killed."""


class Workdir:
    """A cluster directory that this process holds. Made by `claim`."""

    def __init__(self, directory: Path, cluster: ClusterFile, lock_fd: int) -> None:
        self.directory = directory
        self.cluster = cluster
        self._lock_fd = lock_fd
        self._kept_ports = KeptPorts()
        self._next_incarnation = cluster.incarnations_reserved

    # --- taking and leaving ---------------------------------------------------------------

    @classmethod
    def claim(
        cls,
        name: str,
        directory: Path | None = None,
        *,
        is_ephemeral: bool = False,
        is_fresh: bool = False,
    ) -> Workdir:
        """Make the directory if need be, lock it and read what it remembers. UsageError when
        it is in use, is another cluster's, or holds something else."""
        check_name(name)
        link = data_home() / name
        known = _forget_leavings(name)
        if is_ephemeral and directory is None:
            directory = Path(tempfile.mkdtemp(prefix=f"kcluster-{name}-"))
        directory = directory or known
        if directory != known and read_cluster(known) is not None:
            if is_ephemeral:
                shutil.rmtree(directory, ignore_errors=True)
            raise UsageError(
                f"cluster {name} is in {known}",
                f"it cannot be in {directory} too",
                f"kcluster up -c OTHER --dir {directory}, or kcluster purge -c {name}",
            )
        cluster = read_cluster(directory)
        if cluster is None:
            _check_usable(directory)
        elif cluster.name != name:
            raise UsageError(
                f"{directory} belongs to cluster {cluster.name}",
                f"it cannot hold cluster {name} too",
                f"kcluster up -c {cluster.name}, or another --dir",
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(
                f"cannot use {directory}", error.strerror or "", "kcluster up --dir PATH"
            ) from error
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            raise UsageError(
                f"{directory} is in use (pid {holder(directory)})",
                f"a supervisor of cluster {cluster.name if cluster else name} runs on it",
                f"kcluster status -c {name}",
            ) from None
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, str(os.getpid()).encode(), 0)
        if is_fresh and cluster is not None:
            _empty(directory)
            cluster = None
        if directory != link:
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_symlink():
                link.unlink()
            elif link.is_dir():  # left behind empty
                link.rmdir()
            link.symlink_to(directory)
        self = cls(directory, cluster or ClusterFile(name, is_ephemeral=is_ephemeral), lock_fd)
        if self.cluster.sockets:  # of a supervisor that was killed
            _remove_sockets(self.cluster.sockets)
            self._await_servers()
        (directory / "logs").mkdir(exist_ok=True)
        return self

    def _await_servers(self) -> None:
        """The kernel kills the servers of a supervisor that was killed, but not in no time: until
        then they hold their data and their ports."""
        deadline = time.monotonic() + SERVERS_END_S
        for id in (0, *(seat.id for seat in self.cluster.seats)):
            data_dir = self.data_dir(id)
            while data_dir.is_dir():
                fd = platform.lock_directory(data_dir)
                if fd is not None:
                    os.close(fd)
                    break
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"{data_dir} is in use",
                        f"a {process_name(id)} whose supervisor was killed still runs",
                        "ps ax | grep kc-",
                    )
                time.sleep(0.005)

    def open_sockets(self) -> None:
        """A new directory for this supervisor's sockets."""
        self.cluster.sockets = _make_sockets()

    def release(self) -> None:
        """Nothing of the cluster runs any more: forget how to reach it and let go."""
        _remove_sockets(self.cluster.sockets)
        self.cluster.sockets = self.cluster.control_endpoint = ""
        self.cluster.supervisor_pid = 0
        if self.cluster.is_ephemeral:
            self._forget()
            shutil.rmtree(self.directory, ignore_errors=True)
        elif self.directory.is_dir():
            self.save()
        self._let_go()

    def abandon(self) -> None:
        """Nothing was started: let go, and leave it as it was found."""
        _remove_sockets(self.cluster.sockets)
        if self.cluster.is_ephemeral:
            self._forget()
            shutil.rmtree(self.directory, ignore_errors=True)
        self._let_go()

    def purge(self) -> None:
        """Delete the cluster with all its data."""
        _remove_sockets(self.cluster.sockets)
        self._forget()
        _empty(self.directory)
        (self.directory / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what is not ours keeps the directory
            self.directory.rmdir()
        self._let_go()

    def _let_go(self) -> None:
        self._kept_ports.close()
        os.close(self._lock_fd)

    def _forget(self) -> None:
        link = data_home() / self.cluster.name
        if link.is_symlink():
            link.unlink(missing_ok=True)

    # --- what is remembered ---------------------------------------------------------------

    def save(self, *, durable: bool = False) -> None:
        data = msgspec.json.format(msgspec.json.encode(self.cluster), indent=2)
        replace_file(self.directory / "cluster.json", data, durable=durable)

    def next_incarnation(self) -> int:
        """Rising within this directory, also across power cuts."""
        incarnation = self._next_incarnation = self._next_incarnation + 1
        if incarnation >= self.cluster.incarnations_reserved:
            self.cluster.incarnations_reserved = incarnation + INCARNATION_BLOCK
            self.save(durable=True)
        return incarnation

    def take_seats(
        self,
        count: int,
        port: int | None,
        *,
        is_any_port: bool = False,
        host: str = "",
        racks: list[str] | None = None,
    ) -> None:
        """Have `count` seats: those remembered, then others with the next ids; with ports: those
        asked for, those remembered, or the next free block. UsageError when a port that was asked
        for or is remembered is in use. The brokers stand in `racks` in turn; without, where they
        stood."""
        host = host or self.cluster.host
        seats = sorted(self.cluster.seats, key=lambda seat: seat.id)
        if count < len(seats):
            raise UsageError(
                f"cluster {self.cluster.name} has {len(seats)} brokers, not {count}",
                "a broker that is left out would take its replicas along",
                "kcluster up, then kcluster remove-broker; or kcluster up --fresh to start anew",
            )
        if port is not None:
            if not 1 <= port <= 65536 - count:
                raise UsageError(
                    f"port {port} leaves no room for {count} brokers",
                    "ports end at 65535",
                    f"kcluster up --port {FIRST_PORT}",
                    exit_code=2,
                )
            ports = [port + index for index in range(count)]
        elif seats and not is_any_port:
            ports = [seat.port for seat in seats]
            while len(ports) < count:
                ports.append(self._free_after(max(ports), host))
        else:
            ports = self._free_block(count, host)
        ids = [seat.id for seat in seats]
        while len(ids) < count:
            ids.append(max(ids, default=0) + 1)
        for id, number in zip(ids, ports, strict=True):
            problem = port_problem(host, number)
            if problem is None and not self._kept_ports.keep(number):
                problem = "is another cluster's, which has no broker there at the moment"
            if problem is not None:
                raise UsageError(
                    f"port {number} {problem}",
                    f"broker {id} needs it",
                    "kcluster up --any-port",
                )
        taken: list[Seat] = []
        for index, (id, number) in enumerate(zip(ids, ports, strict=True)):
            if racks is not None:
                rack = racks[index % len(racks)] if racks else ""
            elif index < len(seats):
                rack = seats[index].rack
            else:
                rack = _rack_for_another(taken)
            taken.append(Seat(id, number, rack))
        self.cluster.seats = taken

    def add_seat(self, rack: str | None = None) -> Seat:
        """One more, on the next free port; in the rack with the fewest, when none is named."""
        seats = self.cluster.seats
        seat = Seat(
            max(seat.id for seat in seats) + 1,
            self._free_after(max(seat.port for seat in seats), self.cluster.host),
            _rack_for_another(seats) if rack is None else rack,
        )
        seats.append(seat)
        return seat

    def remove_seat(self, id: int) -> None:
        """Its data goes, too, unless there is something that was set aside for a person."""
        for seat in self.cluster.seats:
            if seat.id == id:
                self._kept_ports.give_up(seat.port)
        self.cluster.seats = [seat for seat in self.cluster.seats if seat.id != id]
        self.save(durable=True)
        data_dir = self.data_dir(id)
        if data_dir.is_dir() and not any(data_dir.glob("*-stray")):
            shutil.rmtree(data_dir, ignore_errors=True)

    def _free_block(self, count: int, host: str) -> list[int]:
        taken = self._ports_of_others()
        start = FIRST_PORT
        while start + count <= 65536:
            block = range(start, start + count)
            if taken.isdisjoint(block) and self._keep_all(block, host):
                return list(block)
            start += PORT_BLOCK * -(-count // PORT_BLOCK)
        raise UsageError(f"no {count} free ports above {FIRST_PORT}", "", "kcluster ls")

    def _free_after(self, port: int, host: str) -> int:
        taken = self._ports_of_others()
        for candidate in range(port + 1, 65536):
            if candidate not in taken and self._keep_all([candidate], host):
                return candidate
        raise UsageError(f"no free port above {port}", "", "kcluster up --any-port")

    def _keep_all(self, ports: Sequence[int], host: str) -> bool:
        """If they are free; else none of them."""
        kept: list[int] = []
        for port in ports:
            if not self._kept_ports.keep(port):
                break
            kept.append(port)
            if not is_free(host, port):
                break
        else:
            return True
        for port in kept:
            self._kept_ports.give_up(port)
        return False

    def _ports_of_others(self) -> set[int]:
        ports = set()
        for name, directory in list_clusters():
            if name != self.cluster.name:
                with contextlib.suppress(UsageError):
                    other = read_cluster(directory)
                    ports |= {seat.port for seat in other.seats} if other else set()
        return ports

    # --- places ---------------------------------------------------------------------------

    def data_dir(self, process_id: int) -> Path:
        return self.directory / (f"broker-{process_id}" if process_id else "coordinator")

    def log_path(self, process_id: int) -> Path:
        return self.directory / "logs" / f"{process_name(process_id)}.log"

    def control_endpoint(self) -> str:
        """Always ipc: it takes commands, and the directory's mode says from whom."""
        return f"ipc://{self.cluster.sockets}/control"

    def endpoint(self, process_id: int, incarnation: int) -> str:
        """A bus inbox: one for each incarnation, because a second bind to an ipc path steals it
        silently."""
        if self.cluster.transport == "tcp":
            return "tcp://127.0.0.1:*"
        return f"ipc://{self.cluster.sockets}/{process_id}-{incarnation}"


def process_name(process_id: int) -> str:
    """As people read it: "coordinator", "broker-2", "supervisor"."""
    if process_id < 0:
        return "supervisor"
    return f"broker-{process_id}" if process_id else "coordinator"


def _rack_for_another(seats: list[Seat]) -> str:
    """Of the racks that there are, the one with the fewest brokers; the first of several."""
    counts: dict[str, int] = {}
    for seat in seats:
        counts[seat.rack] = counts.get(seat.rack, 0) + 1
    return min(counts, key=counts.__getitem__, default="")


# --- small parts --------------------------------------------------------------------------


def _make_sockets() -> str:
    """A directory of mode 0700 whose path leaves room for a socket's name."""
    for base in (os.environ.get("KCLUSTER_SOCKETS"), tempfile.gettempdir(), "/tmp"):
        if base and len(base) + 10 <= SOCKET_PATH_MAX:
            with contextlib.suppress(OSError):
                return tempfile.mkdtemp(prefix="kc-", dir=base)
    raise UsageError("no place for sockets", "no temporary directory can be written", "TMPDIR=/tmp")


def _remove_sockets(path: str) -> None:
    if path and Path(path).name.startswith("kc-"):
        shutil.rmtree(path, ignore_errors=True)


def _check_usable(directory: Path) -> None:
    """A new cluster's directory is empty or holds only our leavings."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", "", "kcluster up --dir PATH")
    strangers = sorted({entry.name for entry in directory.iterdir()} - {"lock", "logs"})
    if strangers:
        raise UsageError(
            f"{directory} is not empty and not a cluster's",
            f"it holds {', '.join(strangers[:3])}",
            "kcluster up --dir PATH",
        )


def _forget_leavings(name: str) -> Path:
    """Where the cluster is, as `locate` says; an ephemeral one whose supervisor was killed
    before it could clean up is deleted first."""
    directory = locate(name)
    cluster = read_cluster(directory)
    if cluster is not None and cluster.is_ephemeral and holder(directory) is None:
        _remove_sockets(cluster.sockets)
        shutil.rmtree(directory, ignore_errors=True)
        link = data_home() / name
        if link.is_symlink():
            link.unlink(missing_ok=True)
        return link
    return directory


def _empty(directory: Path) -> None:
    """Delete what is ours in a cluster directory, all but the lock."""
    for entry in directory.iterdir():
        is_ours = entry.name in ("coordinator", "logs") or re.fullmatch(r"broker-\d+", entry.name)
        if is_ours and entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name in ("cluster.json", "cluster.json.tmp"):
            entry.unlink()
