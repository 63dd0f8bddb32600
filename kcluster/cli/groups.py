"""`kcluster groups`: the shorter way to `kcluster group ls`."""

from __future__ import annotations

import typer

from kcluster.cli import group
from kcluster.cli.options import DEFAULT_CLUSTER, Bootstrap, ClusterName, Format, OutputFormat

app = typer.Typer()


@app.command()
def groups(
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List groups, with their states.

    \b
    kcluster groups
    """
    group.ls(cluster, bootstrap, output_format)
