"""The batches of one segment, damaged or not, and what their records say.

`checked_batches` walks as far as all is sound. Where it stops, what is there is shown as it is,
and the walk goes on behind it: with the next batch when only its place in the order is wrong, and
else with the next batch anywhere in the file that has the CRC that it claims.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from kcluster.client.verify_log import ReadOnlyFiles, base_offsets
from kcluster.core.log import damage
from kcluster.core.log.scan import checked_batches
from kcluster.core.log.segment import LOG
from kcluster.core.metadata import metadata_log, records, segments
from kcluster.errors import CorruptLogError, RemoteProtocolError
from kcluster.model import topic_id_text
from kcluster.wire import group_records
from kcluster.wire.compression import Compression
from kcluster.wire.records import (
    HEADER_BYTES,
    MAGIC,
    BatchHeader,
    Record,
    check_crc,
    read_header,
    read_records,
)

OFFSETS_TOPIC: Final = "__consumer_offsets"
CODECS: Final = {int(codec): codec.name.lower() for codec in Compression}
_OFFSET: Final = re.compile(r"^(\d{20})\.")


class Flaw(msgspec.Struct, frozen=True):
    """Here the file is not as it was written."""

    position: int
    """Byte where it begins."""
    damage: str


class Remark(msgspec.Struct, frozen=True):
    remark: str


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    position: int
    base_offset: int
    last_offset: int
    count: int
    leader_epoch: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    last_sequence: int
    codec: str
    is_transactional: bool
    is_control: bool
    is_log_append_time: bool
    base_timestamp: int
    max_timestamp: int
    size: int
    crc: int
    is_crc_ok: bool
    records: list[dict[str, Any]] | None = None
    """As `show_record` has them; None when they were not asked for or cannot be read."""


def file_offset(path: Path) -> int:
    """The offset that a file is named after; -1 for another name."""
    match = _OFFSET.match(path.name)
    return int(match[1]) if match else -1


def dump_log(path: Path, *, with_records: bool = False) -> Iterator[Batch | Flaw | Remark]:
    files, name = ReadOnlyFiles(path.parent), path.name
    size = max(files.size(name), 0)
    later = [base for base in base_offsets(files.list(""), LOG) if base > file_offset(path)]
    topic = path.absolute().parent.name.rpartition("-")[0]
    position, expected = 0, file_offset(path)
    if expected < 0:
        head = files.read(name, 0, HEADER_BYTES)
        expected = read_header(head).base_offset if len(head) == HEADER_BYTES else 0
    while position < size:
        try:
            span = position, size
            for position, header in checked_batches(files, name, span, expected):
                found = BatchHeader(*header)
                if with_records:
                    data = files.read(name, position, found.size)
                    yield from _batch_with_records(position, found, data, topic)
                else:
                    yield _batch(position, found, is_crc_ok=True)
                position, expected = position + found.size, found.last_offset + 1
            return
        except CorruptLogError as error:
            what = str(error).removeprefix(f"{name}: ")
        if not later and damage.is_torn(files, name, position, size, expected):
            yield Remark(
                f"{size - position} bytes from byte {position} on are torn: a write that a kill "
                f"cut short, or one that is under way"
            )
            return
        bad = _whole_batch(files, name, position, size)
        if bad is not None:
            data = files.read(name, position, bad.size)
            is_crc_ok = len(data) == bad.size and check_crc(data, 0, bad.size)
            if is_crc_ok and with_records:
                yield from _batch_with_records(position, bad, data, topic)
            else:
                yield _batch(position, bad, is_crc_ok=is_crc_ok)
            if is_crc_ok and bad.last_offset_delta >= 0:
                yield Flaw(position, what)
                position, expected = position + bad.size, bad.last_offset + 1
                continue
        following = damage.find_batch_behind(files, name, position, size, expected)
        if following < 0:
            yield Flaw(position, f"{what}; no sound batch lies behind it")
            return
        yield Flaw(position, f"{what}; the next sound batch is at {following}")
        position = following
        expected = read_header(files.read(name, position, HEADER_BYTES)).base_offset


def _whole_batch(files: ReadOnlyFiles, name: str, position: int, size: int) -> BatchHeader | None:
    """What says it is one, and ends within the file."""
    head = files.read(name, position, HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        return None
    header = read_header(head)
    is_whole = header.magic == MAGIC and HEADER_BYTES <= header.size <= size - position
    return header if is_whole else None


def _batch_with_records(
    position: int, header: BatchHeader, data: bytes, topic: str
) -> Iterator[Batch | Flaw]:
    try:
        found = read_records(data)
    except RemoteProtocolError as error:
        yield _batch(position, header, is_crc_ok=True)
        yield Flaw(position, f"its CRC fits, and its records cannot be read: {error}")
        return
    shown = [show_record(record, topic, is_control=header.is_control) for record in found]
    yield _batch(position, header, shown, is_crc_ok=True)


def _batch(
    position: int,
    header: BatchHeader,
    shown: list[dict[str, Any]] | None = None,
    *,
    is_crc_ok: bool,
) -> Batch:
    return Batch(
        position,
        header.base_offset,
        header.last_offset,
        header.record_count,
        header.leader_epoch,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.last_sequence,
        CODECS.get(header.compression, f"codec {header.compression}"),
        header.is_transactional,
        header.is_control,
        header.is_log_append_time,
        header.base_timestamp,
        header.max_timestamp,
        header.size,
        header.crc,
        is_crc_ok,
        shown,
    )


# --- records --------------------------------------------------------------------------------


def show_record(record: Record, topic: str, *, is_control: bool = False) -> dict[str, Any]:
    """Plain values: key and value as text, under `key_base64` and `value_base64` when they are
    none; those of the metadata log and of `__consumer_offsets` as what they mean."""
    shown: dict[str, Any] = {"offset": record.offset, "timestamp": record.timestamp}
    if topic == metadata_log.DIRECTORY.rpartition("-")[0]:
        return shown | _metadata(record)
    elif topic == OFFSETS_TOPIC and record.key is not None and not is_control:
        shown |= _group(record.key, record.value)
    else:
        shown |= _text("key", record.key) | _text("value", record.value)
    if record.headers:
        shown["headers"] = _headers(record.headers)
    return shown


def _metadata(record: Record) -> dict[str, Any]:
    try:
        found = records.decode(record.value or b"")
    except msgspec.DecodeError as error:
        return {**_text("value", record.value), "problem": str(error)}
    shown: dict[str, Any] = {"metadata": msgspec.to_builtins(found)}
    if isinstance(found, records.TopicCreated | records.TopicDeleted | records.PartitionChanged):
        shown["metadata"]["topic_id"] = topic_id_text(found.topic_id)
    for name, value in record.headers:
        if name == segments.COMMITTED and value is not None:
            shown["committed"] = int.from_bytes(value, "big")
    return shown


def _group(key: bytes, value: bytes | None) -> dict[str, Any]:
    try:
        found = group_records.decode_key(key)
        if found is not None:
            content = None if value is None else group_records.decode_value(found, value)
            return {"key": msgspec.to_builtins(found), "value": msgspec.to_builtins(content)}
    except CorruptLogError as error:
        return {**_text("key", key), **_text("value", value), "problem": str(error)}
    return _text("key", key) | _text("value", value)


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> list[dict[str, Any]]:
    return [{"name": name, **_text("value", value)} for name, value in headers]


def _text(name: str, content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
