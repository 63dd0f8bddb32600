"""`kcluster verify`: every batch, index and checkpoint of a cluster, and its replicas compared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from kcluster.cli import output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    EXIT_NOT_RUNNING,
    ClusterName,
    Format,
    OutputFormat,
    Quiet,
)
from kcluster.errors import CorruptLogError, UsageError
from kcluster.processes.workdir import holder, locate, read_cluster

if TYPE_CHECKING:
    from kcluster.client.verify import Cluster, Report

app = typer.Typer()

EXIT_DAMAGED = 11


@app.command()
def verify(
    cluster: ClusterName = DEFAULT_CLUSTER,
    output_format: OutputFormat = Format.TABLE,
    quiet: Quiet = False,
) -> int:
    """Check every file of a cluster, running or not. Exit code 11: something is damaged.

    \b
    kcluster verify -o json
    """
    from kcluster.client import verify as checking

    if quiet:
        output.be_quiet()
    target = _target(cluster)
    report = _with_bar(lambda progress: checking.verify(target, progress), is_quiet=quiet)
    if output_format is Format.JSON:
        output.json(report)
    else:
        _show(report)
    return EXIT_DAMAGED if report.damage else 0


def _target(name: str) -> Cluster:
    from kcluster.client import verify as checking
    from kcluster.client.control import BusClient
    from kcluster.client.find import connect
    from kcluster.client.snapshot import ask_holdings, read_image

    directory = locate(name)
    known = read_cluster(directory)
    if known is None:
        raise UsageError(
            f"there is no cluster {name}", f"nothing is in {directory}", "kcluster ls",
            EXIT_NOT_RUNNING,
        )  # fmt: skip
    brokers = [seat.id for seat in known.seats]
    if holder(directory) is not None:
        control, servers = connect(name), BusClient()
        image = read_image(servers, control.states())
        if image is None:
            raise UsageError(f"nobody in cluster {name} answers",
                             "neither the coordinator nor a broker",
                             f"kcluster status -c {name}")  # fmt: skip

        def marks() -> Any:
            states = control.states()
            return {id: held.replicas for id, held in ask_holdings(servers, states).items()}

        return checking.Cluster(name, directory, brokers, image, marks)
    try:
        image = checking.read_metadata(directory / "coordinator")
    except CorruptLogError as error:
        raise UsageError(
            "the metadata log is damaged", str(error), f"kcluster logs -c {name} coordinator",
            EXIT_DAMAGED,
        ) from error  # fmt: skip
    return checking.Cluster(name, directory, brokers, image)


def _with_bar(work: Callable[[Any], Report], *, is_quiet: bool) -> Report:
    """With a progress bar on a terminal."""
    if is_quiet or not sys.stderr.isatty():
        return work(None)
    from rich.progress import Progress

    with Progress(console=output.console(is_error=True), transient=True) as bar:
        task = bar.add_task("verify", total=None)

        def progress(partition: str, done: int, total: int) -> None:
            bar.update(task, description=partition, completed=done, total=max(total, 1))

        return work(progress)


def _show(report: Report) -> None:
    if report.damage:
        output.table(
            ["PARTITION", "BROKER", "FILE", "OFFSET", "BYTE", "WHAT"],
            [
                [
                    f"{d.topic}-{d.partition}" if d.topic else None,
                    d.broker or "coordinator",
                    d.file,
                    d.offset if d.offset >= 0 else None,
                    d.position if d.position >= 0 else None,
                    d.what,
                ]
                for d in report.damage
            ],
            numbers=["OFFSET", "BYTE"],
        )
    for note in report.notes:
        output.note(f"· {note}")
    summary = (
        f"{report.partitions} partitions, {report.replicas} replicas, {report.segments} segments,"
        f" {report.batches} batches, {output.size(report.bytes)}"
    )
    if report.damage:
        output.note(f"{len(report.damage)} damaged places in {summary}")
    else:
        output.tick(f"nothing is damaged: {summary}")
