"""`kcluster why orders-0`: what happened to a partition, and why, from the journal of events."""

from __future__ import annotations

import enum
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, milliseconds, partition_meant
from kcluster.errors import UsageError
from kcluster.model import NO_LEADER, TopicPartition

if TYPE_CHECKING:
    from kcluster.client.causes import Change, History

app = typer.Typer()

EXIT_UNKNOWN = 4


class WhyFormat(enum.StrEnum):
    TABLE = "table"
    JSON = "json"


@app.command()
def why(
    partition: Annotated[str, typer.Argument(metavar="TOPIC-PARTITION", help="Of which.")],
    cluster: ClusterName = DEFAULT_CLUSTER,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Not older than that.")] = None,
    output_format: Annotated[
        WhyFormat, typer.Option("-o", "--output", help="How to print it.", case_sensitive=False)
    ] = WhyFormat.TABLE,
) -> None:
    """Show a partition's leaders, ISR, epochs and high watermark, and the cause of each change.

    From the journal alone, so a stopped cluster can be asked too.

    kcluster why orders-0 --since 10m"""
    from kcluster.client.causes import History, explain
    from kcluster.processes.journal import read_events
    from kcluster.processes.workdir import locate, read_cluster

    tp = partition_meant(partition, "kcluster why orders-0")
    since_ms = 0
    if since is not None:
        since_ms = time.time_ns() // 1_000_000 - milliseconds(since)
    directory = locate(cluster)
    if read_cluster(directory) is None:
        raise UsageError(
            f"there is no cluster {cluster}", f"nothing is in {directory}", "kcluster ls", 3
        )
    events = list(read_events(directory / "logs"))
    history = explain(events, tp, clock)
    if history is None:
        if not _is_on_disk(directory, tp):
            topics = sorted({event.topic for event in events if event.topic})
            raise UsageError(
                f"there is no partition {tp}",
                f"topics in the journal: {', '.join(topics) or 'none'}",
                f"kcluster topic ls -c {cluster}",
                EXIT_UNKNOWN,
            )
        begins_ms = events[0].at_ms if events else 0
        history = History(*tp, False, begins_ms, [])
    _print(history, since_ms, output_format)


def _is_on_disk(directory: Path, tp: TopicPartition) -> bool:
    """Some broker holds it, although the journal has lost all of it."""
    return any(directory.glob(f"broker-*/{tp}"))


def clock(at_ms: int) -> str:
    """With the day, unless it is today's."""
    moment = time.localtime(at_ms / 1000)
    is_today = moment[:3] == time.localtime()[:3]
    text = time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", moment)
    return f"{text}.{at_ms % 1000:03d}"


def _print(history: History, since_ms: int, output_format: WhyFormat) -> None:
    changes = [change for change in history.changes if change.at_ms >= since_ms]
    if output_format is WhyFormat.JSON:
        told = {name: getattr(history, name) for name in history.__struct_fields__}
        output.json({"schema": 1, **told, "changes": changes})
        return
    tp = TopicPartition(history.topic, history.partition)
    if history.changes:
        output.data(f"{tp}: {_state(history.changes[-1])}")
    if not history.is_whole:
        output.data(
            f"the journal begins at {clock(history.journal_begins_ms)};"
            " what happened to it before is not known"
        )
    for change in changes:
        output.data(f"{clock(change.at_ms)}  {change}")
    if not changes:
        output.note("nothing has changed since then" if since_ms else "no change is in the journal")


def _state(change: Change) -> str:
    if change.kind == "deleted":
        return "deleted"
    leader = "nobody" if change.leader == NO_LEADER else f"broker {change.leader}"
    isr = "{" + ",".join(map(str, sorted(change.isr))) + "}" if change.isr else ""
    parts = [f"led by {leader}"]
    if change.leader_epoch >= 0:
        parts.append(f"epoch {change.leader_epoch}")
    if isr:
        parts.append(f"ISR {isr}")
    return ", ".join(parts)
