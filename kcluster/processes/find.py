"""From a cluster's name to its running supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kcluster.client.control import EXIT_NOT_RUNNING, ControlClient
from kcluster.errors import UsageError
from kcluster.processes.workdir import ClusterFile, holder, list_clusters, locate, read_cluster

if TYPE_CHECKING:
    from kcluster.client.watch import Watch


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
    return ControlClient(running_cluster(name).control_endpoint, name)


def watch(name: str, *, interval_ms: int = 250, after: int = -1) -> Watch:
    """What changes in it, as it does: see `Watch`."""
    from kcluster.client.watch import Watch  # noqa: PLC0415 - most commands do not watch

    endpoint = running_cluster(name).control_endpoint
    return Watch(name, endpoint, interval_ms=interval_ms, after=after)
