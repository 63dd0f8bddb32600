"""`kcluster topic ...`: Kafka's own requests, to any broker that runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kcluster.cli import offsets, output
from kcluster.cli.kafka import any_of, metadata, refuse
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat, settings
from kcluster.client.requests import KafkaConnection
from kcluster.errors import ErrorCode, UsageError

app = typer.Typer(name="topic", help="Create, list, describe, alter, trim and delete topics.",
                  no_args_is_help=True)  # fmt: skip
app.add_typer(offsets.app)

TOPIC_RESOURCE = 2
SET, DELETE = 0, 1
"""Operations of IncrementalAlterConfigs."""

TOPIC_CONFIG_SOURCE = 1
"""DescribeConfigs: set on the topic itself."""

SOURCES = {1: "topic", 2: "broker", 3: "brokers", 4: "start (-X)", 5: "default"}
"""Of a config's value, as DescribeConfigs numbers them."""

Name = Annotated[str, typer.Argument(metavar="NAME")]
Configs = Annotated[list[str] | None, typer.Option("-X", metavar="KEY=VALUE", help="A config.")]


@app.command()
def create(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    partitions: Annotated[
        int, typer.Option("-p", "--partitions", help="-1: the cluster's default.")
    ] = -1,
    replicas: Annotated[
        int, typer.Option("-r", "--replicas", help="Replication factor; -1: the default.")
    ] = -1,
    config: Configs = None,
) -> None:
    """Create a topic; returns when every broker knows it.

    \b
    kcluster topic create orders -p 6 -r 3 -X retention.ms=60000
    """
    with any_of(cluster) as (broker, _, _):
        result = _create(broker, name, partitions, replicas, settings(config))
    output.tick(
        f"topic {name}: {result.num_partitions} partitions,"
        f" replication factor {result.replication_factor}"
    )


def create_topics(cluster: str, topics: list[tuple[str, int, int]]) -> None:
    """Of `up --topic`: those that are there already are left as they are."""
    with any_of(cluster) as (broker, _, _):
        there = {topic.name for topic in metadata(broker, None).topics}
        for name, partitions, replicas in topics:
            if name in there:
                output.tick(f"topic {name} is there already")
            else:
                _create(broker, name, partitions, replicas, {})
                output.tick(f"topic {name}")


def _create(
    broker: KafkaConnection, name: str, partitions: int, replicas: int, configs: dict[str, str]
) -> Any:
    from kcluster.wire.messages import create_topics as m

    response = broker.request(
        m.CreateTopicsRequest(
            topics=[
                m.CreatableTopic(
                    name=name,
                    num_partitions=partitions,
                    replication_factor=replicas,
                    configs=[
                        m.CreatableTopicConfig(name=key, value=value)
                        for key, value in configs.items()
                    ],
                )
            ]
        )
    )
    result = response.topics[0]
    refuse(f"topic {name} was not created", result.error_code, result.error_message)
    return result


@app.command()
def ls(
    cluster: ClusterName = DEFAULT_CLUSTER,
    output_format: OutputFormat = Format.TABLE,
    internal: Annotated[bool, typer.Option("--internal", help="Kafka's own as well.")] = False,
) -> None:
    """List topics.

    \b
    kcluster topic ls --internal
    """
    with any_of(cluster) as (broker, _, _):
        topics = metadata(broker, None).topics
    rows = [
        {
            "topic": topic.name,
            "partitions": len(topic.partitions),
            "replication_factor": max((len(p.replica_nodes) for p in topic.partitions), default=0),
            "under_replicated": sum(
                len(p.isr_nodes) < len(p.replica_nodes) for p in topic.partitions
            ),
            "offline": sum(p.leader_id < 0 for p in topic.partitions),
        }
        for topic in sorted(topics, key=lambda topic: topic.name)
        if internal or not topic.is_internal
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
    name: Name, cluster: ClusterName = DEFAULT_CLUSTER, output_format: OutputFormat = Format.TABLE
) -> None:
    """Show a topic's partitions and what its configs override.

    \b
    kcluster topic describe orders
    """
    from kcluster.cli.status import partition_rows
    from kcluster.client.snapshot import ask_snapshot

    with any_of(cluster) as (broker, control, servers):
        found = [p for p in ask_snapshot(control, servers).partitions if p.topic == name]
        if not found:
            refuse(f"there is no topic {name}", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None)
        overrides = _overrides(broker, name)
    if output_format is Format.JSON:
        output.json(
            {"schema": 1, "topic": name, "topic_id": found[0].topic_id, "configs": overrides,
             "partitions": found}
        )  # fmt: skip
        return
    output.data(f"{name}  id {found[0].topic_id}")
    for key, value in sorted(overrides.items()):
        output.data(f"  {key}={value}")
    columns = ["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "LOG START", "HIGH WATERMARK",
               "SIZE"]  # fmt: skip
    numbers = ["PARTITION", "LEADER", "EPOCH", "LOG START", "HIGH WATERMARK", "SIZE"]
    output.table(columns, partition_rows(found), numbers=numbers)


def _overrides(broker: KafkaConnection, name: str) -> dict[str, str]:
    return {
        config.name: config.value or ""
        for config in _configs(broker, name)
        if config.config_source == TOPIC_CONFIG_SOURCE
    }


def _configs(broker: KafkaConnection, name: str) -> list[Any]:
    from kcluster.wire.messages import describe_configs as m

    resource = m.DescribeConfigsResource(
        resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None
    )
    response = broker.request(
        m.DescribeConfigsRequest(resources=[resource], include_documentation=True)
    )
    result = response.results[0]
    refuse(f"cannot describe topic {name}", result.error_code, result.error_message)
    return list(result.configs)


@app.command()
def config(
    name: Name,
    cluster: ClusterName = DEFAULT_CLUSTER,
    pairs: Configs = None,
    removed: Annotated[
        list[str] | None, typer.Option("-d", "--delete", metavar="KEY", help="Back to default.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Show a topic's configs and where each value is from; set or remove some first.

    \b
    kcluster topic config orders -X retention.ms=60000
    """
    changes = settings(pairs)
    with any_of(cluster) as (broker, _, _):
        if changes or removed:
            _alter_configs(broker, name, changes, removed or [])
            output.tick(f"topic {name} is altered")
        configs = _configs(broker, name)
    rows = [
        {
            "name": each.name,
            "value": each.value,
            "source": SOURCES.get(each.config_source, str(each.config_source)),
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
        int | None, typer.Option("-p", "--partitions", help="How many there shall be: only more.")
    ] = None,
    config: Configs = None,
    delete_config: Annotated[
        list[str] | None, typer.Option("--delete-config", metavar="KEY", help="Back to default.")
    ] = None,
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
    with any_of(cluster) as (broker, _, _):
        if partitions is not None:
            _add_partitions(broker, name, partitions)
        if pairs or delete_config:
            _alter_configs(broker, name, pairs, delete_config or [])
    output.tick(f"topic {name} is altered")


def _add_partitions(broker: KafkaConnection, name: str, count: int) -> None:
    from kcluster.wire.messages import create_partitions as m

    response = broker.request(
        m.CreatePartitionsRequest(
            topics=[m.CreatePartitionsTopic(name=name, count=count, assignments=None)],
            timeout_ms=30_000,
        )
    )
    result = response.results[0]
    refuse(f"topic {name} got no partitions", result.error_code, result.error_message)


def _alter_configs(
    broker: KafkaConnection, name: str, pairs: dict[str, str], removed: list[str]
) -> None:
    from kcluster.wire.messages import incremental_alter_configs as m

    changes = [
        m.AlterableConfig(name=key, config_operation=SET, value=value)
        for key, value in pairs.items()
    ]
    changes += [m.AlterableConfig(name=key, config_operation=DELETE, value=None) for key in removed]
    response = broker.request(
        m.IncrementalAlterConfigsRequest(
            resources=[
                m.AlterConfigsResource(
                    resource_type=TOPIC_RESOURCE, resource_name=name, configs=changes
                )
            ]
        )
    )
    result = response.responses[0]
    refuse(
        f"configs of topic {name} were not altered", result.error_code, result.error_message,
        f"kcluster topic describe {name}",
    )  # fmt: skip


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    cluster: ClusterName = DEFAULT_CLUSTER,
) -> None:
    """Delete topics with their records.

    \b
    kcluster topic delete orders clicks
    """
    from kcluster.wire.messages import delete_topics as m

    with any_of(cluster) as (broker, _, _):
        response = broker.request(
            m.DeleteTopicsRequest(
                topics=[m.DeleteTopicState(name=name) for name in names], timeout_ms=30_000
            )
        )
    for result in response.responses:
        refuse(f"topic {result.name} was not deleted", result.error_code, result.error_message)
        output.tick(f"topic {result.name} is deleted")
