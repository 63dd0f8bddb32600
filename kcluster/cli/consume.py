"""`kcluster consume`: read topics from any place, alone or as a member of a group."""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from kcluster.cli import output, records
from kcluster.cli.kafka import where
from kcluster.cli.options import DEFAULT_CLUSTER, Bootstrap, ClusterName
from kcluster.client.consumer import Consumer
from kcluster.client.driver import Transport
from kcluster.core.client.consumer import Consumed, From
from kcluster.errors import ApiError, ErrorCode, UsageError

app = typer.Typer()

POLL_MS = 100
"""As a member: a signal is noticed within so long."""


_OF_GROUPS = {
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL:
        "group {group} assigns partitions in a way that is not range",
    ErrorCode.GROUP_MAX_SIZE_REACHED: "group {group} has as many members as it may have",
    ErrorCode.INVALID_GROUP_ID: "{group!r} cannot be the name of a group",
}  # fmt: skip


class Output(enum.StrEnum):
    TEXT = "text"
    JSONL = "jsonl"


@app.command()
def consume(
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC...")],
    cluster: ClusterName = DEFAULT_CLUSTER,
    group: Annotated[
        str | None,
        typer.Option(
            "-g",
            "--group",
            metavar="GROUP",
            help="Share the topics with the other members of a group, go on where it was.",
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="start, end, an offset, -100 (of each partition), @2026-01-31T12:00, @-5m."
            " In a group: of what it never committed.",
        ),
    ] = "end",
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=1, metavar="N", help="End after so many records."),
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("-p", "--partition", min=0, metavar="N", help="Repeat it.")
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("-e", "--exit", help="End when everything that is there is read.")
    ] = False,
    output_format: Annotated[
        Output, typer.Option("-o", "--output", help="Values only, or all as JSON.")
    ] = Output.TEXT,
    template: Annotated[
        str | None,
        typer.Option(
            "-f", "--format", metavar="TEXT", help="%t %p %o %k %s %T %h, with \\n and \\t."
        ),
    ] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Read records of topics, in the order of each partition. In a group, what was printed is
    committed: each record is printed at least once by some member.

    \b
    kcluster consume orders --from start -e
    kcluster consume orders -g billing              # as a member of a group
    kcluster consume orders -f '%p %o %k %s\\n'
    """
    place, at = records.place(start), where(cluster, bootstrap)
    if template is not None and output_format is Output.JSONL:
        raise UsageError("-f and -o jsonl exclude each other", "a format is for text",
                         "kcluster consume TOPIC -o jsonl", 2)  # fmt: skip
    if group is not None and partition:
        raise UsageError(
            "-g and -p exclude each other",
            "a group assigns the partitions of its members itself",
            f"kcluster consume {' '.join(topics)} -g {group}",
            2,
        )

    def write(taken: list[Consumed]) -> None:
        if template is not None:
            output.raw(b"".join(records.formatted(template, each) for each in taken))
        elif output_format is Output.JSONL:
            output.raw(b"".join(map(records.json_line, taken)))
        else:
            output.raw(b"".join((each.record.value or b"") + b"\n" for each in taken))

    with records.reach(cluster, bootstrap) as transport:
        try:
            if group is None:
                _alone(transport, topics, partition, place, count, exit_at_end, write)
            else:
                _as_member(transport, group, topics, place, count, exit_at_end, write)
        except ApiError as problem:
            if group is not None and problem.code in _OF_GROUPS:
                what = _OF_GROUPS[problem.code].format(group=group)
                hint = f"kcluster group describe {group}{at}"
                raise UsageError(what, problem.code.name, hint) from None
            raise records.refusal(problem.code, str(problem), " ".join(topics), at) from None


def _alone(
    transport: Transport,
    topics: list[str],
    partitions: list[int] | None,
    place: From,
    count: int | None,
    exit_at_end: bool,
    write: Callable[[list[Consumed]], None],
) -> None:
    consumer = Consumer(transport)
    for topic in topics:
        consumer.assign(topic, partitions, place)
    left = count
    while left != 0 and not (exit_at_end and consumer.is_at_end):
        taken = consumer.poll(limit=left)
        if taken:
            write(taken)
            left = None if left is None else left - len(taken)


def _as_member(
    transport: Transport,
    group: str,
    topics: list[str],
    place: From,
    count: int | None,
    exit_at_end: bool,
    write: Callable[[list[Consumed]], None],
) -> None:
    """Leaves the group however it ends, also by Ctrl-C; a second one does not wait for that."""
    from kcluster.core.client.group_consumer import Assigned

    left = count
    with _signals() as received:
        consumer = Consumer(transport, topics, group=group, start=place, auto_commit=False)
        try:
            while left != 0 and not received and not (exit_at_end and consumer.is_at_end):
                taken = consumer.poll(POLL_MS, limit=left)
                if taken:
                    write(taken)
                    consumer.done(taken)
                    left = None if left is None else left - len(taken)
                for event in consumer.take_events():
                    names = ", ".join(map(str, event.partitions))
                    if isinstance(event, Assigned):
                        output.note(f"group {group}: assigned {names}")
                    else:
                        output.note(f"group {group}: {'lost' if event.is_lost else 'gave'} {names}")
        finally:
            consumer.leave()
    if received:
        raise typer.Exit(128 + received[0])


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM is noted there, so that what is under way can be finished."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
