"""`kcluster consume`: read a topic from any place."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from kcluster.cli import output, records
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName
from kcluster.client.consumer import Consumer
from kcluster.core.client.consumer import Consumed
from kcluster.errors import ApiError, UsageError

app = typer.Typer()


class Output(enum.StrEnum):
    TEXT = "text"
    JSONL = "jsonl"


@app.command()
def consume(
    topic: Annotated[str, typer.Argument()],
    cluster: ClusterName = DEFAULT_CLUSTER,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="start, end, an offset, -100 (of each partition), @2026-01-31T12:00, @-5m.",
        ),
    ] = "end",
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="End after so many records.")
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("-p", "--partition", min=0, help="Repeat it.")
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("-e", "--exit", help="End when everything that is there is read.")
    ] = False,
    output_format: Annotated[Output, typer.Option("-o", "--output")] = Output.TEXT,
    template: Annotated[
        str | None,
        typer.Option("-f", "--format", help="%t %p %o %k %s %T %h, with \\n and \\t."),
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option("-b", "--bootstrap", help="Any cluster, by address.")
    ] = None,
) -> None:
    """Read records of a topic, in the order of each partition."""
    place = records.place(start)
    if template is not None and output_format is Output.JSONL:
        raise UsageError("-f and -o jsonl exclude each other", "", "kcluster consume --help", 2)

    def line(consumed: Consumed) -> bytes:
        if template is not None:
            return records.formatted(template, consumed)
        if output_format is Output.JSONL:
            return records.json_line(consumed)
        return (consumed.record.value or b"") + b"\n"

    with records.reach(cluster, bootstrap) as transport:
        consumer = Consumer(transport)
        consumer.assign(topic, partition, place)
        left = count
        try:
            while left != 0 and not (exit_at_end and consumer.is_at_end):
                taken = consumer.poll(limit=left)
                if taken:
                    output.raw(b"".join(map(line, taken)))
                    left = None if left is None else left - len(taken)
        except ApiError as problem:
            raise records.refusal(problem.code, str(problem), topic, cluster) from None
