"""What `produce` and `consume` have in common: reaching the cluster, places, formats, refusals."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from kcluster.cli.options import milliseconds
from kcluster.client.connect import by_name, over_tcp
from kcluster.client.driver import Transport
from kcluster.core.client.consumer import Consumed, From, Place
from kcluster.errors import ErrorCode, UsageError

EXIT_NO_TOPIC = 4


@contextlib.contextmanager
def reach(cluster: str, bootstrap: str | None) -> Iterator[Transport]:
    """A way to the brokers, by name or by address."""
    transport = by_name(cluster) if bootstrap is None else over_tcp(bootstrap)
    try:
        yield transport
    finally:
        transport.close()


def refusal(code: ErrorCode, message: str, topic: str, at: str) -> UsageError:
    """A broker's no, with the next step; `at`: what `kafka.where` says."""
    match code:
        case ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if "partitions 0 to" in message:
            return UsageError(
                message, code.name, f"kcluster topic describe {topic}{at}", EXIT_NO_TOPIC
            )
        case ErrorCode.UNKNOWN_TOPIC_OR_PARTITION | ErrorCode.LEADER_NOT_AVAILABLE:
            return UsageError(
                f"there is no topic {topic}",
                code.name,
                f"kcluster topic create {topic}{at}",
                EXIT_NO_TOPIC,
            )
        case ErrorCode.INVALID_TOPIC_EXCEPTION:
            return UsageError(
                f"{topic!r} cannot be the name of a topic",
                "names have letters, digits, '.', '_' and '-', at most 249",
                "",
                2,
            )
        case ErrorCode.MESSAGE_TOO_LARGE | ErrorCode.RECORD_LIST_TOO_LARGE:
            return UsageError(
                f"a record is larger than topic {topic} takes",
                code.name,
                f"kcluster topic alter {topic} -X max.message.bytes=...{at}",
            )
        case ErrorCode.OFFSET_OUT_OF_RANGE:
            return UsageError(message, code.name, f"kcluster consume {topic} --from start{at}")
        case ErrorCode.NOT_ENOUGH_REPLICAS | ErrorCode.REQUEST_TIMED_OUT:
            return UsageError(
                f"topic {topic} took no records in time",
                f"{code.name}: {message}",
                f"kcluster status{at}",
            )
    return UsageError(message, code.name, f"kcluster status{at}")


def place(text: str) -> From:
    """start, end, an offset, -100 (so many before the end), @time. UsageError otherwise."""
    if text in ("start", "earliest", "beginning"):
        return From(Place.START)
    if text in ("end", "latest"):
        return From(Place.END)
    if text.isdecimal():
        return From(Place.OFFSET, int(text))
    if text.startswith("-") and text[1:].isdecimal():
        return From(Place.LAST, int(text[1:]))
    if text.startswith("@"):
        return From(Place.TIME, _time_ms(text[1:]))
    raise _no_place(text)


def _time_ms(text: str) -> int:
    """Milliseconds since 1970, or a date, or `-5m` for so long ago."""
    if text.isdecimal():
        return int(text)
    if text.startswith("-"):
        return int(time.time() * 1000) - milliseconds(text[1:])
    try:
        # Without a zone a date is meant in the time of whoever types it.
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise _no_place(f"@{text}") from None


def _no_place(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is no place to read from",
        "it is start, end, an offset, -100 (before the end), @2026-01-31T12:00 or @-5m",
        "kcluster consume TOPIC --from start",
        2,
    )


# --- formats --------------------------------------------------------------------------------


class JsonRecord(msgspec.Struct):
    """One line of `-i jsonl`. `value_base64` and `key_base64` are for what is no text."""

    value: Any = None
    key: str | None = None
    headers: dict[str, str | None] = {}
    partition: int | None = None
    timestamp: int | None = None
    value_base64: str | None = None
    key_base64: str | None = None

    def key_bytes(self) -> bytes | None:
        if self.key_base64 is not None:
            return base64.b64decode(self.key_base64)
        return None if self.key is None else self.key.encode()

    def value_bytes(self) -> bytes | None:
        """Text as it is; anything else is written as JSON."""
        if self.value_base64 is not None:
            return base64.b64decode(self.value_base64)
        if self.value is None or isinstance(self.value, str):
            return None if self.value is None else self.value.encode()
        return msgspec.json.encode(self.value)


def json_line(consumed: Consumed) -> bytes:
    record = consumed.record
    line: dict[str, Any] = {
        "topic": consumed.tp.topic,
        "partition": consumed.tp.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_text("key", record.key),
        **_text("value", record.value),
    }
    if record.headers:
        line["headers"] = {
            name: None if value is None else value.decode("utf-8", "replace")
            for name, value in record.headers
        }
    return msgspec.json.encode(line) + b"\n"


def _text(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}


def formatted(template: str, consumed: Consumed) -> bytes:
    """kcat's letters: %t topic, %p partition, %o offset, %k key, %s value, %T time in ms,
    %h headers, %K and %S their sizes, %% itself; and the escapes \\n \\t \\r \\0."""
    record = consumed.record
    out = bytearray()
    letters = iter(template)
    for letter in letters:
        if letter == "\\":
            following = next(letters, "\\")
            out += _ESCAPES.get(following, b"\\" + following.encode())
        elif letter == "%":
            out += _field(next(letters, "%"), consumed, record)
        else:
            out += letter.encode()
    return bytes(out)


def _field(letter: str, consumed: Consumed, record: Any) -> bytes:
    match letter:
        case "t":
            return consumed.tp.topic.encode()
        case "p":
            return b"%d" % consumed.tp.partition
        case "o":
            return b"%d" % record.offset
        case "k":
            return record.key or b""
        case "s":
            return record.value or b""
        case "T":
            return b"%d" % record.timestamp
        case "K":
            return b"%d" % (-1 if record.key is None else len(record.key))
        case "S":
            return b"%d" % (-1 if record.value is None else len(record.value))
        case "h":
            return b",".join(b"%s=%s" % (n.encode(), v or b"") for n, v in record.headers)
        case "%":
            return b"%"
    raise UsageError(
        f"%{letter} means nothing in a format",
        "it has %t %p %o %k %s %T %h %K %S %%",
        "kcluster consume TOPIC -f '%p %o %k %s\\n'",
        2,
    )
