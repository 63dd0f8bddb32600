"""`kcluster restart --rolling`: every broker anew, one after another, and no partition without
its replicas.

    all replicas in sync? --> stop (leaders move away) --> start --> its replicas in sync? --> next
"""

from __future__ import annotations

import itertools
import time
from typing import Annotated, Any

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    broker_ids,
    milliseconds,
)
from kcluster.client.control import BusClient, ControlClient
from kcluster.client.find import connect
from kcluster.client.snapshot import read_image
from kcluster.errors import UsageError
from kcluster.wire import control as c

app = typer.Typer()

EXIT_TIMED_OUT = 124
EXIT_UNHEALTHY = 10
LOOK_S = 0.02


@app.command()
def restart(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="All brokers when none is named.")
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="One after another; otherwise all at once.")
    ] = False,
    timeout: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long stop, start and catching up may take, each."),
    ] = "60s",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Restart brokers; with --rolling clients do not notice.

    \b
    kcluster restart --rolling
    """
    timeout_ms = milliseconds(timeout)
    with connect(cluster) as control, BusClient() as servers:
        known = [info.state.id for info in control.describe().processes if info.state.id > 0]
        chosen = broker_ids(ids) or known
        begun = time.monotonic()
        if not rolling:
            control.command(c.Restart(chosen, timeout_ms), 2 * timeout_ms + 5_000)
            steps = [{"id": id} for id in chosen]
        else:
            _all_run(control, cluster)
            _await_in_sync(control, servers, None, timeout_ms)
            steps = [_one(control, servers, id, timeout_ms) for id in chosen]
        total_ms = round((time.monotonic() - begun) * 1000, 1)
    if output_format is Format.JSON:
        output.json({"schema": 1, "rolling": rolling, "ms": total_ms, "brokers": steps})
    else:
        output.tick(f"{len(steps)} broker(s) restarted in {output.duration(total_ms)}")


def _all_run(control: ControlClient, cluster: str) -> None:
    """A second broker down would leave partitions with too few replicas."""
    for info in control.describe().processes:
        if info.state.id > 0 and info.state.state != "running":
            raise UsageError(
                f"broker {info.state.id} is {info.state.state}",
                "a rolling restart begins with all brokers running",
                f"kcluster start-broker {info.state.id} -c {cluster}",
                EXIT_UNHEALTHY,
            )


def _one(control: ControlClient, servers: BusClient, id: int, timeout_ms: int) -> dict[str, Any]:
    moments = [time.monotonic()]
    control.command(c.Stop([id], timeout_ms))
    moments.append(time.monotonic())
    control.command(c.Start([id], timeout_ms))
    moments.append(time.monotonic())
    _await_in_sync(control, servers, id, timeout_ms)
    moments.append(time.monotonic())
    stop, start, sync = (
        round((later - earlier) * 1000, 1) for earlier, later in itertools.pairwise(moments)
    )
    output.note(
        f"broker {id}: stopped in {output.duration(stop)}, ready {output.duration(start)} later,"
        f" in sync {output.duration(sync)} after that"
    )
    return {"id": id, "stop_ms": stop, "start_ms": start, "in_sync_ms": sync}


def _await_in_sync(
    control: ControlClient, servers: BusClient, id: int | None, timeout_ms: int
) -> None:
    """Until this broker (None: each) is in the ISR of every partition that it is a replica of.
    UsageError when that takes too long."""
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        missing = _missing(control, servers, id)
        if not missing:
            return
        if time.monotonic() >= deadline:
            raise UsageError(
                f"not all replicas are in sync after {output.duration(timeout_ms)}",
                missing,
                "kcluster status",
                EXIT_TIMED_OUT,
            )
        time.sleep(LOOK_S)


def _missing(control: ControlClient, servers: BusClient, id: int | None) -> str:
    """A replica that is not in sync; empty when there is none."""
    image = read_image(servers, control.states())
    if image is None:
        return "nobody could say who is in sync"
    for name, topic in sorted(image.topics.items()):
        for index, state in sorted(topic.partitions.items()):
            for replica in state.replicas:
                if id in (None, replica) and replica not in state.isr:
                    return f"broker {replica} is not in the ISR of {name}-{index}"
    return ""
