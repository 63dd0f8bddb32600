"""`kcluster group ...`: consumer groups, as their coordinators know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kcluster.cli import output, records
from kcluster.cli.kafka import groups_of, where
from kcluster.cli.options import DEFAULT_CLUSTER, Bootstrap, ClusterName, Format, OutputFormat
from kcluster.client.admin import Admin
from kcluster.core.client.consumer import Place
from kcluster.core.client.operations import EARLIEST, LATEST
from kcluster.core.client.results import Group
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.model import TopicPartition

app = typer.Typer(
    name="group", help="List, describe, reset and delete consumer groups.", no_args_is_help=True
)

EXIT_NO_SUCH_GROUP = 4

SCHEMA = 1
"""Of what is printed as JSON: it rises when a name changes its meaning."""

Names = Annotated[list[str], typer.Argument(metavar="GROUP...")]
Name = Annotated[str, typer.Argument(metavar="GROUP")]


def _no_group(name: str, at: str) -> UsageError:
    return UsageError(
        f"there is no group {name}",
        "no broker coordinates a group of this name",
        f"kcluster group ls{at}",
        EXIT_NO_SUCH_GROUP,
    )


def _described(
    admin: Admin, names: Sequence[str], at: str, *, with_offsets: bool = True
) -> list[Group]:
    found = admin.describe_groups(names, with_offsets=with_offsets)
    missing = set(names) - {group.group for group in found}
    for name in names:
        if name in missing:
            raise _no_group(name, at)
    return found


@app.command()
def ls(
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List groups, with their states.

    \b
    kcluster group ls
    """
    with groups_of(cluster, bootstrap) as admin:
        found = admin.describe_groups(with_offsets=False)
    rows = [
        {
            "group": group.group,
            "state": group.state,
            "protocol": group.protocol,
            "members": len(group.members),
            "coordinator": group.coordinator,
            "protocol_type": group.protocol_type,
            "type": group.type,
            "epoch": group.epoch,
            "assignment_epoch": group.assignment_epoch,
        }
        for group in found
    ]
    if output_format is Format.JSON:
        output.json({"schema": SCHEMA, "groups": rows})
        return
    if not rows:
        output.note("no groups; one begins with kcluster consume TOPIC -g GROUP")
        return
    columns = ["GROUP", "TYPE", "STATE", "PROTOCOL", "EPOCH", "MEMBERS", "COORDINATOR"]
    output.table(
        columns,
        [[row[name.lower()] or None for name in columns[:4]]
         + [row["epoch"], row["members"], row["coordinator"]] for row in rows],
        numbers=columns[4:],
    )  # fmt: skip


@app.command()
def describe(
    names: Names,
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show what groups have committed, how far behind they are, and who reads what.

    \b
    kcluster group describe billing
    """
    with groups_of(cluster, bootstrap) as admin:
        found = _described(admin, names, where(cluster, bootstrap))
    if output_format is Format.JSON:
        output.json({"schema": SCHEMA, "groups": found})
        return
    columns = ["TOPIC", "PARTITION", "COMMITTED", "LOG END", "LAG", "MEMBER", "HOST", "CLIENT"]
    for place, group in enumerate(found):
        if place:
            output.data("")
        output.data(_headline(group))
        if group.partitions:
            rows = [
                [p.topic, p.partition, p.committed, p.log_end, p.lag, p.member, p.host or None,
                 p.client_id] for p in group.partitions
            ]  # fmt: skip
            output.table(columns, rows, numbers=columns[1:5])
        if group.is_active and not any(p.member for p in group.partitions):
            output.note(f"group {group.group} assigns no partitions now: it is {group.state}")


def _headline(group: Group) -> str:
    lags = [p.lag for p in group.partitions if p.lag is not None]
    protocol = f"  {group.protocol}" if group.protocol else ""
    if group.epoch is not None:
        protocol += f"  epoch {group.epoch}"
        if group.assignment_epoch != group.epoch:
            protocol += f", assigned {group.assignment_epoch}"
    lag = f"  lag {sum(lags):,}" if lags else ""
    return (
        f"{group.group}  {group.state}{protocol}  members {len(group.members)}"
        f"  coordinator {group.coordinator}{lag}"
    )


@app.command()
def members(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show the members of a group and their partitions.

    \b
    kcluster group members billing
    """
    with groups_of(cluster, bootstrap) as admin:
        [group] = _described(admin, [name], where(cluster, bootstrap), with_offsets=False)
    if output_format is Format.JSON:
        told = [
            {
                "member": each.member,
                "instance_id": each.instance_id,
                "client_id": each.client_id,
                "host": each.host,
                "partitions": [
                    {"topic": tp.topic, "partition": tp.partition} for tp in each.partitions
                ],
                "epoch": each.epoch,
                "target": [{"topic": tp.topic, "partition": tp.partition} for tp in each.target],
                "protocol": each.protocol,
            }
            for each in group.members
        ]
        output.json({"schema": SCHEMA, "group": name, "state": group.state, "members": told})
        return
    if not group.members:
        output.note(f"group {name} has no members: it is {group.state}")
        return
    columns = ["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS", "ASSIGNED"]
    rows = [
        [each.member, each.instance_id, each.client_id, each.host or None,
         len(each.partitions), _ranges(each.partitions) or None] for each in group.members
    ]  # fmt: skip
    if group.epoch is None:
        output.table(columns, rows, numbers=["PARTITIONS"])
        return
    more = [
        [each.epoch, each.protocol, None if each.is_reconciled else _ranges(each.target) or "none"]
        for each in group.members
    ]
    output.table(
        [*columns, "EPOCH", "PROTOCOL", "IS TO HAVE"],
        [row + rest for row, rest in zip(rows, more, strict=True)],
        numbers=["PARTITIONS", "EPOCH"],
    )


def _ranges(partitions: Sequence[TopicPartition]) -> str:
    """As people read it: orders 0-3,7; clicks 1."""
    texts = []
    for topic in sorted({tp.topic for tp in partitions}):
        runs: list[list[int]] = []
        for index in sorted(tp.partition for tp in partitions if tp.topic == topic):
            if runs and runs[-1][1] == index - 1:
                runs[-1][1] = index
            else:
                runs.append([index, index])
        parts = (f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
        texts.append(f"{topic} {','.join(parts)}")
    return "; ".join(texts)


@app.command()
def reset(
    name: Name,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic", metavar="TOPIC[:P,P]", help="Repeat it; without, all that is committed."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PLACE", help="earliest, latest, an offset, @time, @-5m."),
    ] = None,
    shift: Annotated[
        int | None, typer.Option("--shift", metavar="N", help="So many further on, or back: -100.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be.")] = False,
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Move what a group without members has committed.

    \b
    kcluster group reset billing --to start --dry-run
    kcluster group reset billing --topic orders --shift -100
    """
    if (to is None) == (shift is None):
        raise UsageError(
            "group reset wants either --to or --shift",
            "one is a place, the other so many records on or back",
            f"kcluster group reset {name} --to earliest --dry-run", 2,
        )  # fmt: skip
    with groups_of(cluster, bootstrap) as admin:
        found = admin.describe_groups([name])
        group = found[0] if found else None
        if group is None and not topic:
            raise _no_group(name, where(cluster, bootstrap))
        if group is not None and group.is_active:
            count = len(group.members)
            raise UsageError(
                f"group {name} is active: its offsets are its members' to commit",
                f"it is {group.state} with {count} member{'s' if count != 1 else ''};"
                " end them first",
                f"kcluster group members {name}{where(cluster, bootstrap)}",
            )
        committed = (
            {TopicPartition(p.topic, p.partition): p.committed for p in group.partitions}
            if group is not None
            else {}
        )
        wanted = _wanted(admin, topic, where(cluster, bootstrap)) if topic else sorted(committed)
        plan = _plan(admin, wanted, committed, to, shift)
        if plan and not dry_run:
            admin.commit(name, plan)
    rows = [
        {"topic": tp.topic, "partition": tp.partition, "before": committed.get(tp),
         "after": plan.get(tp)} for tp in wanted
    ]  # fmt: skip
    if output_format is Format.JSON:
        output.json({"schema": SCHEMA, "group": name, "dry_run": dry_run, "partitions": rows})
        return
    columns = ["TOPIC", "PARTITION", "BEFORE", "AFTER"]
    output.table(columns, [list(row.values()) for row in rows], numbers=columns[1:])
    if dry_run:
        output.note("nothing was changed; leave out --dry-run to do it")
    else:
        output.tick(f"group {name}: {len(plan)} partitions are reset")


def _wanted(admin: Admin, texts: Sequence[str], at: str) -> list[TopicPartition]:
    """TOPIC for all of its partitions, TOPIC:0,2 for some."""
    wanted: set[TopicPartition] = set()
    for text in texts:
        name, colon, indexes = text.partition(":")
        try:
            [described] = admin.topics([name])
        except ApiError as error:
            raise records.refusal(error.code, "", name, at) from None
        there = [TopicPartition(name, each.index) for each in described.partitions]
        if not colon:
            wanted.update(there)
            continue
        for index in indexes.split(","):
            if not index.strip().isdecimal():
                raise UsageError(
                    f"--topic {text!r}: {index!r} is no partition", "partitions are numbers from 0",
                    f"--topic {name}:0,2", 2,
                )  # fmt: skip
            tp = TopicPartition(name, int(index))
            if tp not in there:
                message = f"topic {name} has partitions 0 to {len(there) - 1}"
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                raise records.refusal(code, message, name, at)
            wanted.add(tp)
    return sorted(wanted)


def _plan(
    admin: Admin,
    wanted: Sequence[TopicPartition],
    committed: dict[TopicPartition, int | None],
    to: str | None,
    shift: int | None,
) -> dict[TopicPartition, int]:
    """The offset of each partition, within what its log holds. Partitions that are not there any
    more are left out, and with `shift` those that were never committed."""
    known = admin.led(wanted)
    starts, ends = _offsets(admin, known, EARLIEST), _offsets(admin, known, LATEST)
    aims: dict[TopicPartition, int] = {}
    if to is None:
        assert shift is not None
        aims = {tp: at + shift for tp in wanted if (at := committed.get(tp)) is not None}
    else:
        place = records.place("end" if to == "latest" else to)
        match place.place:
            case Place.START:
                aims = dict(starts)
            case Place.END:
                aims = dict(ends)
            case Place.OFFSET:
                aims = dict.fromkeys(wanted, place.value)
            case Place.LAST:
                aims = {tp: end - place.value for tp, end in ends.items()}
            case _:
                found = _offsets(admin, known, place.value)
                aims = {tp: at if at >= 0 else ends[tp] for tp, at in found.items()}
    return {
        tp: max(starts[tp], min(aims[tp], ends[tp]))
        for tp in wanted
        if tp in aims and tp in starts and tp in ends
    }


def _offsets(
    admin: Admin, partitions: Sequence[TopicPartition], at: int
) -> dict[TopicPartition, int]:
    return {tp: each.offset for tp, each in admin.offsets(partitions, at).items()}


@app.command()
def delete(
    names: Names,
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Delete groups without members, with all that they have committed.

    \b
    kcluster group delete billing
    """
    with groups_of(cluster, bootstrap) as admin:
        for name in names:
            try:
                admin.delete_group(name)
            except ApiError as error:
                if error.code is ErrorCode.GROUP_ID_NOT_FOUND:
                    raise _no_group(name, where(cluster, bootstrap)) from None
                if error.code is not ErrorCode.NON_EMPTY_GROUP:
                    raise
                raise UsageError(
                    f"group {name} was not deleted",
                    "it has members: end them first",
                    f"kcluster group members {name}{where(cluster, bootstrap)}",
                ) from None
            output.tick(f"group {name} is deleted")
    if output_format is Format.JSON:
        output.json({"schema": SCHEMA, "deleted": names})
