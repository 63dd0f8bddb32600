"""`kcluster topic offsets` and `kcluster topic trim`: where partitions start and end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from kcluster.cli import kafka, output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    Bootstrap,
    ClusterName,
    Format,
    OutputFormat,
    milliseconds,
)
from kcluster.client.admin import Admin
from kcluster.core.client.operations import EARLIEST, LATEST, MAX_TIMESTAMP, delete_records
from kcluster.core.client.results import Offset, Topic
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.model import TopicPartition

app = typer.Typer()
"""Part of the group `topic`."""

EXIT_UNHEALTHY = 10

Meant = Annotated[
    str, typer.Argument(metavar="NAME[-P]", help="A topic, or one of its partitions.")
]


@app.command()
def offsets(
    meant: Meant,
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="@TIME", help="And of the first record since: @2026-01-31T12:00, @-5m."
        ),
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show where partitions start and end, and their youngest record.

    \b
    kcluster topic offsets orders --at @-5m
    """
    time = None if at is None else _place(at, "--at @-5m", "time")
    at_cluster = kafka.where(cluster, bootstrap)
    with kafka.admin_of(cluster, bootstrap) as admin:
        topic, partitions = kafka.topic_meant(admin, meant, at_cluster)
        earliest = _offsets(admin, topic, partitions, EARLIEST)
        latest = _offsets(admin, topic, partitions, LATEST)
        youngest = _offsets(admin, topic, partitions, MAX_TIMESTAMP)
        since = _offsets(admin, topic, partitions, time[1]) if time is not None else {}
    rows: list[dict[str, Any]] = []
    for index in partitions:
        row: dict[str, Any] = {
            "partition": index,
            "leader": latest[index].leader,
            "earliest": earliest[index].offset,
            "latest": latest[index].offset,
            "max_timestamp_offset": _known(youngest[index].offset),
            "max_timestamp": _known(youngest[index].timestamp),
        }
        if since:
            row["at"] = _known(since[index].offset)
        rows.append(row)
    if output_format is Format.JSON:
        output.json({"schema": 1, "topic": topic.name, "partitions": rows})
        return
    columns = [
        "PARTITION",
        "LEADER",
        "EARLIEST",
        "LATEST",
        "YOUNGEST",
        "OF",
        *(["AT"] if at else []),
    ]
    table = [[*row.values()] for row in rows]
    for line in table:
        line[5] = None if line[5] is None else _time(line[5])
    output.table(columns, table, numbers=[column for column in columns if column != "OF"])


def _known(value: int) -> int | None:
    return value if value >= 0 else None


def _time(timestamp_ms: int) -> str:
    moment = datetime.fromtimestamp(timestamp_ms / 1000).astimezone()
    return moment.isoformat(sep=" ", timespec="milliseconds")[:-6]


def _place(text: str, example: str, *kinds: str) -> tuple[str, int]:
    """(end, offset or time; its value). UsageError when it is none of `kinds`."""
    from kcluster.cli import records

    found = records.place(text)
    if found.place.value not in kinds:
        raise UsageError(f"{text!r} does not say where", f"here it is {' or '.join(kinds)}",
                         example, 2)  # fmt: skip
    return found.place.value, found.value


def _offsets(admin: Admin, topic: Topic, partitions: list[int], at: int) -> dict[int, Offset]:
    """By partition. UsageError when one does not answer."""
    try:
        found = admin.offsets([TopicPartition(topic.name, index) for index in partitions], at)
    except ApiError as error:
        raise UsageError(
            f"{topic.name} does not answer", f"{error.code.name}: {error}", "kcluster status",
            EXIT_UNHEALTHY,
        ) from None  # fmt: skip
    return {tp.partition: each for tp, each in found.items()}


@app.command()
def trim(
    meant: Meant,
    before: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="end, an offset (of one partition), @TIME: what is older goes."
        ),
    ],
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long replicas may take.")
    ] = "30s",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Delete the records before a place, for good, on every replica.

    \b
    kcluster topic trim orders-0 --before 1000
    """
    kind, value = _place(before, "--before end", "end", "offset", "time")
    with kafka.admin_of(cluster, bootstrap) as admin:
        topic, partitions = kafka.topic_meant(admin, meant, kafka.where(cluster, bootstrap))
        if kind == "offset" and len(partitions) > 1:
            raise UsageError(
                f"{meant} has {len(partitions)} partitions, each with offsets of its own",
                "an offset is one of a partition",
                f"kcluster topic trim {meant}-0 --before {before}",
                2,
            )
        wanted = _before(admin, topic, partitions, kind, value)
        timeout_ms = milliseconds(timeout)
        told = admin.do(
            delete_records(
                {TopicPartition(topic.name, index): at for index, at in wanted.items()}, timeout_ms
            ),
            timeout_ms + 10_000,
        )
    results = {tp.partition: each for tp, each in sorted(told.items())}
    rows = [
        {
            "partition": index,
            "before": wanted[index],
            "log_start": None if isinstance(each, ApiError) else _known(each.offset),
            "error": each.code.name if isinstance(each, ApiError) else None,
        }
        for index, each in results.items()
    ]
    if output_format is Format.JSON:
        output.json({"schema": 1, "topic": topic.name, "partitions": rows})
    else:
        columns = ["PARTITION", "BEFORE", "LOG START", "ERROR"]
        output.table(columns, [[*row.values()] for row in rows], numbers=columns[:3])
    for index, each in results.items():
        if isinstance(each, ApiError):
            kafka.refuse(
                f"{topic.name}-{index} was not trimmed", each.code, _WHY.get(each.code),
                f"kcluster topic offsets {topic.name}{kafka.where(cluster, bootstrap)}",
            )  # fmt: skip


_WHY = {
    ErrorCode.OFFSET_OUT_OF_RANGE: "it ends before that offset",
    ErrorCode.POLICY_VIOLATION: "cleanup.policy is compact only",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "it is Kafka's own",
    ErrorCode.REQUEST_TIMED_OUT: "a replica has not told that its records are gone",
}


def _before(
    admin: Admin, topic: Topic, partitions: list[int], kind: str, value: int
) -> dict[int, int]:
    """The offset in each partition."""
    if kind == "offset":
        return dict.fromkeys(partitions, value)
    ends = _offsets(admin, topic, partitions, LATEST)
    if kind == "end":
        return {index: ends[index].offset for index in partitions}
    since = _offsets(admin, topic, partitions, value)
    # No record is that young: all are older.
    return {
        index: since[index].offset if since[index].offset >= 0 else ends[index].offset
        for index in partitions
    }
