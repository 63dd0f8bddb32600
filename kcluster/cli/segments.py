"""`kcluster segments`: the files of each replica's log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat
from kcluster.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from kcluster.client.segment_files import SegmentFile
    from kcluster.model import TopicPartition

app = typer.Typer()

EXIT_UNKNOWN = 4

COLUMNS = ["PARTITION", "BROKER", "BASE OFFSET", "LAST OFFSET", "RECORDS", "SIZE", "INDEX",
           "TIME INDEX", "AGE", "STATE", "EPOCHS"]  # fmt: skip
WIDE_COLUMNS = ["BATCHES", "BYTES", "FIRST TIMESTAMP", "LAST TIMESTAMP", "FILE"]


@app.command()
def segments(
    what: Annotated[
        str | None, typer.Argument(metavar="[TOPIC[-PARTITION]]", help="Of one; all by default.")
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    broker: Annotated[
        list[int] | None, typer.Option(metavar="ID", help="Of this one; 0: the coordinator.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List the segments of each replica, from the files; the cluster need not run.

    INDEX and TIME INDEX are entries on disk; an active segment gets its first at a checkpoint. AGE
    is that of the newest record, by which retention goes.

    \b
    kcluster segments orders-0 --broker 1      # one replica
    kcluster segments -o wide                  # with the files, for kcluster dump-segment
    """
    from kcluster.client.find import recorded_cluster
    from kcluster.client.segment_files import read_segments
    from kcluster.processes.workdir import holder

    directory, known = recorded_cluster(cluster)
    wanted = _wanted(directory, [seat.id for seat in known.seats], broker or [], what, cluster)
    wall_ms = time.time_ns() // 1_000_000
    found = [segment for tp, id in wanted for segment in read_segments(directory, id, tp, wall_ms)]
    if output_format is Format.JSON:
        output.json({"schema": 1, "cluster": cluster, "segments": found})
        return
    if not found:
        output.note("no segments; create a topic with kcluster topic create NAME")
        return
    is_wide = output_format is Format.WIDE
    columns = COLUMNS + (WIDE_COLUMNS if is_wide else [])
    left = {"PARTITION", "STATE", "EPOCHS", "FILE"}
    output.table(
        columns,
        [_row(segment, is_wide=is_wide) for segment in found],
        numbers=[column for column in columns if column not in left],
        is_whole=is_wide,
    )
    is_running = holder(directory) is not None
    for segment in found:
        # Behind the last batch of an active one somebody may be writing.
        if segment.problem and not (segment.is_active and is_running):
            output.note(f"{segment.path}: {segment.problem}; try kcluster verify -c {cluster}")


def _wanted(
    directory: Path, seats: list[int], brokers: list[int], what: str | None, cluster: str
) -> list[tuple[TopicPartition, int]]:
    """(partition, broker), partition by partition. UsageError (exit 4) for what is not there."""
    from kcluster.client.segment_files import partitions_of
    from kcluster.core.metadata.metadata_log import DIRECTORY
    from kcluster.model import COORDINATOR

    for id in brokers:
        if id not in (COORDINATOR, *seats):
            raise UsageError(
                f"there is no broker {id}",
                f"brokers are {', '.join(map(str, seats))}; 0 is the coordinator",
                f"kcluster segments --broker {seats[0] if seats else 0} -c {cluster}",
                EXIT_UNKNOWN,
            )
    is_metadata = what is not None and DIRECTORY in (what, f"{what}-0")
    looked_at = brokers or ([COORDINATOR] if is_metadata else seats)
    there = [(tp, id) for id in looked_at for tp in partitions_of(directory, id)]
    found = [(tp, id) for tp, id in there if what is None or what in (tp.topic, str(tp))]
    if what is not None and not found:
        topics = sorted({tp.topic for tp, _ in there})
        raise UsageError(
            f"nobody has a replica of {what}",
            f"on disk are {', '.join(topics[:8])}" if topics else "there are no partitions",
            f"kcluster segments -c {cluster}",
            EXIT_UNKNOWN,
        )
    return sorted(found)


def _row(segment: SegmentFile, *, is_wide: bool) -> list[Any]:
    row: list[Any] = [
        f"{segment.topic}-{segment.partition}",
        segment.broker or "coord",
        segment.base_offset,
        segment.last_offset,
        segment.records,
        output.size(segment.bytes),
        segment.index_entries,
        segment.time_index_entries,
        None if segment.age_ms is None else output.duration(segment.age_ms),
        "active" if segment.is_active else "damaged" if segment.problem else "sealed",
        segment.leader_epochs,
    ]
    if is_wide:
        row += [
            segment.batches,
            segment.bytes,
            output.moment(segment.first_timestamp),
            output.moment(segment.last_timestamp),
            segment.path,
        ]
    return row
