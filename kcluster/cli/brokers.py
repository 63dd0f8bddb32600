"""Commands that break brokers and mend them again."""

from __future__ import annotations

import random
import signal
from typing import Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    Quiet,
    broker_ids,
    milliseconds,
)
from kcluster.client.control import BusClient, ControlClient
from kcluster.errors import UsageError
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.processes.find import connect
from kcluster.wire import control as c

app = typer.Typer()

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Broker ids.")]
Coordinator = Annotated[bool, typer.Option("--coordinator", help="The coordinator.")]
All = Annotated[bool, typer.Option("--all", help="All brokers.")]
Timeout = Annotated[str, typer.Option(help="How long it may take.")]

SIGNALS = ("KILL", "TERM", "INT")
WAITS = ("none", "detected", "elected", "recovered")


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


def _named(ids: list[int]) -> str:
    names = [f"broker {id}" if id else "the coordinator" for id in ids]
    return ", ".join(names)


@app.command(name="kill-broker")
def kill_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    random_one: Annotated[bool, typer.Option("--random", help="Any that runs.")] = False,
    leader_of: Annotated[
        str | None, typer.Option(metavar="TOPIC-PARTITION", help="Whoever leads it.")
    ] = None,
    coordinator: Coordinator = False,
    signal_name: Annotated[
        str, typer.Option("--signal", metavar="KILL|TERM|INT", help="TERM and INT end cleanly.")
    ] = "KILL",
    restart_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start it again, so long after its death.")
    ] = None,
    wait: Annotated[
        str, typer.Option(metavar="none|detected|elected|recovered", help="Until when.")
    ] = "none",
    timeout: Timeout = "30s",
    seed: Annotated[int | None, typer.Option(help="For --random.")] = None,
    output_format: OutputFormat = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Kill brokers, or the coordinator. They stay dead until they are started."""
    if quiet:
        output.be_quiet()
    number = signal_name.upper().removeprefix("SIG")
    if number not in SIGNALS:
        raise UsageError(f"--signal {signal_name}: unknown", "it is KILL, TERM or INT", "", 2)
    if wait not in WAITS:
        raise UsageError(f"--wait {wait}: unknown", f"it is {', '.join(WAITS)}", "", 2)
    if wait == "recovered" and restart_after is None:
        raise UsageError(
            "--wait recovered waits for ever",
            "a killed broker stays dead until it is started",
            "add --restart-after 1s",
            2,
        )
    timeout_ms = milliseconds(timeout)
    restart_after_ms = None if restart_after is None else milliseconds(restart_after)
    with connect(cluster) as control, BusClient() as servers:
        chosen = broker_ids(ids) + ([COORDINATOR] if coordinator else [])
        if random_one:
            chosen.append(_random_one(control, cluster, seed))
        if leader_of is not None:
            chosen.append(_leader_of(control, servers, leader_of))
        if not chosen:
            _some(None, coordinator=False, what="kill-broker")
        from kcluster.client.failover import Failover

        failover = Failover(control, servers, chosen) if wait != "none" else None
        done = control.command(
            c.Kill(chosen, signal.Signals[f"SIG{number}"], restart_after_ms, timeout_ms)
        )
        moments = list(done.moments)
        if failover is not None:
            moments += failover.wait(wait, moments, timeout_ms)
    _print_timeline(moments, output_format, number)


def _random_one(control: ControlClient, cluster: str, seed: int | None) -> int:
    running = [
        info.state.id
        for info in control.describe().processes
        if info.state.id > 0 and info.state.state in ("running", "paused")
    ]
    if not running:
        raise UsageError(
            f"no broker of cluster {cluster} is running", "", "kcluster start-broker --all"
        )
    return random.Random(seed).choice(running)


def _leader_of(control: ControlClient, servers: BusClient, text: str) -> int:
    """UsageError (exit 4) when there is no such partition."""
    from kcluster.client.snapshot import read_image
    from kcluster.core.metadata.image import leader_of

    topic, _, partition = text.rpartition("-")
    if not topic or not partition.isdigit():
        raise UsageError(f"{text!r} is not TOPIC-PARTITION", "", "--leader-of orders-0", 2)
    states = [info.state for info in control.describe().processes]
    image = read_image(servers, states)
    if image is None:
        raise UsageError("nobody could say who leads what", "", "kcluster status", 10)
    tp = TopicPartition(topic, int(partition))
    if image.partition(tp) is None:
        raise UsageError(
            f"there is no partition {tp}",
            f"topics: {', '.join(sorted(image.topics)) or 'none'}",
            "kcluster topic ls",
            4,
        )
    leader = leader_of(image, tp)
    if leader <= 0:
        raise UsageError(f"{tp} has no leader", "", "kcluster status", 10)
    return leader


def _print_timeline(moments: list[c.Moment], output_format: Format, number: str = "") -> None:
    """Milliseconds from the first moment on."""
    first = min((moment.monotonic_ns for moment in moments), default=0)
    rows = [
        (round((moment.monotonic_ns - first) / 1e6, 1), moment.event, moment.id)
        for moment in sorted(moments, key=lambda moment: moment.monotonic_ns)
    ]
    if output_format is Format.JSON:
        output.json(
            {
                "schema": 1,
                "signal": number,
                "timeline": [{"ms": ms, "event": event, "id": id} for ms, event, id in rows],
            }
        )
        return
    for ms, event, id in rows:
        output.data(f"{ms:>9.1f} ms  {_named([id]):<16} {event}")


@app.command(name="start-broker")
def start_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    coordinator: Coordinator = False,
    all: All = False,
    timeout: Timeout = "30s",
) -> None:
    """Start brokers that do not run; returns when they are ready."""
    with connect(cluster) as control:
        chosen = _brokers(control) if all else []
        chosen += broker_ids(ids) + ([COORDINATOR] if coordinator else [])
        if not chosen:
            _some(None, coordinator=False, what="start-broker")
        control.command(c.Start(chosen, milliseconds(timeout)))
        output.tick(f"{_named(chosen)}: running")


@app.command(name="stop-broker")
def stop_broker(
    ids: Ids = None, cluster: ClusterName = DEFAULT_CLUSTER, timeout: Timeout = "30s"
) -> None:
    """Shut brokers down cleanly: their leaderships move away first."""
    chosen = _some(ids, coordinator=False, what="stop-broker")
    with connect(cluster) as control:
        control.command(c.Stop(chosen, milliseconds(timeout)))
        output.tick(f"{_named(chosen)}: stopped")


@app.command(name="restart-broker")
def restart_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    coordinator: Coordinator = False,
    timeout: Timeout = "30s",
) -> None:
    """Stop brokers cleanly and start them again."""
    chosen = _some(ids, coordinator=coordinator, what="restart-broker")
    with connect(cluster) as control:
        done = control.command(
            c.Restart(chosen, milliseconds(timeout)), 2 * milliseconds(timeout) + 5_000
        )
        output.tick(f"{_named(done.ids)}: running")


@app.command(name="pause-broker")
def pause_broker(
    ids: Ids = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    coordinator: Coordinator = False,
    for_time: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Then it goes on.")
    ] = None,
) -> None:
    """Stop brokers with SIGSTOP: they hang, and only silence tells."""
    chosen = _some(ids, coordinator=coordinator, what="pause-broker")
    for_ms = None if for_time is None else milliseconds(for_time)
    with connect(cluster) as control:
        control.command(c.Pause(chosen, for_ms))
        output.tick(f"{_named(chosen)}: paused")


@app.command(name="resume-broker")
def resume_broker(
    ids: Ids = None, cluster: ClusterName = DEFAULT_CLUSTER, coordinator: Coordinator = False
) -> None:
    """Let paused brokers go on."""
    chosen = _some(ids, coordinator=coordinator, what="resume-broker")
    with connect(cluster) as control:
        control.command(c.Resume(chosen))
        output.tick(f"{_named(chosen)}: running")


@app.command(name="add-broker")
def add_broker(cluster: ClusterName = DEFAULT_CLUSTER, timeout: Timeout = "30s") -> None:
    """Add a broker to a running cluster. Existing partitions stay where they are."""
    with connect(cluster) as control:
        done = control.command(c.AddBroker(milliseconds(timeout)))
        info = next(i for i in control.describe().processes if i.state.id == done.ids[0])
        output.tick(f"{_named(done.ids)}: running on {info.host}:{info.port}")
