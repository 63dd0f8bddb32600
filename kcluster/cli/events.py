"""`kcluster events`: what changed in a cluster and when, from its journal and as it happens."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, milliseconds
from kcluster.errors import UsageError
from kcluster.wire.events import TYPES, ClusterEvent, to_line

app = typer.Typer()

PATIENCE_MS = 1_000


class EventFormat(enum.StrEnum):
    TABLE = "table"
    JSONL = "jsonl"


class Wanted(NamedTuple):
    """What is to be shown of all."""

    types: frozenset[str]
    """Empty for all."""
    topic: str
    partition: int
    """-1 for all."""
    brokers: frozenset[int]
    since_ms: int

    def takes(self, event: ClusterEvent) -> bool:
        return (
            (not self.types or event.type in self.types)
            and (not self.topic or event.topic == self.topic)
            and (self.partition < 0 or event.partition == self.partition)
            and (not self.brokers or event.broker in self.brokers or event.process in self.brokers)
            and event.at_ms >= self.since_ms
        )


@app.command()
def events(
    what: Annotated[
        str | None, typer.Argument(metavar="[TOPIC[-PARTITION]]", help="Of one; all by default.")
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, metavar="N", help="The last so many.")
    ] = 50,
    types: Annotated[
        str | None, typer.Option("--type", metavar="TYPE,...", help=f"Of {', '.join(TYPES)}.")
    ] = None,
    broker: Annotated[
        list[int] | None, typer.Option(metavar="ID", help="By it or about it; 0: the coordinator.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Not older than that.")] = None,
    output_format: Annotated[
        EventFormat, typer.Option("-o", "--output", help="How to print it.", case_sensitive=False)
    ] = EventFormat.TABLE,
) -> None:
    """Show what changed: kills, elections, in-sync replicas, segments.

    \b
    kcluster events -f --type election,isr     # the story of a failure as it happens
    """
    from kcluster.processes.workdir import holder, locate, read_cluster

    directory = locate(cluster)
    if read_cluster(directory) is None:
        raise UsageError(
            f"there is no cluster {cluster}", f"nothing is in {directory}", "kcluster ls", 3
        )
    if follow and holder(directory) is None:
        raise UsageError(
            f"cluster {cluster} is not running",
            "there is nothing to wait for",
            f"kcluster events -c {cluster}",
            3,
        )
    wanted = _wanted(what, types, broker, since)
    last = -1
    kept: list[ClusterEvent] = []
    for event in _journal(directory):
        last = event.seq
        if wanted.takes(event):
            kept.append(event)
    _print(kept[-lines:] if lines else [], output_format)
    if follow:
        _print(filter(wanted.takes, _news(cluster, last)), output_format)


def _wanted(
    what: str | None, types: str | None, brokers: list[int] | None, since: str | None
) -> Wanted:
    chosen = frozenset(word.strip() for word in (types or "").split(",") if word.strip())
    if unknown := sorted(chosen - TYPES.keys()):
        raise UsageError(
            f"--type {unknown[0]}: unknown", f"types are {', '.join(TYPES)}", "--type isr", 2
        )
    topic, dash, number = (what or "").rpartition("-")
    is_partition = bool(dash and topic) and number.isdigit()
    since_ms = 0
    if since is not None:
        since_ms = time.time_ns() // 1_000_000 - milliseconds(since)
    return Wanted(
        chosen,
        topic if is_partition else what or "",
        int(number) if is_partition else -1,
        frozenset(brokers or ()),
        since_ms,
    )


def _journal(directory: Path) -> Iterator[ClusterEvent]:
    from kcluster.processes.journal import read_events

    return read_events(directory / "logs")


def _news(cluster: str, last: int) -> Iterator[ClusterEvent]:
    from kcluster.client.find import connect

    with connect(cluster) as control:
        for news in control.follow(last, PATIENCE_MS):
            yield from news


def _print(events: Iterable[ClusterEvent], output_format: EventFormat) -> None:
    for event in events:
        if output_format is EventFormat.JSONL:
            output.data(to_line(event).decode().rstrip())
        else:
            output.data(line_of(event))


def line_of(event: ClusterEvent) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(event.at_ms / 1000))
    by = f"   [broker {event.process}]" if event.process > 0 and event.topic else ""
    return (
        f"{clock}.{event.at_ms % 1000:03d}  {event.type.upper():<10} {event.subject:<16} "
        f"{event.text}{by}"
    )
