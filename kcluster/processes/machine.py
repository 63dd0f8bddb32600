"""Whether this machine is fit for clusters: the first half of `kcluster doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform as python_platform
import re
import resource
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

import kcluster
from kcluster.processes.workdir import SOCKET_PATH_MAX

OK: Final = "ok"
WARNING: Final = "warning"
WRONG: Final = "wrong"

PYTHON_MIN: Final = (3, 11)

FILES_LOW: Final = 4096
FILES_MIN: Final = 512
"""Descriptors of one broker: about three for each segment and one for each client."""

DISK_LOW: Final = 5 << 30
DISK_MIN: Final = 500 << 20
"""Bytes. A segment of Kafka's default size is 1 GiB, and each broker has one a partition."""

MEMORY_LOW: Final = 512 << 20


class Finding(msgspec.Struct, frozen=True):
    """One check and what came out."""

    check: str
    verdict: str
    """ok, warning (it runs, for now) or wrong."""
    text: str
    hint: str = ""
    """What to do about it."""


def check_machine(data: Path) -> Iterator[Finding]:
    """`data` is where clusters are kept."""
    yield check_python(sys.version_info[:3])
    yield check_kernel()
    yield check_dependencies(requirements())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield check_files(soft, hard)
    yield from check_disk(data)
    yield from check_memory()
    yield from check_sockets()


def check_python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version)) + f" ({sys.executable})"
    if version[:2] < PYTHON_MIN:
        wanted = ".".join(map(str, PYTHON_MIN))
        return Finding(
            "python", WRONG, f"{text}: older than {wanted}", f"install {wanted} or newer"
        )
    return Finding("python", OK, text)


def check_kernel() -> Finding:
    text = f"{python_platform.system()} {python_platform.release()}"
    if sys.platform != "linux":
        why = "servers may outlive a supervisor that is killed"
        return Finding("kernel", WARNING, f"{text}: not Linux, {why}", "Linux or WSL2 has it all")
    if not hasattr(os, "pidfd_open"):
        return Finding("kernel", WARNING, f"{text}: no pidfd", "Linux 5.3 or newer has it")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding("kernel", WARNING, f"{text}: no pidfd ({error.strerror})",
                       "Linux 5.3 or newer has it; a sandbox may forbid it")  # fmt: skip
    return Finding("kernel", OK, f"{text}, pidfd")


# --- dependencies ---------------------------------------------------------------------------


def requirements() -> list[str]:
    """As "pyzmq<28,>=27": of the source tree where there is one, else of what is installed."""
    assert kcluster.__file__ is not None
    project = Path(kcluster.__file__).parent.parent / "pyproject.toml"
    try:
        found = tomllib.loads(project.read_text("utf-8"))["project"]
        if found["name"] == "kcluster":
            return list(found["dependencies"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        pass
    try:
        wanted = importlib.metadata.requires("kcluster") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in wanted if ";" not in line]


def check_dependencies(wanted: list[str]) -> Finding:
    found, problems = [], []
    for line in wanted:
        match = re.match(r"[A-Za-z0-9._-]+", line)
        if match is None:
            continue
        name = match[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        bounds = line[len(name) :]
        if not fits(version, bounds):
            problems.append(f"{name} {version} is not {bounds.strip()}")
    if problems:
        return Finding(
            "dependencies", WRONG, "; ".join(problems), "make setup, or pip install kcluster"
        )
    return Finding("dependencies", OK, ", ".join(found) or "nothing says which")


def fits(version: str, bounds: str) -> bool:
    """Of bounds like ">=27,<28"; others are taken for fulfilled."""
    own = _numbers(version)
    for bound in bounds.split(","):
        match = re.fullmatch(r"\s*(>=|<)\s*([0-9.]+)\s*", bound)
        if match is None:
            continue
        limit = _numbers(match[2])
        width = max(len(own), len(limit))
        left, right = own + [0] * (width - len(own)), limit + [0] * (width - len(limit))
        if (left < right) if match[1] == ">=" else (left >= right):
            return False
    return True


def _numbers(version: str) -> list[int]:
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return [int(part) for part in match[0].split(".")] if match else []


# --- what it has ----------------------------------------------------------------------------


def check_files(soft: int, hard: int) -> Finding:
    """Servers raise the soft limit as far as the hard one lets."""
    text = f"{_limit(soft)}, servers raise it to {_limit(hard)}"
    if 0 <= hard < FILES_MIN:
        return Finding("descriptors", WRONG, f"{text}: too few for a broker", "ulimit -Hn 65536")
    if 0 <= hard < FILES_LOW:
        return Finding("descriptors", WARNING, f"{text}: few segments and clients fit in",
                       "ulimit -Hn 65536, as root or in limits.conf")  # fmt: skip
    return Finding("descriptors", OK, text)


def _limit(number: int) -> str:
    return "unlimited" if number < 0 else str(number)


def check_disk(data: Path) -> Iterator[Finding]:
    there = next(place for place in (data, *data.absolute().parents) if place.exists())
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        yield Finding("disk", WRONG, f"{there}: {error.strerror}", "kcluster up --dir PATH")
        return
    text = f"{_size(usage.free)} free of {_size(usage.total)} at {there}"
    hint = "delete what is not needed: kcluster ls, kcluster purge; or kcluster up --dir PATH"
    if usage.free < DISK_MIN:
        yield Finding("disk", WRONG, f"{text}: nearly full", hint)
    elif usage.free < DISK_LOW:
        yield Finding("disk", WARNING, f"{text}: low", hint)
    else:
        yield Finding("disk", OK, text)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("data", WRONG, f"{there} cannot be written to", "kcluster up --dir PATH")


def check_memory() -> Iterator[Finding]:
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available
    text = f"{_size(free)} available"
    if free < MEMORY_LOW:
        yield Finding("memory", WARNING, f"{text}: a broker wants 60 MB and more",
                      "kcluster up --brokers 1, or end something else")  # fmt: skip
    else:
        yield Finding("memory", OK, text)


def check_sockets() -> Iterator[Finding]:
    """As `workdir` chooses their place."""
    for base in (os.environ.get("KCLUSTER_SOCKETS"), tempfile.gettempdir(), "/tmp"):
        if not base:
            continue
        if len(os.fsencode(base)) + 10 > SOCKET_PATH_MAX:
            yield Finding("sockets", WARNING, f"{base} is too long a path for a unix socket",
                          "TMPDIR=/tmp, or KCLUSTER_SOCKETS=/a/short/path")  # fmt: skip
        elif not os.access(base, os.W_OK | os.X_OK):
            yield Finding("sockets", WARNING, f"{base} cannot be written to",
                          "KCLUSTER_SOCKETS=/a/short/path")  # fmt: skip
        else:
            yield Finding("sockets", OK, f"in {base}")
            return
    yield Finding("sockets", WRONG, "no place for them", "KCLUSTER_SOCKETS=/a/short/path")


def stale_socket_dirs() -> list[Path]:
    """Of supervisors that are gone: nobody listens there any more. Those of this user only."""
    import socket  # noqa: PLC0415

    found = []
    bases = {os.environ.get("KCLUSTER_SOCKETS"), tempfile.gettempdir(), "/tmp"}
    for base in sorted(base for base in bases if base):
        for place in sorted(Path(base).glob("kc-*/control")):
            try:
                status = place.stat()
            except OSError:
                continue
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.getuid():
                continue
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(place))
                except ConnectionRefusedError:
                    found.append(place.parent)
                except OSError:
                    continue
    return found


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
