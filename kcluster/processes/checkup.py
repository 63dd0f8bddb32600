"""Whether a recorded cluster is well, running or not: the second half of `kcluster doctor`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from kcluster.client.control import BusClient
from kcluster.client.find import connect
from kcluster.client.snapshot import ClusterSnapshot, ask_snapshot
from kcluster.errors import UsageError
from kcluster.processes.machine import OK, WARNING, WRONG, Finding, stale_socket_dirs
from kcluster.processes.ports import port_problem
from kcluster.processes.workdir import (
    ClusterFile,
    holder,
    list_clusters,
    locate,
    process_name,
    read_cluster,
)  # fmt: skip
from kcluster.world import platform

LEFTOVERS_NAMED = 3


def check_cluster(name: str) -> Iterator[Finding]:
    what = f"cluster {name}"
    directory = locate(name)
    try:
        known = read_cluster(directory)
    except UsageError as error:
        yield Finding(what, WRONG, f"{error.what}: {error.why}", error.hint)
        return
    if known is None:
        others = [other for other, _ in list_clusters()]
        text = f"is not there; known: {', '.join(others)}" if others else "is not there yet"
        yield Finding(what, OK, text, f"kcluster up -c {name}")
    elif (pid := holder(directory)) is not None:
        yield from _check_running(name, pid)
    else:
        yield from _check_stopped(name, directory, known)
    if stale := stale_socket_dirs():
        text = f"{len(stale)} socket directories of supervisors that are gone"
        named = " ".join(map(str, stale[:LEFTOVERS_NAMED]))
        more = len(stale) - LEFTOVERS_NAMED
        hint = f"rm -r {named}" + (f", and {more} more like them" if more > 0 else "")
        yield Finding("leftovers", WARNING, text, hint)


# --- one that runs --------------------------------------------------------------------------


def _check_running(name: str, pid: int) -> Iterator[Finding]:
    what = f"cluster {name}"
    try:
        with connect(name) as control, BusClient() as servers:
            found = ask_snapshot(control, servers)
    except UsageError as error:
        text = f"its supervisor (pid {pid}) does not answer: {error.what}"
        yield Finding(what, WRONG, text, f"kcluster logs supervisor -c {name}")
        return
    running = sum(broker.state == "running" for broker in found.brokers)
    text = f"{found.health}, {running} of {len(found.brokers)} brokers run, supervisor {pid}"
    if found.is_healthy:
        yield Finding(what, OK, text)
    else:
        yield Finding(what, WRONG, f"{text}: {'; '.join(found.problems)}", _repair(name, found))
    for notice in found.notices:
        yield Finding(what, WARNING, notice, f"kcluster verify -c {name}")


def _repair(name: str, found: ClusterSnapshot) -> str:
    paused = [str(broker.id) for broker in found.brokers if broker.state == "paused"]
    if paused:
        return f"kcluster resume-broker {' '.join(paused)} -c {name}"
    ended = [str(b.id) for b in found.brokers if b.state in ("killed", "stopped", "failed")]
    if ended:
        return f"kcluster start-broker {' '.join(ended)} -c {name}"
    return f"kcluster status -c {name}"


# --- one that does not ----------------------------------------------------------------------


def _check_stopped(name: str, directory: Path, known: ClusterFile) -> Iterator[Finding]:
    what = f"cluster {name}"
    if known.supervisor_pid or known.control_endpoint:
        text = f"its supervisor (pid {known.supervisor_pid}) ended without a clean stop"
        yield Finding(what, WARNING, text, f"kcluster up -c {name}, which recovers")
    else:
        yield Finding(what, OK, f"stopped, {len(known.seats)} brokers, in {directory}")
    for id in (0, *(seat.id for seat in known.seats)):
        place = directory / ("coordinator" if id == 0 else f"broker-{id}")
        if not place.is_dir():
            continue
        fd = platform.lock_directory(place)
        if fd is not None:
            os.close(fd)
            continue
        pids = _lock_holders(place)
        who = f"pid {', '.join(map(str, pids))}" if pids else "a process"
        text = f"{place} is held by {who}, and its supervisor is gone"
        hint = f"kill {' '.join(map(str, pids))}" if pids else "ps ax | grep kc-"
        yield Finding(process_name(id), WRONG, text, hint)
    taken = []
    for seat in known.seats:
        problem = port_problem(known.host, seat.port)
        if problem is not None:
            taken.append(f"{seat.port} of broker {seat.id} {problem}")
    if taken:
        hint = f"end that program, or kcluster up -c {name} --any-port"
        yield Finding("ports", WRONG, "; ".join(taken), hint)
    else:
        ports = ", ".join(str(seat.port) for seat in known.seats)
        yield Finding("ports", OK, f"{ports} are free on {known.host}")


def _lock_holders(place: Path) -> list[int]:
    """Who holds a `flock` on it, where the kernel tells."""
    try:
        inode = place.stat().st_ino
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return []
    found = (re.match(r"\d+: FLOCK \S+\s+\S+ (\d+) \S+:(\d+) ", line) for line in lines)
    return sorted({int(match[1]) for match in found if match and int(match[2]) == inode})
