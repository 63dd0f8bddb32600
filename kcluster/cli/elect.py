"""`kcluster elect-leaders`: give partitions back to their preferred leaders, or force one."""

from __future__ import annotations

from typing import Annotated

import typer

from kcluster.cli import kafka, output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat, milliseconds
from kcluster.errors import ErrorCode, UsageError

app = typer.Typer()

PREFERRED, UNCLEAN = 0, 1
"""Types of ElectLeaders."""


@app.command(name="elect-leaders")
def elect_leaders(
    meant: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC[-P]]...", help="All when none is named.")
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    unclean: Annotated[
        bool,
        typer.Option(
            "--unclean", help="Where nobody leads: any replica that lives. Loses what it lacks."
        ),
    ] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long it may take.")] = "30s",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Have partitions led by the first replica of their assignment.

    \b
    kcluster elect-leaders orders
    """
    from kcluster.wire.messages import elect_leaders as m

    with kafka.any_of(cluster) as (broker, _, _):
        wanted: dict[str, list[int]] = {}
        for text in meant or []:
            topic, partitions = kafka.partitions_meant(broker, text)
            wanted[topic.name] = sorted({*wanted.get(topic.name, []), *partitions})
        topics = [
            m.TopicPartitions(topic=name, partitions=indexes) for name, indexes in wanted.items()
        ]
        response = broker.request(
            m.ElectLeadersRequest(
                election_type=UNCLEAN if unclean else PREFERRED,
                topic_partitions=topics if meant else None,
                timeout_ms=milliseconds(timeout),
            )
        )
    kafka.refuse("nobody was elected", response.error_code, None, "kcluster status")
    rows = [
        {
            "topic": topic.topic,
            "partition": part.partition_id,
            "result": _RESULTS.get(part.error_code, ErrorCode(part.error_code).name),
            "why": part.error_message or None,
        }
        for topic in response.replica_election_results
        for part in topic.partition_result
    ]
    failed = [row for row in rows if row["result"] not in _RESULTS.values()]
    if output_format is Format.JSON:
        output.json({"schema": 1, "type": "unclean" if unclean else "preferred", "results": rows})
    elif rows:
        columns = ["TOPIC", "PARTITION", "RESULT", "WHY"]
        output.table(columns, [[*row.values()] for row in rows], numbers=["PARTITION"])
    else:
        output.note("no partition needs an election")
    if failed:
        first = failed[0]
        raise UsageError(
            f"{len(failed)} of {len(rows)} elections failed",
            f"{first['topic']}-{first['partition']}: {first['why'] or first['result']}",
            "kcluster status",
        )


_RESULTS = {ErrorCode.NONE: "elected", ErrorCode.ELECTION_NOT_NEEDED: "not needed"}
