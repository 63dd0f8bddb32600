"""`kcluster remove-broker`: its replicas go elsewhere, then it goes for good.

    replicas away --> wait --> stop --> no place in the cluster --> unregister

Each step finds done what a first try has done: after an interruption the same command goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kcluster.cli import output, reassign
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    broker_ids,
    milliseconds,
)
from kcluster.errors import ErrorCode, UsageError
from kcluster.model import TopicPartition

if TYPE_CHECKING:
    from kcluster.client.reassign import Move
    from kcluster.client.reassigning import Progress, Reassigner
    from kcluster.core.metadata.image import ClusterImage

app = typer.Typer()

EXIT_UNKNOWN = 4
REMOVE_MS = 70_000
"""To stop it, and to hear from the coordinator that it holds nothing."""


@app.command(name="remove-broker")
def remove_broker(
    id: Annotated[str, typer.Argument(metavar="ID", help="Which broker.")],
    cluster: ClusterName = DEFAULT_CLUSTER,
    throttle: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="To and from a broker, each second: 10M."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the plan only.")] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long moving may take.")] = "10m",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Move a broker's replicas to the others, then stop it for good.

    \b
    kcluster remove-broker 4
    """
    from kcluster.client.find import connect
    from kcluster.wire import control as c

    chosen = broker_ids([id])
    if len(chosen) != 1 or chosen[0] < 1:
        raise UsageError(
            f"remove-broker {id}: one broker at a time",
            "each has to find room for what the one before it held",
            "kcluster remove-broker 4",
            2,
        )
    [broker] = chosen
    with reassign.working(cluster) as work, connect(cluster) as control:
        states = {state.id: state for state in control.states()}
        if broker not in states and broker not in work.image().brokers:
            valid = ", ".join(str(other) for other in sorted(states) if other)
            raise UsageError(
                f"no broker {broker} in cluster {cluster}",
                f"its brokers are {valid}",
                f"kcluster status -c {cluster}",
                EXIT_UNKNOWN,
            )
        plan = _plan(work.image(), broker, cluster)
        reassign.carry_out(
            work, plan, reassign.sizes(work), throttle, output_format, is_dry=dry_run
        )
        if dry_run:
            return
        reassign.follow(
            work,
            plan,
            milliseconds(timeout),
            cluster,
            is_over=lambda ongoing: not _holds(work, broker, ongoing),
        )
        if broker in states:
            control.command(c.RemoveBroker([broker]), REMOVE_MS)
        _unregister(work, broker, cluster)
    output.tick(f"broker {broker} is removed")


def _plan(image: ClusterImage, broker: int, cluster: str) -> list[Move]:
    """Raises UsageError when there are too few others."""
    from kcluster.client import reassign as r

    there = r.assignments(image)
    others = [each.id for each in image.alive() if each.id != broker and not each.is_shutting_down]
    held = [tp for tp, ids in there.items() if broker in ids]
    try:
        return r.moves(there, r.to_brokers(there, held, others))
    except r.TooFewBrokers:
        factor = max(len(there[tp]) for tp in held)
        tp = next(tp for tp in held if len(there[tp]) == factor)
        running = f"{len(others)} other broker{'s' if len(others) != 1 else ''}"
        raise UsageError(
            f"broker {broker} cannot be removed: {tp} has {factor} replicas",
            f"{running} of cluster {cluster} can take them, and none takes two of one partition",
            f"kcluster add-broker -c {cluster},"
            f" or kcluster reassign {tp.topic} --replicas {len(others)} -c {cluster}"
            if others
            else f"kcluster start-broker --all -c {cluster}",
        ) from None


def _holds(work: Reassigner, broker: int, ongoing: list[Progress]) -> bool:
    """Whether it is a replica of anything, also of what was created meanwhile: that is moved,
    too."""
    from kcluster.client import reassign as r

    image = work.image()
    moving = {TopicPartition(each.topic, each.partition) for each in ongoing}
    left = [tp for tp, ids in r.assignments(image).items() if broker in ids and tp not in moving]
    if left:
        work.start(_plan(image, broker, work.cluster))
    return bool(left) or any(broker in each.replicas for each in ongoing)


def _unregister(work: Reassigner, broker: int, cluster: str) -> None:
    error, message = work.unregister(broker)
    if error not in (ErrorCode.NONE, ErrorCode.BROKER_ID_NOT_REGISTERED):
        raise UsageError(
            f"broker {broker} is stopped and still registered",
            message or error.name,
            f"kcluster status -c {cluster}",
        )
