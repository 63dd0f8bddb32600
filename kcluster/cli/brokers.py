"""Commands that stop, pause and start brokers, and add one."""

from __future__ import annotations

from typing import Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    broker_ids,
    milliseconds,
)
from kcluster.client.control import ControlClient
from kcluster.client.find import connect
from kcluster.errors import UsageError
from kcluster.model import COORDINATOR
from kcluster.wire import control as c

app = typer.Typer()

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Broker ids.")]
Coordinator = Annotated[bool, typer.Option("--coordinator", help="The coordinator.")]
All = Annotated[bool, typer.Option("--all", help="All brokers.")]
Timeout = Annotated[str, typer.Option(metavar="TIME", help="How long it may take.")]


def _some(ids: list[str] | None, *, coordinator: bool, what: str) -> list[int]:
    """The ids meant. UsageError when nothing was named."""
    chosen = broker_ids(ids) + ([COORDINATOR] if coordinator else [])
    if not chosen:
        raise UsageError(
            f"{what}: which broker?", "no id was given", f"kcluster {what} 2", exit_code=2
        )
    return chosen


def _brokers(control: ControlClient) -> list[int]:
    return [info.state.id for info in control.describe().processes if info.state.id > 0]


def named(ids: list[int]) -> str:
    names = [f"broker {id}" if id else "the coordinator" for id in ids]
    return ", ".join(names)


@app.command(name="start-broker")
def start_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    coordinator: Coordinator = False,
    all: All = False,
    timeout: Timeout = "30s",
) -> None:
    """Start brokers that do not run; returns when they are ready.

    \b
    kcluster start-broker 2
    kcluster start-broker --all
    """
    with connect(cluster) as control:
        chosen = _brokers(control) if all else []
        chosen += broker_ids(ids) + ([COORDINATOR] if coordinator else [])
        if not chosen:
            _some(None, coordinator=False, what="start-broker")
        control.command(c.Start(chosen, milliseconds(timeout)))
        output.tick(f"{named(chosen)}: running")


@app.command(name="stop-broker")
def stop_broker(
    ids: Ids = None, cluster: ClusterName = DEFAULT_CLUSTER, timeout: Timeout = "30s"
) -> None:
    """Shut brokers down cleanly: their leaderships move away first.

    \b
    kcluster stop-broker 2
    """
    chosen = _some(ids, coordinator=False, what="stop-broker")
    with connect(cluster) as control:
        control.command(c.Stop(chosen, milliseconds(timeout)))
        output.tick(f"{named(chosen)}: stopped")


@app.command(name="restart-broker")
def restart_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    coordinator: Coordinator = False,
    timeout: Timeout = "30s",
) -> None:
    """Stop brokers cleanly and start them again.

    \b
    kcluster restart-broker 2
    """
    chosen = _some(ids, coordinator=coordinator, what="restart-broker")
    with connect(cluster) as control:
        done = control.command(
            c.Restart(chosen, milliseconds(timeout)), 2 * milliseconds(timeout) + 5_000
        )
        output.tick(f"{named(done.ids)}: running")


@app.command(name="pause-broker")
def pause_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    coordinator: Coordinator = False,
    for_time: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Then it goes on.")
    ] = None,
) -> None:
    """Stop brokers with SIGSTOP: they hang, and only silence tells.

    \b
    kcluster pause-broker 2 --for 5s
    """
    chosen = _some(ids, coordinator=coordinator, what="pause-broker")
    for_ms = None if for_time is None else milliseconds(for_time)
    with connect(cluster) as control:
        control.command(c.Pause(chosen, for_ms))
        output.tick(f"{named(chosen)}: paused")


@app.command(name="resume-broker")
def resume_broker(
    ids: Ids = None, cluster: ClusterName = DEFAULT_CLUSTER, coordinator: Coordinator = False
) -> None:
    """Let paused brokers go on.

    \b
    kcluster resume-broker 2
    """
    chosen = _some(ids, coordinator=coordinator, what="resume-broker")
    with connect(cluster) as control:
        control.command(c.Resume(chosen))
        output.tick(f"{named(chosen)}: running")


@app.command(name="add-broker")
def add_broker(
    cluster: ClusterName = DEFAULT_CLUSTER,
    rack: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where it stands; else where the fewest are."),
    ] = None,
    timeout: Timeout = "30s",
) -> None:
    """Add a broker to a running cluster. Partitions stay where they are until they are moved.

    \b
    kcluster add-broker
    """
    with connect(cluster) as control:
        done = control.command(c.AddBroker(milliseconds(timeout), rack))
        info = next(i for i in control.describe().processes if i.state.id == done.ids[0])
        output.tick(f"{named(done.ids)}: running on {info.host}:{info.port}")
        output.note("it holds nothing yet: kcluster reassign --balance spreads partitions onto it")
