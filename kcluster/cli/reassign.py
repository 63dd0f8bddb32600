"""`kcluster reassign`: have partitions held by other brokers, see how far that is, or stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kcluster.cli import kafka, output
from kcluster.cli.options import (
    DEFAULT_CLUSTER,
    ClusterName,
    Format,
    OutputFormat,
    broker_ids,
    milliseconds,
)
from kcluster.errors import UsageError
from kcluster.model import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kcluster.client.reassign import Move
    from kcluster.client.reassigning import Progress, Reassigner, Refusal
    from kcluster.core.metadata.image import ClusterImage

app = typer.Typer()

EXIT_TIMED_OUT = 124
LOOK_S = 0.1
MOVES_SHOWN = 20
BAR = 24
"""Characters of a progress bar."""

UNTHROTTLES = "kcluster reassign --wait, or --throttle none"

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@app.command()
def reassign(
    meant: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC[-P]]...", help="All when none is named.")
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ID", help="On these brokers only: 1,2,3.")
    ] = None,
    from_broker: Annotated[
        list[str] | None, typer.Option("--from-broker", metavar="ID", help="Off these brokers.")
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option("-r", "--replicas", min=1, metavar="N", help="How many each shall have."),
    ] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="As many on one broker as on another.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "-f", "--file", metavar="FILE", help="As Kafka's own tool has it; - for stdin."
        ),
    ] = None,
    throttle: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="To and from a broker, each second: 10M. none: end it."),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Back to where they were.")] = False,
    status: Annotated[bool, typer.Option("--status", help="What is being moved.")] = False,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the plan only.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until all is moved.")] = False,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Of --wait.")] = "10m",
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Have partitions held by other brokers.

    \b
    kcluster reassign orders --to 1,2,3 --wait
    kcluster reassign --balance --dry-run      # after add-broker
    kcluster reassign --from-broker 2 --throttle 10M
    kcluster reassign --status
    """
    ways = [bool(to), bool(from_broker), balance, file is not None, cancel, status]
    is_plan = any(ways[:4]) or replicas is not None
    _check(ways, throttle, wait, is_plan=is_plan, is_factor_only=replicas is not None)
    with working(cluster) as work:
        if is_plan:
            image = work.image()
            bytes_of = sizes(work)
            plan = _plan(image, bytes_of, meant or [], to, from_broker, replicas, file, cluster)
            carry_out(work, plan, bytes_of, throttle, output_format, is_dry=dry_run)
            if dry_run:
                return
        elif cancel:
            _cancel(work, meant or [], output_format, cluster)
            plan = []
        elif throttle is not None:
            _throttle(work, throttle)
            plan = []
        else:
            plan = []
        if wait:
            follow(work, plan, milliseconds(timeout), cluster)
        elif status:
            _status(work, output_format)
        elif throttle is not None and work.is_throttled():
            output.note(f"the throttle stays until {UNTHROTTLES}")


def _check(
    ways: Sequence[bool],
    throttle: str | None,
    wait: bool,
    *,
    is_plan: bool,
    is_factor_only: bool,
) -> None:
    if sum(ways) > 1 and not (ways[0] and ways[1] and sum(ways) == 2):
        raise UsageError(
            "reassign: one thing at a time",
            "--to, --from-broker, --balance, -f, --cancel and --status say different things",
            "kcluster reassign --help",
            2,
        )
    if not any(ways) and throttle is None and not wait and not is_factor_only:
        raise UsageError(
            "reassign: to where?",
            "neither --to, --from-broker, --replicas, --balance nor -f is given",
            "kcluster reassign --balance --dry-run",
            2,
        )
    if throttle is not None:
        _rate(throttle)


@contextmanager
def working(cluster: str) -> Iterator[Reassigner]:
    from kcluster.client.control import BusClient
    from kcluster.client.find import connect
    from kcluster.client.reassigning import Reassigner

    with connect(cluster) as control, BusClient() as servers:
        yield Reassigner(control, servers, cluster)


# --- the plan -----------------------------------------------------------------------------


def _plan(
    image: ClusterImage,
    bytes_of: dict[TopicPartition, int],
    texts: list[str],
    to: list[str] | None,
    away: list[str] | None,
    replicas: int | None,
    file: Path | None,
    cluster: str,
) -> list[Move]:
    from kcluster.client import reassign as r

    there = r.assignments(image)
    meant = _meant(image, texts, cluster)
    if file is not None:
        wanted = _read(file)
        for tp in wanted:
            if tp not in there:
                raise _unknown(str(tp), image, cluster)
        return r.moves(there, {tp: ids for tp, ids in wanted.items() if tp in meant})
    alive = [broker.id for broker in image.alive() if not broker.is_shutting_down]
    if to or away or replicas is not None:
        targets = _known(image, broker_ids(to), cluster) if to else alive
        leaving = _known(image, broker_ids(away), cluster) if away else []
        if away or not to:
            meant = [tp for tp in meant if not away or set(leaving) & set(there[tp])]
        targets = [id for id in targets if id not in leaving]
        return r.moves(there, r.to_brokers(there, meant, targets, replicas))
    balanced = r.balance({tp: there[tp] for tp in meant}, alive, bytes_of)
    return r.moves(there, balanced)


def _read(file: Path) -> dict[TopicPartition, list[int]]:
    import sys

    from kcluster.client.reassign import from_json

    if str(file) == "-":
        return from_json(sys.stdin.buffer.read(), "standard input")
    try:
        return from_json(file.read_bytes(), str(file))
    except OSError as error:
        raise UsageError(
            f"cannot read {file}", error.strerror or "", "kcluster reassign --help", 2
        ) from None


def _meant(image: ClusterImage, texts: list[str], cluster: str) -> list[TopicPartition]:
    """Partitions that are named, or all."""
    if not texts:
        texts = sorted(image.topics)
    found: dict[TopicPartition, None] = {}
    for text in texts:
        name, _, index = text.rpartition("-")
        if text in image.topics:
            all = sorted(image.topics[text].partitions)
            found |= {TopicPartition(text, each): None for each in all}
        elif (
            name in image.topics
            and index.isdecimal()
            and int(index) in image.topics[name].partitions
        ):
            found[TopicPartition(name, int(index))] = None
        else:
            raise _unknown(text, image, cluster)
    return list(found)


def _unknown(text: str, image: ClusterImage, cluster: str) -> UsageError:
    names = ", ".join(sorted(image.topics)[:10]) or "none"
    return UsageError(
        f"there is no topic or partition {text}",
        f"topics of cluster {cluster}: {names}",
        f"kcluster topic ls -c {cluster}",
        kafka.EXIT_NO_SUCH_TOPIC,
    )


def _known(image: ClusterImage, ids: list[int], cluster: str) -> list[int]:
    for id in ids:
        if id not in image.brokers:
            brokers = ", ".join(map(str, sorted(image.brokers)))
            raise UsageError(
                f"no broker {id} in cluster {cluster}",
                f"its brokers are {brokers}",
                f"kcluster status -c {cluster}",
                kafka.EXIT_NO_SUCH_TOPIC,
            )
    return ids


def carry_out(
    work: Reassigner,
    plan: list[Move],
    bytes_of: dict[TopicPartition, int],
    throttle: str | None,
    output_format: Format,
    *,
    is_dry: bool,
) -> None:
    rate = None if throttle is None else _rate(throttle)
    show(plan, bytes_of, rate, output_format, is_dry=is_dry)
    if is_dry or not plan:
        return
    if rate:
        work.throttle(plan, rate)
    refused = work.start(plan)
    if refused:
        raise _refused(refused, len(plan))


def _refused(refused: Sequence[Refusal], asked: int) -> UsageError:
    return UsageError(
        f"{len(refused)} of {asked} partitions were refused",
        str(refused[0]),
        "kcluster reassign --status",
    )


def sizes(work: Reassigner) -> dict[TopicPartition, int]:
    """Bytes of each partition, as its largest replica has them."""
    return {
        TopicPartition(each.topic, each.partition): max(
            (replica.size or 0 for replica in each.replicas), default=0
        )
        for each in work.snapshot().partitions
    }


def show(
    plan: Sequence[Move],
    bytes_of: dict[TopicPartition, int],
    rate: int | None,
    output_format: Format,
    *,
    is_dry: bool,
) -> None:
    copied = sum(bytes_of.get(move.tp, 0) * len(move.adding) for move in plan)
    if output_format is Format.JSON:
        output.json(
            {
                "schema": 1,
                "version": 1,
                "partitions": [
                    {"topic": m.topic, "partition": m.partition, "replicas": m.target,
                     "before": m.before, "bytes": bytes_of.get(m.tp, 0) * len(m.adding)}
                    for m in plan
                ],
                "throttle": rate or None,
                "dry_run": is_dry,
            }
        )  # fmt: skip
        return
    if not plan:
        output.note("nothing is to be moved")
        return
    shown = plan if output_format is Format.WIDE else plan[:MOVES_SHOWN]
    rows = [
        [str(m.tp), m.before, m.target, output.size(bytes_of.get(m.tp, 0) * len(m.adding))]
        for m in shown
    ]
    output.table(["PARTITION", "REPLICAS", "WILL BE", "TO COPY"], rows, numbers=["TO COPY"])
    if len(shown) < len(plan):
        output.note(f"and {len(plan) - len(shown)} more: -o wide shows all")
    replicas = sum(len(move.adding) for move in plan)
    at = f", at most {output.size(rate)}/s to and from a broker" if rate else ""
    output.note(
        f"{len(plan)} partitions, {replicas} replicas to copy: {output.size(copied)}{at}"
        + ("; nothing is done (--dry-run)" if is_dry else "")
    )


def _rate(text: str) -> int:
    """Bytes each second; 0 for none. UsageError otherwise."""
    if text == "none":
        return 0
    number = text.lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in UNITS else ""
    try:
        rate = int(float(number.removesuffix(unit)) * UNITS[unit])
    except (ValueError, OverflowError):
        rate = 0
    if not 0 < rate < 1 << 62:
        raise UsageError(
            f"--throttle {text!r} is not so many bytes", "they look like 500K, 10M or 1G",
            "kcluster reassign --balance --throttle 10M", 2,
        )  # fmt: skip
    return rate


# --- while it lasts -----------------------------------------------------------------------


def _throttle(work: Reassigner, text: str) -> None:
    """Of what is being moved already."""
    from kcluster.client.reassign import Move

    rate = _rate(text)
    if not rate:
        was_set = work.unthrottle()
        output.tick("no throttle any more" if was_set else "there is no throttle")
        return
    ongoing = [
        Move(each.topic, each.partition, [id for id in each.replicas if id not in each.adding],
             [id for id in each.replicas if id not in each.removing])
        for each in work.progress()
    ]  # fmt: skip
    if not ongoing:
        raise UsageError(
            "nothing is being moved", "so there is nothing to throttle",
            "kcluster reassign --balance --throttle 10M",
        )  # fmt: skip
    work.throttle(ongoing, rate)
    output.tick(f"at most {output.size(rate)}/s to and from a broker")


def _cancel(work: Reassigner, texts: list[str], output_format: Format, cluster: str) -> None:
    image = work.image()
    meant = set(_meant(image, texts, cluster))
    ongoing = [
        TopicPartition(each.topic, each.partition)
        for each in work.progress()
        if TopicPartition(each.topic, each.partition) in meant
    ]
    # Between two looks one may have become complete, which is no error.
    refused = [r for r in work.cancel(ongoing) if r.error != "NO_REASSIGNMENT_IN_PROGRESS"]
    if not work.progress():
        work.unthrottle()
    if output_format is Format.JSON:
        output.json({"schema": 1, "cancelled": [str(tp) for tp in ongoing], "refused": refused})
    elif ongoing:
        output.tick(f"{len(ongoing) - len(refused)} partitions go back to where they were")
    else:
        output.note("nothing is being moved")
    if refused:
        raise _refused(refused, len(ongoing))


def _status(work: Reassigner, output_format: Format) -> None:
    ongoing = work.progress()
    is_throttled = work.is_throttled()
    if output_format is Format.JSON:
        output.json({"schema": 1, "throttled": is_throttled, "partitions": ongoing})
        return
    if not ongoing:
        output.note("nothing is being moved")
        if is_throttled:
            output.note(f"a throttle is still set, until {UNTHROTTLES}")
        return
    rows = [
        [f"{each.topic}-{each.partition}", each.replicas, each.adding, each.removing,
         f"{output.size(each.copied)} of {output.size(each.size)}", f"{_percent(each)} %"]
        for each in ongoing
    ]  # fmt: skip
    columns = ["PARTITION", "REPLICAS", "ADDS", "REMOVES", "COPIED", "DONE"]
    output.table(columns, rows, numbers=["COPIED", "DONE"])


def _percent(each: Progress) -> int:
    return 100 * each.copied // each.size if each.size else 0


def follow(
    work: Reassigner,
    plan: Sequence[Move],
    timeout_ms: int,
    cluster: str,
    *,
    is_over: Callable[[list[Progress]], bool] = lambda ongoing: not ongoing,
) -> None:
    """Until nothing is moved any more, with a bar on a terminal; then the throttle goes, and who
    is first leads. UsageError when it takes too long."""
    begun = time.monotonic()
    bar = _Bar()
    while True:
        ongoing = work.progress()
        if is_over(ongoing):
            break
        bar.draw(ongoing, time.monotonic() - begun)
        if time.monotonic() - begun > timeout_ms / 1000:
            bar.end()
            first = ongoing[0]
            raise UsageError(
                f"{len(ongoing)} partitions are still being moved after"
                f" {output.duration(timeout_ms)}",
                f"{first.topic}-{first.partition} waits for {first.adding or first.replicas}",
                f"kcluster reassign --wait -c {cluster}, or --cancel",
                EXIT_TIMED_OUT,
            )
        time.sleep(LOOK_S)
    bar.end()
    work.unthrottle()
    work.elect_preferred([move.tp for move in plan])
    output.tick(f"all is moved, in {output.duration((time.monotonic() - begun) * 1000)}")


class _Bar:
    """What was there at first, and how much of it is done."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, int], int] = {}
        self._was_drawn = False

    def draw(self, ongoing: list[Progress], elapsed_s: float) -> None:
        import sys

        if not sys.stderr.isatty():
            return
        self._was_drawn = True
        copied = {(each.topic, each.partition): each.copied for each in ongoing}
        for each in ongoing:
            self._sizes[each.topic, each.partition] = each.size
        whole = sum(self._sizes.values())
        done = sum(copied.get(key, size) for key, size in self._sizes.items())
        part = done / whole if whole else 0.0
        filled = round(BAR * part)
        speed = output.size(int(done / elapsed_s)) if elapsed_s > 1 else "-"
        output.live(
            f"{'█' * filled}{'░' * (BAR - filled)} {part:4.0%}  {output.size(done)} of"
            f" {output.size(whole)}  {len(ongoing)} of {len(self._sizes)} partitions  {speed}/s"
        )

    def end(self) -> None:
        if self._was_drawn:
            output.live("")
