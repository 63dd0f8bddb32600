"""`kcluster env`: what programs need to talk to a cluster, for `eval`."""

from __future__ import annotations

import enum
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat

app = typer.Typer()


class Shell(enum.StrEnum):
    SH = "sh"
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def env(
    cluster: ClusterName = DEFAULT_CLUSTER,
    shell: Annotated[
        Shell | None, typer.Option(help="Whose syntax; that of $SHELL by default.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Print what programs need to talk to a running cluster, as lines for eval.

    KAFKA_BOOTSTRAP_SERVERS is for clients; with the others every kcluster command of that shell is
    about this cluster.

    \b
    eval "$(kcluster env)"                     # bash, zsh
    kcluster env --shell fish | source         # fish
    """
    from kcluster.client.find import running_cluster
    from kcluster.processes.workdir import data_home, locate

    found = running_cluster(cluster)
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": found.bootstrap,
        "KCLUSTER_CLUSTER": cluster,
        "KCLUSTER_DIRECTORY": str(locate(cluster).absolute()),
    }
    if "KCLUSTER_HOME" in os.environ:
        variables["KCLUSTER_HOME"] = str(data_home().absolute())
    if output_format is Format.JSON:
        output.json({"schema": 1, "env": variables})
        return
    if shell is None:
        is_fish = Path(os.environ.get("SHELL", "")).name == "fish"
        shell = Shell.FISH if is_fish else Shell.SH
    for name, value in variables.items():
        output.data(_line(name, value, shell))
    if sys.stdout.isatty():
        name = "" if cluster == DEFAULT_CLUSTER else f" -c {cluster}"
        is_fish = shell is Shell.FISH
        way = (
            f"kcluster env{name} --shell fish | source"
            if is_fish
            else f'eval "$(kcluster env{name})"'
        )
        output.note(f"set them in this shell: {way}")


def _line(name: str, value: str, shell: Shell) -> str:
    if shell is Shell.FISH:
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{quoted}'"
    return f"export {name}={shlex.quote(value)}"
