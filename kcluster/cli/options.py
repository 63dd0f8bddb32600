"""Options that many commands share, and the way from a cluster's name to its supervisor."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from kcluster.errors import UsageError
from kcluster.model import TopicPartition

EXIT_NOT_RUNNING = 3

ClusterName = Annotated[
    str,
    typer.Option(
        "-c", "--cluster", metavar="NAME", envvar="KCLUSTER_CLUSTER", help="Which cluster."
    ),
]

Bootstrap = Annotated[
    str | None,
    typer.Option("-b", "--bootstrap", metavar="HOST:PORT", help="Any cluster, by address."),
]

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no hints.")]


class Format(enum.StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


OutputFormat = Annotated[
    Format, typer.Option("-o", "--output", help="How to print it.", case_sensitive=False)
]

DEFAULT_CLUSTER = "dev"


def milliseconds(text: str) -> int:
    """ "500ms", "5s", "2m" or plain seconds. UsageError otherwise."""
    for unit, factor in (("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)):
        number = text.removesuffix(unit)
        if number != text and _is_number(number):
            return int(float(number) * factor)
    if _is_number(text):
        return int(float(text) * 1000)
    raise UsageError(f"{text!r} is not a time", "times look like 500ms, 5s or 2m", "5s", 2)


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) < 1e12
    except ValueError:
        return False


def broker_ids(texts: list[str] | None) -> list[int]:
    """Ids as typed: "1", "broker-2", "1,3"."""
    ids = []
    for text in texts or []:
        for part in text.split(","):
            number = part.strip().removeprefix("broker-")
            if not number.isdigit():
                raise UsageError(
                    f"{part!r} is not a broker id", "ids are numbers from 1", "kcluster status", 2
                )
            ids.append(int(number))
    return list(dict.fromkeys(ids))


def partition_meant(text: str, example: str) -> TopicPartition:
    """ "orders-0", which need not be there. UsageError otherwise."""
    topic, _, number = text.rpartition("-")
    if not topic or not number.isdecimal():
        raise UsageError(
            f"{text!r} is not TOPIC-PARTITION",
            "the number behind the last - says which partition",
            example,
            2,
        )
    return TopicPartition(topic, int(number))


def rack_names(text: str, example: str) -> list[str]:
    """ "a,b,c"; "" for none. UsageError when a name is empty."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise UsageError(f"{text!r} has an empty rack", "racks are names with commas between",
                         example, 2)  # fmt: skip
    return names


def settings(texts: list[str] | None, *, option: str = "-X") -> dict[str, str]:
    """`key=value` pairs. UsageError when one is not."""
    pairs = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(
                f"{option} {text!r} is not key=value",
                "there is no = in it, or nothing before it",
                f"{option} log.segment.bytes=1048576",
                2,
            )
        pairs[key.strip()] = value.strip()
    return pairs
