"""From a cluster's name to where it is, who holds it, and its running supervisor.

    name --locate--> directory --read_cluster--> ClusterFile --connect--> ControlClient

The directory belongs to `processes/workdir.py`, which writes what is only read here.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kcluster.errors import UsageError

if TYPE_CHECKING:
    from kcluster.client.control import ControlClient
    from kcluster.client.watch import Watch

EXIT_NOT_RUNNING = 3

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")


class Seat(msgspec.Struct):
    """A broker's place in the cluster: the id and port that stay when its process changes."""

    id: int
    port: int
    rack: str = ""
    """Empty for none."""


class ClusterFile(msgspec.Struct):
    """cluster.json."""

    name: str
    format: int = 1
    host: str = "127.0.0.1"
    """Where brokers listen."""
    advertise: str = ""
    """What clients are told instead; empty for `host`."""
    seats: list[Seat] = []
    options: dict[str, str] = {}
    restart: str = "on-failure"
    transport: str = "ipc"
    is_ephemeral: bool = False
    incarnations_reserved: int = 0
    """Every incarnation given out so far is below this."""
    supervisor_pid: int = 0
    control_endpoint: str = ""
    sockets: str = ""

    @property
    def bootstrap(self) -> str:
        host = self.advertise or self.host
        return ",".join(f"{host}:{seat.port}" for seat in self.seats)


def data_home() -> Path:
    """Where clusters live that were not told otherwise."""
    if home := os.environ.get("KCLUSTER_HOME"):
        return Path(home)
    import platformdirs  # noqa: PLC0415 - not needed by who names a directory

    return Path(platformdirs.user_data_dir("kcluster", appauthor=False))


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"invalid cluster name {name!r}",
            "a name has letters, digits, '.', '_' and '-', at most 64, and starts with one of"
            " the first two",
            "kcluster up -c dev",
            exit_code=2,
        )
    return name


def locate(name: str) -> Path:
    """Where the cluster of this name is or would be; links of `--dir` followed."""
    place = data_home() / check_name(name)
    try:
        return Path(os.readlink(place))  # noqa: PTH115
    except OSError:
        # No link; one that was there a moment ago may be gone, as with an ephemeral cluster.
        return place


def read_cluster(directory: Path) -> ClusterFile | None:
    """None when there is none. UsageError when the file cannot be understood."""
    path = directory / "cluster.json"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}", str(error.strerror), "kcluster ls") from error
    try:
        return msgspec.json.decode(data, type=ClusterFile)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{path} is damaged",
            str(error),
            f"look at it, or delete the cluster with rm -r {directory}",
        ) from error


def list_clusters() -> list[tuple[str, Path]]:
    """Names and directories of all that are recorded; links to what is gone are dropped."""
    found = []
    home = data_home()
    for place in sorted(home.iterdir()) if home.is_dir() else []:
        if not _NAME.fullmatch(place.name):
            continue
        if place.is_symlink() and not place.exists():
            place.unlink(missing_ok=True)
            continue
        directory = locate(place.name)
        if (directory / "cluster.json").exists():
            found.append((place.name, directory))
    return found


def holder(directory: Path) -> int | None:
    """Pid of the supervisor that holds the directory; None when nobody does."""
    try:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).strip()
        return int(pid) if pid.isdigit() else 0
    finally:
        os.close(fd)
    return None


def recorded_cluster(name: str) -> tuple[Path, ClusterFile]:
    """Its directory and what that remembers, whether it runs or not. UsageError (exit 3) when
    there is none."""
    directory = locate(name)
    cluster = read_cluster(directory)
    if cluster is None:
        known = [other for other, _ in list_clusters()]
        raise UsageError(
            f"there is no cluster {name}",
            f"known: {', '.join(known)}" if known else "none has been started here",
            f"kcluster up -c {name}",
            EXIT_NOT_RUNNING,
        )
    return directory, cluster


def running_cluster(name: str) -> ClusterFile:
    """How to reach it. UsageError (exit 3) when it does not run."""
    directory, cluster = recorded_cluster(name)
    if holder(directory) is None or not cluster.control_endpoint:
        raise UsageError(
            f"cluster {name} is not running",
            f"its data is in {directory}",
            f"kcluster up -c {name}",
            EXIT_NOT_RUNNING,
        )
    return cluster


def connect(name: str) -> ControlClient:
    """Its supervisor."""
    from kcluster.client.control import ControlClient  # noqa: PLC0415 - who only looks needs none

    return ControlClient(running_cluster(name).control_endpoint, name)


def watch(name: str, *, interval_ms: int = 250, after: int = -1) -> Watch:
    """What changes in it, as it does: see `Watch`."""
    from kcluster.client.watch import Watch  # noqa: PLC0415 - most commands do not watch

    endpoint = running_cluster(name).control_endpoint
    return Watch(name, endpoint, interval_ms=interval_ms, after=after)
