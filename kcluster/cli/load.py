"""`kcluster load`: write, read, and judge every replica at the end."""

from __future__ import annotations

import enum
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    Bootstrap,
    ClusterName,
    Format,
    OutputFormat,
    Quiet,
    milliseconds,
)
from kcluster.errors import UsageError

if TYPE_CHECKING:
    from kcluster.chaos.load import Load
    from kcluster.chaos.report import Figures, Report

app = typer.Typer()

TICK_S = 0.25
PLAIN_TICKS = 20
"""Off a terminal, a line each five seconds."""
JSON_TICKS = 2


class Acks(enum.StrEnum):
    ALL = "all"
    LEADER = "1"
    NONE = "0"


@app.command()
def load(
    topic: Annotated[
        str, typer.Option("-t", "--topic", metavar="NAME", help="Made unless it is there.")
    ] = "load",
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    acks: Annotated[Acks, typer.Option(help="Who has to have a record.")] = Acks.ALL,
    idempotent: Annotated[
        bool, typer.Option("--idempotent/--no-idempotent", help="With acks=all.")
    ] = True,
    rate: Annotated[
        float,
        typer.Option(min=0, metavar="RATE", help="Records per second; 0 for as fast as it goes."),
    ] = 1000,
    duration: Annotated[str, typer.Option(metavar="TIME", help="10s, 5m; 0 until Ctrl-C.")] = "10s",
    size: Annotated[
        int, typer.Option(min=1, max=900_000, metavar="BYTES", help="Bytes of a value.")
    ] = 100,
    producers: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="At once.")] = 1,
    readers: Annotated[
        int | None,
        typer.Option(min=0, max=100, metavar="N", help="1; 2 with --group.", show_default=False),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("-g", "--group", metavar="GROUP", help="Readers are members of this group."),
    ] = None,
    partitions: Annotated[
        int,
        typer.Option("-p", "--partitions", min=1, max=1000, metavar="N", help="Of a new topic."),
    ] = 6,
    replication_factor: Annotated[
        int | None, typer.Option("-r", min=1, metavar="N", help="Of a new topic; 3 if it can be.")
    ] = None,
    settle: Annotated[
        str, typer.Option(metavar="TIME", help="How long the cluster may take to mend at the end.")
    ] = "60s",
    progress: Annotated[
        bool, typer.Option("--progress", help="With -o json: a line of figures twice a second.")
    ] = False,
    output_format: OutputFormat = Format.TABLE,
    quiet: Quiet = False,
) -> int:
    """Write and read checked records, whatever is done to the cluster; then look at every replica.

    Ends with 11 when something acknowledged is missing, or something promised is broken.

    \b
    kcluster load --duration 30s --rate 5000 -g readers
    """
    from kcluster.chaos.load import Load, LoadPlan
    from kcluster.chaos.reach import Reach

    if quiet or output_format is Format.JSON:
        output.be_quiet()
    duration_ms = milliseconds(duration)
    plan = LoadPlan(
        topic=topic,
        partitions=partitions,
        replication_factor=replication_factor,
        acks={Acks.ALL: -1, Acks.LEADER: 1, Acks.NONE: 0}[acks],
        rate=rate or None,
        duration_s=duration_ms / 1000 if duration_ms else None,
        size=size,
        producers=producers,
        readers=(1 if group is None else 2) if readers is None else readers,
        group=group,
        is_idempotent=idempotent,
        settle_s=milliseconds(settle) / 1000,
    )
    if group is not None and not plan.readers:
        raise UsageError("--group wants readers", "--readers is 0", "--readers 2", 2)
    made = Load(plan, Reach(cluster, bootstrap))
    made.prepare()
    with interrupts() as interrupted:
        made.start()
        _watch(made, interrupted, as_json=progress and output_format is Format.JSON)
        output.note("no more is sent; waiting for answers and for full ISRs")
        made.finish()
        output.note("reading every replica")
        report = made.judge()
    if output_format is Format.JSON:
        output.json(report)
    else:
        print_report(report)
    return report.exit_code


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """The first Ctrl-C ends the writing, the second everything."""
    interrupted = threading.Event()

    def note(number: int, _: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _watch(load: Load, interrupted: threading.Event, *, as_json: bool) -> None:
    is_live = sys.stderr.isatty()
    ticks, recent, before = 0, 0, 0.0
    while not interrupted.wait(TICK_S) and not load.is_over:
        figures = load.tick()
        ticks += 1
        recent += figures.recent
        if as_json and not ticks % JSON_TICKS:
            output.json(figures)
        if is_live or not ticks % PLAIN_TICKS:
            line = _line(figures, recent / max(figures.seconds - before, 0.001))
            output.live(line) if is_live else output.note(line)
            recent, before = 0, figures.seconds
    load.stop()
    figures = load.tick()
    if is_live:
        output.live("")
    output.note(_line(figures, figures.acknowledged / max(figures.seconds, 0.001)))


def _line(figures: Figures, rate: float) -> str:
    def ms(value: float | None) -> str:
        return "-" if value is None else output.duration(value)

    parts = [
        f"{figures.seconds:.0f} s",
        f"{rate:,.0f}/s",
        f"p50 {ms(figures.p50_ms)}",
        f"p99 {ms(figures.p99_ms)}",
        f"acked {figures.acknowledged:,}",
        f"waiting {figures.under_way:,}",
        f"unknown {figures.unknown:,}",
        f"gap {ms(figures.longest_gap_ms)}",
    ]
    if figures.failed:
        parts.append(f"failed {figures.failed:,}")
    return "  ".join(parts)


def print_report(report: Report) -> None:
    load = report.load
    output.data(
        f"{report.records_per_s:,.0f} records/s of {load.value_bytes} bytes"
        f" to {load.topic}, {load.seconds:.1f} s"
    )
    output.data(
        f"sent {report.sent:,}  acknowledged {report.acknowledged:,}  failed {report.failed:,}"
        f"  unknown {report.unknown:,} ({report.unknown_written:,} written)"
    )
    if report.p50_ms is not None and report.p99_ms is not None:
        output.data(f"acknowledged after p50 {report.p50_ms:.1f} ms  p99 {report.p99_ms:.1f} ms")
    if report.longest_gap_ms is not None and report.longest_partition_gap_ms is not None:
        output.data(
            f"longest gap {report.longest_gap_ms:,.0f} ms, of one partition"
            f" {report.longest_partition_gap_ms:,.0f} ms"
        )
    if load.readers:
        output.data(f"read {report.polled:,}, of which {report.repeated:,} again")
    for error, count in sorted(report.errors.items()):
        output.data(f"given up with {error}: {count:,}")
    output.data(
        f"lost {report.lost:,}  duplicated {report.duplicated:,}  reordered {report.reordered:,}"
    )
    for name, anomaly in report.anomalies.items():
        contract = "" if anomaly.is_promised else f", which {_setting(report)} does not rule out"
        output.data(f"{name}: {anomaly.count:,}{contract}")
        for example in anomaly.examples:
            output.data(f"    {example}")
    for note in report.notes:
        output.note(note)
    whole = [replica for replica in report.replicas if not replica.problem]
    output.data(
        f"{len(whole)} of {len(report.replicas)} replicas read to their high watermark;"
        f" {_verdict(report)}"
    )


def _setting(report: Report) -> str:
    if report.load.acks == -1:
        return "a producer that is not idempotent"
    return f"acks={report.load.acks}"


def _verdict(report: Report) -> str:
    match report.verdict:
        case "ok" if report.load.acks == 0:
            return "nothing was acknowledged, so nothing acknowledged is missing"
        case "ok" if report.anomalies:
            return "everything acknowledged is there"
        case "ok":
            return "everything acknowledged is there, once and in order"
        case "violated":
            return "what is promised does not hold"
        case "lost":
            return f"{report.lost:,} acknowledged records are missing"
    return "that is not all of them, and nothing is missing in what could be read"
