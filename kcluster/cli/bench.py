"""`kcluster bench`: how fast a cluster is, ours or any other."""

from __future__ import annotations

from typing import Annotated

import typer

from kcluster.bench.compare import Outcome, Plan, Target, as_json, mb_per_s, ratio, run
from kcluster.bench.produce import Load, Round
from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat, Quiet
from kcluster.client.connect import parse_bootstrap
from kcluster.client.find import running_cluster
from kcluster.errors import UsageError

app = typer.Typer(name="bench", help="Measure a cluster, ours or any other.", no_args_is_help=True)

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@app.callback()
def bench() -> None:
    pass


@app.command()
def produce(
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Annotated[
        str | None,
        typer.Option("-b", "--bootstrap", metavar="HOST:PORT", help="Any cluster, by address."),
    ] = None,
    versus: Annotated[
        str | None, typer.Option("--vs", metavar="HOST:PORT", help="A second one, in turns.")
    ] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Bytes of a batch: 16k, 64k, 1000000.")
    ] = "64k",
    record_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Bytes of a record's value.")
    ] = "1k",
    acks: Annotated[str, typer.Option(metavar="all|1|0", help="Who has to have a record.")] = "all",
    partitions: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Of the topic.")
    ] = 1,
    connections: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="For each partition.")
    ] = 1,
    in_flight: Annotated[
        int,
        typer.Option(
            min=1, max=1000, metavar="N", help="Requests not answered yet, of a connection."
        ),
    ] = 5,
    replication_factor: Annotated[
        int, typer.Option("-r", metavar="N", help="-1: the cluster's default.")
    ] = -1,
    min_isr: Annotated[
        int | None, typer.Option(metavar="N", help="min.insync.replicas of the topic.")
    ] = None,
    duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds of a round, at most.")
    ] = 3.0,
    size: Annotated[
        str, typer.Option("--bytes", metavar="SIZE", help="Of a round, at most.")
    ] = "256m",
    warm_up: Annotated[
        float, typer.Option(metavar="SECONDS", help="Seconds that do not count.")
    ] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="The median of so many.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the topic there.")] = False,
    output_format: OutputFormat = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Send prebuilt record batches over plain sockets, and count what is acknowledged.

    \b
    kcluster bench produce --acks 1 --batch-size 16k
    kcluster bench produce --vs localhost:9092     # beside another Kafka
    """
    if quiet or output_format is Format.JSON:
        output.be_quiet()
    load = Load(
        batch_bytes=_bytes(batch_size),
        record_bytes=_bytes(record_size),
        acks=_acks(acks),
        partitions=partitions,
        connections=connections,
        in_flight=in_flight,
        round_s=duration,
        round_bytes=_bytes(size),
    )
    first = running_cluster(cluster).bootstrap if bootstrap is None else bootstrap
    targets = [Target(cluster if bootstrap is None else bootstrap, parse_bootstrap(first))]
    if versus is not None:
        targets.append(Target(versus, parse_bootstrap(versus)))
    plan = Plan(load, replication_factor, min_isr, warm_up, rounds, keep)

    def progress(name: str, each: Round) -> None:
        output.note(f"{name}  {each.mb_per_s:9.1f} MB/s  {each.records_per_s:12,.0f} records/s")

    outcomes = run(targets, plan, progress)
    if output_format is Format.JSON:
        output.json(as_json(plan, outcomes))
        return
    columns = ["CLUSTER", "BATCH", "MB/S", "SPREAD", "RECORDS/S", "ACK P50 US", "ACK P99 US"]
    output.table(columns, [_row(outcome) for outcome in outcomes], numbers=columns[1:])
    if len(outcomes) == 2:
        output.data(
            f"{outcomes[0].target.name} has {ratio(outcomes):.2f} times the MB/s of"
            f" {outcomes[1].target.name}"
        )
        output.note("medians of rounds in turns; a larger machine gives another ratio")


def _row(outcome: Outcome) -> list[str]:
    return [
        outcome.target.name,
        output.size(outcome.batch_bytes),
        f"{outcome.median(mb_per_s):.1f}",
        f"{outcome.spread(mb_per_s):.0%}",
        f"{outcome.median(lambda each: each.records_per_s):,.0f}",
        f"{outcome.median(lambda each: each.latency_p50_us):,.0f}",
        f"{outcome.median(lambda each: each.latency_p99_us):,.0f}",
    ]


def _acks(text: str) -> int:
    known = {"all": -1, "-1": -1, "1": 1, "0": 0}
    if text not in known:
        raise UsageError(f"acks cannot be {text!r}", "it is all, 1 or 0", "--acks all", 2)
    return known[text]


def _bytes(text: str) -> int:
    """ "64k", "1m" or plain bytes."""
    number = text.lower().rstrip("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in UNITS else ""
    digits = number.removesuffix(unit)
    if not digits.isdecimal() or not int(digits):
        raise UsageError(f"{text!r} is not a size", "sizes look like 16k, 1m or 1000000", "64k", 2)
    return int(digits) * UNITS[unit]
