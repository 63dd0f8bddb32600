"""`kcluster status`: processes, partitions, replicas, once or as they change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    milliseconds,
)
from kcluster.client.control import EXIT_TIMED_OUT, BusClient
from kcluster.client.find import connect
from kcluster.client.find import watch as watch_cluster
from kcluster.client.snapshot import (
    BrokerStatus,
    ClusterSnapshot,
    PartitionStatus,
    ReplicaStatus,
    ask_snapshot,
)
from kcluster.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Group

app = typer.Typer()

WATCH_MS = 250
HEALTHY_POLL_S = 0.05

NOTICES_SHOWN = 5
"""Of repairs, unless all are asked for."""

MARKS = {"leader": "L", "in-sync": "F", "behind": "f", "offline": "!", "down": "x"}
LEGEND = "L leader  F in sync  f fell out of the ISR  ! its log failed  x broker down"
MOVING = "  + is added  - goes"


@app.command()
def status(
    cluster: ClusterName = DEFAULT_CLUSTER,
    output_format: OutputFormat = Format.TABLE,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on until Ctrl-C.")] = False,
    wait_healthy: Annotated[
        bool, typer.Option("--wait-healthy", help="Until nothing is wrong.")
    ] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Of --wait-healthy.")] = "30s",
) -> int:
    """Show brokers, partitions, segments, sizes and lag. Exit code 10: something is wrong.

    \b
    kcluster status --watch
    kcluster status --wait-healthy --timeout 1m
    """
    if watch:
        _watch(cluster, output_format)
    with connect(cluster) as control, BusClient() as servers:
        found = ask_snapshot(control, servers)
        deadline = time.monotonic() + milliseconds(timeout) / 1000
        while wait_healthy and not found.is_healthy:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"cluster {cluster} is {found.health} after {timeout}",
                    "; ".join(found.problems),
                    f"kcluster status -c {cluster}",
                    EXIT_TIMED_OUT,
                )
            time.sleep(HEALTHY_POLL_S)
            found = ask_snapshot(control, servers)
    if output_format is Format.JSON:
        output.json(found)
    else:
        output.console().print(_picture(found, is_wide=output_format is Format.WIDE))
    return 0 if found.is_healthy else 10


def _watch(cluster: str, output_format: Format) -> NoReturn:
    """Until Ctrl-C: drawn anew on a terminal, a line of JSON or a table each second off it."""
    console = output.console()
    is_wide = output_format is Format.WIDE
    if output_format is Format.JSON or not console.is_terminal:
        with watch_cluster(cluster, interval_ms=1_000) as watching:
            while True:
                found = watching.look().snapshot
                if output_format is Format.JSON:
                    output.json(found)
                else:
                    console.print(_picture(found, is_wide=is_wide))
    from rich.live import Live

    with (
        watch_cluster(cluster, interval_ms=WATCH_MS) as watching,
        Live(console=console, auto_refresh=False, screen=True) as live,
    ):
        while True:
            live.update(_picture(watching.look().snapshot, is_wide=is_wide), refresh=True)


def _picture(found: ClusterSnapshot, *, is_wide: bool) -> Group:
    from rich.console import Group
    from rich.text import Text

    running = sum(broker.state == "running" for broker in found.brokers)
    style = {"ok": "bold green", "degraded": "bold yellow"}.get(found.health, "bold red")
    head = Text.assemble(
        (found.name, "bold"),
        "  ",
        (found.health.upper(), style),
        f"  brokers {running}/{len(found.brokers)}  coordinator {found.coordinator.state}"
        f"  up {output.duration(found.up_ms)}",
    )
    parts: list[Any] = [head, Text(f"bootstrap {found.bootstrap}")]
    parts += [Text(f"! {problem}", style="yellow") for problem in found.problems]
    shown = found.notices if is_wide else found.notices[:NOTICES_SHOWN]
    parts += [Text(f"· {notice}", style="dim") for notice in shown]
    if len(shown) < len(found.notices):
        more = len(found.notices) - len(shown)
        parts.append(Text(f"· {more} more: status -o wide", style="dim"))
    parts += [Text(""), _brokers(found, is_wide=is_wide)]
    if found.partitions:
        moving = sum(partition.is_reassigning for partition in found.partitions)
        legend = LEGEND + (MOVING if moving else "")
        parts += [Text(""), _partitions(found, is_wide=is_wide), Text(legend, style="dim")]
        if moving:
            parts.append(Text(f"{moving} being reassigned: kcluster reassign --status", "dim"))
    return Group(*parts)


def _brokers(found: ClusterSnapshot, *, is_wide: bool) -> Any:
    columns = ["ID", "STATE", "PID", "ADDRESS", "RSS", "LEADS", "REPLICAS", "SIZE", "SEGMENTS",
               "MAX LAG"]  # fmt: skip
    rows: list[list[Any]] = [
        ["coord", found.coordinator.state, found.coordinator.pid, None,
         output.size(found.coordinator.rss) if found.coordinator.pid else None,
         None, None, None, None, None]
    ]  # fmt: skip
    for broker in found.brokers:
        rows.append(
            [broker.id, _state(broker), broker.pid, f"{broker.host}:{broker.port}",
             output.size(broker.rss) if broker.pid else None, broker.leads, broker.replicas,
             output.size(broker.size), broker.segments, broker.max_lag]
        )  # fmt: skip
    if any(broker.rack for broker in found.brokers):
        columns.append("RACK")
        rows[0].append(None)
        for row, broker in zip(rows[1:], found.brokers, strict=True):
            row.append(broker.rack)
    if is_wide:
        columns += ["STARTS", "LAST END", "DATA"]
        rows[0] += [
            found.coordinator.starts,
            found.coordinator.last_end,
            found.coordinator.data_dir,
        ]
        for row, broker in zip(rows[1:], found.brokers, strict=True):
            row += [broker.starts, broker.last_end, broker.data_dir]
    return output.make_table(
        columns, rows,
        numbers=["PID", "RSS", "LEADS", "REPLICAS", "SIZE", "SEGMENTS", "MAX LAG", "STARTS"],
    )  # fmt: skip


def _state(broker: BrokerStatus) -> str:
    return "fenced" if broker.state == "running" and broker.is_fenced else broker.state


def _partitions(found: ClusterSnapshot, *, is_wide: bool) -> Any:
    """One row for each partition, one column for each broker: role, segments, size, lag."""
    columns = ["PARTITION", "LEADER", "EPOCH", "ISR", "HIGH WATERMARK"]
    columns += [f"BROKER {broker.id}" for broker in found.brokers]
    rows = []
    for partition in found.partitions:
        leader = next((r for r in partition.replicas if r.role == "leader"), None)
        replicas = {replica.broker: replica for replica in partition.replicas}
        row: list[Any] = [
            f"{partition.topic}-{partition.partition}",
            partition.leader if partition.leader > 0 else "none",
            partition.leader_epoch,
            partition.isr,
            leader.high_watermark if leader else None,
        ]
        for broker in found.brokers:
            text = _replica(replicas.get(broker.id), is_wide=is_wide)
            if broker.id in partition.adding:
                text = f"+{text}"
            elif broker.id in partition.removing:
                text = f"-{text}"
            row.append(text)
        rows.append(row)
    return output.make_table(columns, rows, numbers=["LEADER", "EPOCH", "HIGH WATERMARK"])


def _replica(replica: ReplicaStatus | None, *, is_wide: bool) -> str:
    """ "F 3 seg 12M lag 17"."""
    if replica is None:
        return ""
    mark = MARKS[replica.role]
    if replica.log_end is None:
        return mark
    text = f"{mark} {len(replica.segments)} seg {output.size(replica.size)}"
    if replica.lag:
        text += f" lag {replica.lag}"
    if is_wide:
        text += f" [{replica.log_start}..{replica.log_end})"
    if replica.problem:
        text += f" {replica.problem}"
    return text


def partition_rows(partitions: list[PartitionStatus]) -> list[list[Any]]:
    """As `topic describe` shows them."""
    rows = []
    for partition in partitions:
        leader = next((r for r in partition.replicas if r.role == "leader"), None)
        rows.append(
            [
                partition.partition,
                partition.leader if partition.leader > 0 else "none",
                partition.leader_epoch,
                [_marked(replica.broker, partition) for replica in partition.replicas],
                partition.isr,
                leader.log_start if leader else None,
                leader.high_watermark if leader else None,
                output.size(leader.size if leader else None),
            ]
        )
    return rows


def _marked(broker: int, partition: PartitionStatus) -> str:
    """ "4+" for one that is added, "1-" for one that goes."""
    mark = "+" if broker in partition.adding else "-" if broker in partition.removing else ""
    return f"{broker}{mark}"
