"""`kcluster produce`: lines, or one value, into a topic."""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
import typer

from kcluster.cli import output, records
from kcluster.cli.kafka import where
from kcluster.cli.options import DEFAULT_CLUSTER, Bootstrap, ClusterName, Quiet
from kcluster.client.producer import Producer
from kcluster.core.client.producer import Delivered, Failed, ProducerSettings
from kcluster.errors import UsageError
from kcluster.wire.compression import Compression

app = typer.Typer()


class Input(enum.StrEnum):
    LINES = "lines"
    JSONL = "jsonl"


class Acks(enum.StrEnum):
    ALL = "all"
    LEADER = "1"
    NONE = "0"


class Codec(enum.StrEnum):
    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


@app.command()
def produce(
    topic: Annotated[str, typer.Argument()],
    value: Annotated[
        str | None, typer.Argument(help="One record; without it, standard input.")
    ] = None,
    cluster: ClusterName = DEFAULT_CLUSTER,
    key: Annotated[
        str | None, typer.Option("-k", "--key", metavar="KEY", help="Of every record.")
    ] = None,
    key_delimiter: Annotated[
        str | None,
        typer.Option("-K", "--key-delimiter", metavar="TEXT", help="What divides key and value."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="NAME=VALUE", help="Repeat it.")
    ] = None,
    compression: Annotated[
        Codec, typer.Option("-z", "--compression", help="Of record batches.")
    ] = Codec.NONE,
    partition: Annotated[
        int | None,
        typer.Option("-p", "--partition", min=0, metavar="N", help="By key or in turn by default."),
    ] = None,
    acks: Annotated[Acks, typer.Option(help="Who has to have a record.")] = Acks.ALL,
    rate: Annotated[
        float | None, typer.Option(min=0.001, metavar="RATE", help="Records per second.")
    ] = None,
    input_format: Annotated[
        Input, typer.Option("-i", "--input", help="How standard input is read.")
    ] = Input.LINES,
    bootstrap: Bootstrap = None,
    quiet: Quiet = False,
) -> None:
    """Write records to a topic.

    \b
    kcluster produce orders hello -k greeting
    kcluster produce orders --rate 100 < lines.txt
    """
    if quiet:
        output.be_quiet()
    settings = ProducerSettings(
        acks={Acks.ALL: -1, Acks.LEADER: 1, Acks.NONE: 0}[acks],
        compression=Compression[compression.name],
        # Who types a line wants it there, not gathered.
        linger_ms=0 if value is not None or sys.stdin.isatty() else 5,
    )
    headers = _headers(header or [])
    lines = [value.encode()] if value is not None else _lines()
    incoming = _records(lines, input_format if value is None else Input.LINES, key_delimiter)
    at = where(cluster, bootstrap)
    count = _Count(topic, at)
    with records.reach(cluster, bootstrap) as transport:
        producer = Producer(transport, settings)
        due = time.monotonic()
        try:
            for record in incoming:
                producer.send(
                    topic,
                    record.value_bytes(),
                    record.key_bytes() if key is None else key.encode(),
                    [
                        *headers,
                        *(
                            (n, None if v is None else v.encode())
                            for n, v in record.headers.items()
                        ),
                    ],
                    partition=partition if record.partition is None else record.partition,
                    timestamp_ms=record.timestamp,
                )
                if rate is not None:
                    due += 1 / rate
                    while (left_ms := int((due - time.monotonic()) * 1000)) > 0:
                        count.take(producer.poll(left_ms))
                elif sys.stdin.isatty() and value is None:
                    producer.flush()
                count.take(producer.take())
        except KeyboardInterrupt:
            output.note("")
        is_done = producer.flush()
        count.take(producer.take())
        if not is_done:
            raise UsageError(
                "not everything was delivered",
                "the brokers did not answer in time",
                f"kcluster topic describe {topic}{at}",
            )
    count.report()


class _Count:
    """What became of the records; the first refusal ends the command."""

    def __init__(self, topic: str, at: str) -> None:
        self._topic = topic
        self._at = at
        self._count = 0
        self._last: Delivered | None = None

    def take(self, events: Iterable[Delivered | Failed]) -> None:
        for event in events:
            if isinstance(event, Failed):
                raise records.refusal(event.code, event.message, self._topic, self._at)
            self._count += event.count
            self._last = event

    def report(self) -> None:
        if self._count == 1 and self._last is not None and self._last.base_offset >= 0:
            output.tick(f"{self._last.tp} offset {self._last.base_offset}")
        else:
            plural = "" if self._count == 1 else "s"
            output.tick(f"{self._count:,} record{plural} to {self._topic}")


def _lines() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _records(
    lines: Iterable[bytes], input_format: Input, delimiter: str | None
) -> Iterator[records.JsonRecord]:
    decoder = msgspec.json.Decoder(records.JsonRecord)
    for number, line in enumerate(lines, 1):
        if input_format is Input.JSONL:
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as problem:
                raise UsageError(
                    f"line {number} is not a record: {problem}",
                    'a line is an object: {"key": "user-7", "value": "...", "headers": {}}',
                    "kcluster produce --help",
                    2,
                ) from None
            continue
        text = line.decode("utf-8", "surrogateescape")
        key, found, value = text.partition(delimiter) if delimiter else ("", "", text)
        yield _Line(value if not delimiter or found else text, key if found else None)


class _Line(records.JsonRecord):
    """A line as it is, whatever its bytes."""

    def key_bytes(self) -> bytes | None:
        return None if self.key is None else self.key.encode("utf-8", "surrogateescape")

    def value_bytes(self) -> bytes | None:
        return str(self.value).encode("utf-8", "surrogateescape")


def _headers(texts: list[str]) -> list[tuple[str, bytes | None]]:
    headers: list[tuple[str, bytes | None]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"-H {text!r} is not NAME=VALUE", "", "-H source=test", 2)
        headers.append((name, value.encode()))
    return headers
