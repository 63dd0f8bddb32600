"""`kcluster topic ...`: Kafka's own requests, to any cluster that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from kcluster.cli import offsets, output
from kcluster.cli.kafka import admin_of, any_of, refuse, refusing, where
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    Bootstrap,
    ClusterName,
    Format,
    OutputFormat,
    settings,
)
from kcluster.client.admin import Admin
from kcluster.core.client.operations import EARLIEST, LATEST
from kcluster.core.client.results import Config, CreatedTopic, Topic
from kcluster.errors import ErrorCode, UsageError
from kcluster.model import TopicPartition

app = typer.Typer(name="topic", help="Create, list, describe, alter, trim and delete topics.",
                  no_args_is_help=True)  # fmt: skip
app.add_typer(offsets.app)

SOURCES = {"start": "start (-X)"}
"""Of a config's value, where people would not know them."""

Name = Annotated[str, typer.Argument(metavar="NAME")]
Configs = Annotated[list[str] | None, typer.Option("-X", metavar="KEY=VALUE", help="A config.")]


@app.command()
def create(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    partitions: Annotated[
        int, typer.Option("-p", "--partitions", metavar="N", help="-1: the cluster's default.")
    ] = -1,
    replicas: Annotated[
        int,
        typer.Option(
            "-r",
            "--replicas",
            "--replication-factor",
            metavar="N",
            help="Of each partition; -1: the cluster's default.",
        ),
    ] = -1,
    config: Configs = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Create a topic; returns when every broker knows it.

    \b
    kcluster topic create orders -p 6 -r 3 -X retention.ms=60000
    """
    configs = settings(config)
    with admin_of(cluster, bootstrap) as admin:
        result = _create(admin, name, partitions, replicas, configs, where(cluster, bootstrap))
    output.tick(
        f"topic {name}: {result.partitions} partitions,"
        f" replication factor {result.replication_factor}"
    )


def create_topics(cluster: str, topics: list[tuple[str, int, int]]) -> None:
    """Of `up --topic`: those that are there already are left as they are."""
    with admin_of(cluster, None) as admin:
        there = {topic.name for topic in admin.topics(internal=True)}
        for name, partitions, replicas in topics:
            if name in there:
                output.tick(f"topic {name} is there already")
            else:
                _create(admin, name, partitions, replicas, {}, where(cluster, None))
                output.tick(f"topic {name}")


def _create(
    admin: Admin, name: str, partitions: int, replicas: int, configs: dict[str, str], at: str
) -> CreatedTopic:
    with refusing(f"topic {name} was not created", f"kcluster topic ls{at}"):
        return admin.create_topic(name, partitions, replicas, configs)
    raise AssertionError("refused")


@app.command()
def ls(
    cluster: ClusterName = DEFAULT_CLUSTER,
    output_format: OutputFormat = Format.TABLE,
    internal: Annotated[bool, typer.Option("--internal", help="Kafka's own as well.")] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """List topics.

    \b
    kcluster topic ls --internal
    """
    with admin_of(cluster, bootstrap) as admin:
        topics = admin.topics(internal=internal)
    rows = [
        {
            "topic": topic.name,
            "partitions": len(topic.partitions),
            "replication_factor": topic.replication_factor,
            "under_replicated": sum(len(p.isr) < len(p.replicas) for p in topic.partitions),
            "offline": sum(p.leader < 0 for p in topic.partitions),
        }
        for topic in topics
    ]
    if output_format is Format.JSON:
        output.json({"schema": 1, "topics": rows})
        return
    if not rows:
        output.note("no topics; create one with kcluster topic create NAME")
        return
    columns = ["TOPIC", "PARTITIONS", "REPLICAS", "UNDER-REPLICATED", "OFFLINE"]
    output.table(columns, [list(row.values()) for row in rows], numbers=columns[1:])


@app.command()
def describe(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show a topic's partitions and what its configs override.

    \b
    kcluster topic describe orders
    """
    at = where(cluster, bootstrap)
    with admin_of(cluster, bootstrap) as admin:
        with refusing(f"there is no topic {name}", f"kcluster topic ls{at}"):
            [topic] = admin.topics([name])
        overrides = {
            config.name: config.value or ""
            for config in _configs(admin, name, at)
            if config.source == "topic"
        }
        partitions = _with_sizes(cluster, name) if bootstrap is None else _with_ends(admin, topic)
    if output_format is Format.JSON:
        output.json(
            {"schema": 1, "topic": name, "topic_id": topic.id, "configs": overrides,
             "partitions": partitions.values}
        )  # fmt: skip
        return
    output.data(f"{name}  id {topic.id}")
    for key, value in sorted(overrides.items()):
        output.data(f"  {key}={value}")
    columns = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "LOG START", "HIGH WATERMARK"]
    if bootstrap is None:
        columns.append("SIZE")
    numbers = ["PARTITION", "LEADER", "EPOCH", "LOG START", "HIGH WATERMARK", "SIZE"]
    output.table(columns, partitions.rows, numbers=numbers)


class _Described(NamedTuple):
    values: Sequence[Any]
    """As JSON."""
    rows: list[list[Any]]


def _with_sizes(cluster: str, name: str) -> _Described:
    """As the brokers of our own clusters tell."""
    from kcluster.cli.status import partition_rows
    from kcluster.client.snapshot import ask_snapshot

    with any_of(cluster) as (_, control, servers):
        found = [p for p in ask_snapshot(control, servers).partitions if p.topic == name]
    if not found:
        refuse(f"there is no topic {name}", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None)
    return _Described(found, partition_rows(found))


def _with_ends(admin: Admin, topic: Topic) -> _Described:
    """As any cluster tells, of the partitions that have a leader."""
    led = [TopicPartition(topic.name, p.index) for p in topic.partitions if p.leader >= 0]
    starts, ends = admin.offsets(led, EARLIEST), admin.offsets(led, LATEST)
    values, rows = [], []
    for each in topic.partitions:
        tp = TopicPartition(topic.name, each.index)
        start = starts[tp].offset if tp in starts else None
        end = ends[tp].offset if tp in ends else None
        values.append(
            {
                "topic": topic.name,
                "partition": each.index,
                "leader": each.leader,
                "leader_epoch": each.leader_epoch,
                "replicas": each.replicas,
                "isr": each.isr,
                "log_start_offset": start,
                "high_watermark": end,
            }
        )
        rows.append(
            [each.index, each.leader if each.leader >= 0 else None, each.leader_epoch,
             each.replicas, each.isr, start, end]
        )  # fmt: skip
    return _Described(values, rows)


def _configs(admin: Admin, name: str, at: str) -> list[Config]:
    with refusing(f"cannot describe topic {name}", f"kcluster topic ls{at}"):
        return admin.configs(name)
    raise AssertionError("refused")


@app.command()
def config(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    pairs: Configs = None,
    removed: Annotated[
        list[str] | None, typer.Option("-d", "--delete", metavar="KEY", help="Back to default.")
    ] = None,
    bootstrap: Bootstrap = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show a topic's configs and where each value is from; set or remove some first.

    \b
    kcluster topic config orders -X retention.ms=60000
    """
    changes = settings(pairs)
    at = where(cluster, bootstrap)
    with admin_of(cluster, bootstrap) as admin:
        if changes or removed:
            _alter_configs(admin, name, changes, removed or [], at)
            output.tick(f"topic {name} is altered")
        configs = _configs(admin, name, at)
    rows = [
        {
            "name": each.name,
            "value": each.value,
            "source": SOURCES.get(each.source, each.source),
            "documentation": each.documentation,
        }
        for each in configs
    ]
    if output_format is Format.JSON:
        output.json({"schema": 1, "topic": name, "configs": rows})
        return
    # Those of the topic first: they are what was looked for.
    rows.sort(key=lambda row: row["source"] != "topic")
    shown = ["name", "value", "source"]
    columns = ["CONFIG", "VALUE", "FROM"]
    if output_format is Format.WIDE:
        shown.append("documentation")
        columns.append("WHAT IT IS")
    output.table(columns, [[row[key] for key in shown] for row in rows])


@app.command()
def alter(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    partitions: Annotated[
        int | None,
        typer.Option("-p", "--partitions", metavar="N", help="How many there shall be: only more."),
    ] = None,
    config: Configs = None,
    delete_config: Annotated[
        list[str] | None, typer.Option("--delete-config", metavar="KEY", help="Back to default.")
    ] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Add partitions, set or remove configs.

    \b
    kcluster topic alter orders -p 12
    """
    pairs = settings(config)
    if partitions is None and not pairs and not delete_config:
        raise UsageError(
            f"topic alter {name}: nothing to alter",
            "neither -p nor a config is given",
            f"kcluster topic alter {name} -p 12",
            2,
        )
    at = where(cluster, bootstrap)
    with admin_of(cluster, bootstrap) as admin:
        if partitions is not None:
            with refusing(f"topic {name} got no partitions", f"kcluster topic ls{at}"):
                admin.add_partitions(name, partitions)
        if pairs or delete_config:
            _alter_configs(admin, name, pairs, delete_config or [], at)
    output.tick(f"topic {name} is altered")


def _alter_configs(
    admin: Admin, name: str, pairs: dict[str, str], removed: list[str], at: str
) -> None:
    with refusing(
        f"configs of topic {name} were not altered", f"kcluster topic describe {name}{at}"
    ):
        admin.alter_configs(name, pairs, removed)


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    cluster: ClusterName = DEFAULT_CLUSTER,
    bootstrap: Bootstrap = None,
) -> None:
    """Delete topics with their records.

    \b
    kcluster topic delete orders clicks
    """
    at = where(cluster, bootstrap)
    with admin_of(cluster, bootstrap) as admin:
        for name in dict.fromkeys(names):
            with refusing(f"topic {name} was not deleted", f"kcluster topic ls{at}"):
                admin.delete_topics(name)
            output.tick(f"topic {name} is deleted")
