"""`kcluster top`: the interactive screen."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, milliseconds
from kcluster.client.find import running_cluster
from kcluster.errors import UsageError

app = typer.Typer()

REFRESH_MS_MIN, REFRESH_MS_MAX = 50, 60_000


@app.command()
def top(
    cluster: ClusterName = DEFAULT_CLUSTER,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Look, and break nothing.")
    ] = False,
    refresh: Annotated[str, typer.Option(metavar="TIME", help="How often.")] = "250ms",
    ascii: Annotated[
        bool, typer.Option("--ascii", help="For terminals without block characters.")
    ] = False,
) -> None:
    """Watch a cluster live, and break it: the interactive screen.

    Brokers, partitions, segments, in-sync replicas and lag, and what happens to them.

    kcluster top --read-only     # press ? for the keys
    """
    interval_ms = milliseconds(refresh)
    if not REFRESH_MS_MIN <= interval_ms <= REFRESH_MS_MAX:
        raise UsageError(f"--refresh {refresh}: out of range", "from 50ms to 60s", "250ms", 2)
    problem = no_screen_because()
    if problem:
        raise UsageError(
            "top needs a terminal that can be drawn on",
            problem,
            f"kcluster status --watch{_suffix(cluster)}",
        )
    running_cluster(cluster)
    show(cluster, is_read_only=read_only, interval_ms=interval_ms, is_ascii=ascii)


def no_screen_because() -> str:
    """Why there can be no screen here; empty when there can."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return "standard input, output or error is not a terminal"
    if os.environ.get("TERM", "dumb") == "dumb":
        return "TERM is dumb"
    return ""


def show(
    cluster: str, *, is_read_only: bool = False, interval_ms: int = 250, is_ascii: bool = False
) -> None:
    """Until its user leaves it; ends the cluster when that is wanted."""
    from kcluster.tui.app import STOP_CLUSTER
    from kcluster.tui.start import make_top

    for name in ("COLUMNS", "LINES"):
        # Some shells export what they once were, and the toolkit would believe them.
        os.environ.pop(name, None)
    app = make_top(cluster, is_read_only=is_read_only, interval_ms=interval_ms, is_ascii=is_ascii)
    # Without the mouse: what stands on the screen can be marked and copied as in any terminal,
    # and its wheel is what terminals make of it there, arrow keys.
    wish = app.run(mouse=False)
    if app.return_code:
        raise UsageError(
            "the screen ended by a bug",
            "the cluster runs on",
            f"kcluster status{_suffix(cluster)}",
        )
    if wish == STOP_CLUSTER:
        from kcluster.cli.clusters import end

        output.note(f"stopping cluster {cluster}")
        end(cluster)
        output.note(f"cluster {cluster} is down; its data stays")
    else:
        output.note(f"cluster {cluster} runs on; kcluster down{_suffix(cluster)} ends it")


def _suffix(cluster: str) -> str:
    return "" if cluster == DEFAULT_CLUSTER else f" -c {cluster}"
