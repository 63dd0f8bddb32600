"""Commands about whole clusters: down, purge, ls, version."""

from __future__ import annotations

from typing import Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    Quiet,
    milliseconds,
)
from kcluster.client.find import connect
from kcluster.errors import UsageError
from kcluster.processes.workdir import (
    Workdir,
    holder,
    list_clusters,
    locate,
    read_cluster,
)
from kcluster.wire import control as c

app = typer.Typer()


@app.command()
def down(
    cluster: ClusterName = DEFAULT_CLUSTER,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Then servers are killed.")] = "30s",
    force: Annotated[bool, typer.Option("--force", help="Kill at once.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every cluster that runs.")] = False,
    quiet: Quiet = False,
) -> None:
    """End a cluster; its data stays.

    \b
    kcluster down
    kcluster down --all --force
    """
    if quiet:
        output.be_quiet()
    if not all:
        end(cluster, milliseconds(timeout), is_forced=force)
        output.tick(f"cluster {cluster} is down")
        return
    for name, directory in list_clusters():
        if holder(directory) is not None:
            end(name, milliseconds(timeout), is_forced=force)
            output.tick(f"cluster {name} is down")


def end(name: str, timeout_ms: int = 30_000, *, is_forced: bool = False) -> None:
    """End a cluster; when this returns it can be started again."""
    with connect(name) as control:
        control.command(c.Down(timeout_ms, is_forced))
    _await_release(name)


def _await_release(name: str) -> None:
    """The supervisor's last act, after its answer, is to let go of the directory."""
    import time

    directory = locate(name)
    deadline = time.monotonic() + 5
    while holder(directory) is not None and time.monotonic() < deadline:
        time.sleep(0.005)


@app.command()
def purge(
    cluster: ClusterName = DEFAULT_CLUSTER,
    confirm: Annotated[
        str | None, typer.Option(metavar="NAME", help="The cluster's name once more.")
    ] = None,
) -> None:
    """Delete a cluster with all its data.

    \b
    kcluster purge -c dev --confirm dev
    """
    directory = locate(cluster)
    if read_cluster(directory) is None:
        raise UsageError(
            f"there is no cluster {cluster}", f"nothing is in {directory}", "kcluster ls", 3
        )
    if confirm is not None and confirm != cluster:
        raise UsageError(
            f"--confirm {confirm} is not the cluster's name",
            f"the cluster is {cluster}",
            f"kcluster purge -c {cluster} --confirm {cluster}",
            2,
        )
    if confirm is None and not output.confirms(f"delete cluster {cluster} in {directory}?"):
        raise UsageError(
            "nothing was deleted",
            "deleting a cluster wants to be confirmed",
            f"kcluster purge -c {cluster} --confirm {cluster}",
        )
    if holder(directory) is not None:
        with connect(cluster) as control:
            control.command(c.Down(is_forced=True))
        _await_release(cluster)
        if not directory.exists():  # an ephemeral one is gone by now
            output.tick(f"cluster {cluster} is deleted")
            return
    Workdir.claim(cluster, directory).purge()
    output.tick(f"cluster {cluster} is deleted")


@app.command()
def ls(output_format: OutputFormat = Format.TABLE) -> None:
    """List the clusters of this user.

    \b
    kcluster ls -o json
    """
    rows = []
    for name, directory in list_clusters():
        cluster = read_cluster(directory)
        if cluster is not None:
            rows.append(
                {
                    "name": name,
                    "state": "running" if holder(directory) is not None else "stopped",
                    "brokers": len(cluster.seats),
                    "bootstrap": cluster.bootstrap,
                    "directory": str(directory),
                }
            )
    if output_format is Format.JSON:
        output.json({"schema": 1, "clusters": rows})
    elif rows:
        output.table(
            ["NAME", "STATE", "BROKERS", "BOOTSTRAP", "DIRECTORY"],
            [list(row.values()) for row in rows],
            numbers=["BROKERS"],
        )
    else:
        output.note("no clusters; start one with kcluster up")


@app.command()
def version() -> None:
    """Print the version.

    \b
    kcluster version
    """
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        output.data(f"kcluster {version_of('kcluster')}")
    except PackageNotFoundError:
        output.data("kcluster, not installed")
