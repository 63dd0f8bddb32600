"""What arrives from others: headers, messages, record batches, bus messages, group records.

A target takes any bytes and returns, or fails: an exception other than those that are documented
of what it calls is a crash, and so is an answer that contradicts another.
"""

from __future__ import annotations

import msgspec

from kcluster.config import LogConfig
from kcluster.core.groups import records as group_replay
from kcluster.core.log.validation import check_keys, validate
from kcluster.core.metadata import records as metadata_records
from kcluster.core.metadata.image import ClusterImage
from kcluster.errors import ApiError, CorruptLogError, RemoteProtocolError
from kcluster.wire import bus, consumer_protocol, control, group_records, record_walk
from kcluster.wire.apis import APIS
from kcluster.wire.compression import Compression, decompress, limit_for
from kcluster.wire.frame import parse_request_header, parse_response_header
from kcluster.wire.message import Message, decode_from, encode, valid_versions
from kcluster.wire.record_check import check_records
from kcluster.wire.records import (
    HEADER,
    Record,
    batches,
    build_batch,
    read_header,
    read_records,
)
from tests.core.log.bench import TP, WALL_MS
from tests.fuzz.inputs import Reader, mended

LONG = range(-(1 << 63), 1 << 63)


def request_header(data: bytes) -> None:
    try:
        header, position = parse_request_header(memoryview(data))
    except RemoteProtocolError:
        pass
    else:
        assert 8 < position <= len(data)
        assert header.api.serves(header.api_version) or header.api_key == 18
    reader = Reader(data)
    api = _ordered_apis()[reader.number() % len(APIS)]
    try:
        _, position = parse_response_header(reader.rest(), api, api and data[0])
    except RemoteProtocolError:
        return
    assert position <= len(data)


def _ordered_apis() -> list[int]:
    return sorted(APIS)


def messages(data: bytes) -> None:
    """API key, version, and which of request and response, from the input."""
    reader = Reader(data)
    api = APIS[_ordered_apis()[reader.number() % len(APIS)]]
    choice = reader.number()
    cls = api.response if choice & 0x80 else api.request
    low, high = valid_versions(cls)
    same_again(cls, low + (choice & 0x7F) % (high - low + 1), reader.rest())


def same_again(cls: type[Message], version: int, data: bytes) -> None:
    """What can be decoded can be encoded, and that decodes to the same."""
    try:
        message, end = decode_from(cls, data, version)
    except RemoteProtocolError:
        return
    assert end <= len(data)
    written = encode(message, version)
    again, end = decode_from(cls, written, version)
    assert end == len(written)
    # By their bytes: NaN is not the same as itself.
    assert encode(again, version) == written


def record_batch(data: bytes) -> None:
    """First number: bit 0 has the CRC mended."""
    reader = Reader(data)
    choice, batch = reader.number(), reader.rest()
    if choice & 1:
        batch = mended(batch)
    config = LogConfig()
    is_valid = False
    try:
        header = validate(memoryview(batch), config, WALL_MS)
        is_valid = True
        check_keys(memoryview(batch), header, TP)
    except ApiError:
        pass
    try:
        for position, found in batches(batch):
            assert position + found.size <= len(batch)
    except RemoteProtocolError:
        pass
    try:
        read_header(batch)
        records = read_records(batch)
    except RemoteProtocolError:
        records = None
    else:
        _read_again(batch, records)
    _walk(batch, records, is_valid)


def _read_again(batch: bytes, records: list[Record]) -> None:
    header = read_header(batch)
    assert len(records) == header.record_count
    assert all(record.timestamp in LONG for record in records), "no answer could carry it"
    try:
        check_records(batch)
    except RemoteProtocolError:
        return
    offsets = [record.offset - header.base_offset for record in records]
    assert offsets == list(range(len(records)))
    if records and header.base_offset >= 0:
        assert read_records(build_batch(records, base_offset=header.base_offset)) == records


def _walk(batch: bytes, records: list[Record] | None, is_valid: bool) -> None:
    """As compaction does, which sees only what was appended."""
    if not is_valid:
        return
    header = HEADER.unpack_from(batch)
    try:
        body = record_walk.body_of(header, batch)
        walked = record_walk.walk(header, body)
    except RemoteProtocolError:
        return
    assert len(walked) == header[12]
    for horizon_ms in (None, 0, WALL_MS):
        kept = walked[::2]
        shorter = record_walk.with_records(header, body, kept, horizon_ms)
        if records is not None:
            expected = [(record.offset, record.key, record.value) for record in records[::2]]
            found = read_records(shorter)
            assert [(r.offset, r.key, r.value) for r in found] == expected
            assert [r.timestamp for r in found] == [r.timestamp for r in records[::2]]


def compressed(data: bytes) -> None:
    reader = Reader(data)
    codec = Compression(reader.number() % 5)
    packed = reader.rest()
    for limit in (None, 1000):
        try:
            plain = decompress(packed, codec, limit)
        except RemoteProtocolError:
            continue
        assert len(plain) <= (limit_for(len(packed)) if limit is None else limit)


def bus_message(data: bytes) -> None:
    reader = Reader(data)
    choice, frame = reader.number() % 4, reader.rest()
    match choice:
        case 0 | 1:
            try:
                envelope = bus.decode(frame)
            except msgspec.DecodeError:
                return
            assert bus.decode(bus.encode(envelope)) == envelope
            bus.accepts(envelope, 1, 1, {1: 1})
        case 2:
            try:
                asked = msgspec.msgpack.decode(frame, type=control.Asked)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(asked), type=control.Asked)
        case 3:
            try:
                told = metadata_records.decode_all(frame)
            except msgspec.DecodeError:
                return
            replayed(told)


def replayed(told: list[metadata_records.Record]) -> None:
    """Whatever records there are, they replay, and the image's own records replay to it."""
    image = ClusterImage()
    for record in told:
        image.replay(record)
    short = image.records()
    again = ClusterImage()
    for record in metadata_records.decode_all(metadata_records.encode_all(short)):
        again.replay(record)
    assert again.records() == short


class _Shard:
    """What a replay of group records needs of a shard."""

    def __init__(self) -> None:
        self.groups: dict[str, object] = {}


def group_record(data: bytes) -> None:
    """Keys and values of `__consumer_offsets`, replayed into a shard."""
    reader = Reader(data)
    shard = _Shard()
    for offset in range(reader.number() % 8 + 1):
        key, value = reader.part(), reader.part()
        record = Record(value or None, key, offset=offset)
        try:
            group_replay.replay(shard, record)  # type: ignore[arg-type]
            decoded = group_records.decode_key(key)
        except CorruptLogError:
            continue
        if decoded is None:
            continue
        assert group_records.decode_key(group_records.encode_key(decoded)) == decoded
        if value:
            told = group_records.decode_value(decoded, value)
            written = group_records.encode_value(told)
            assert group_records.encode_value(group_records.decode_value(decoded, written)) == (
                written
            )


def consumer_metadata(data: bytes) -> None:
    try:
        wanted = consumer_protocol.decode_subscription(data)
    except RemoteProtocolError:
        pass
    else:
        again = consumer_protocol.decode_subscription(consumer_protocol.encode_subscription(wanted))
        assert (again.topics, again.generation) == (wanted.topics, wanted.generation)
        assert sorted(again.owned) == sorted(wanted.owned)
    try:
        assigned = consumer_protocol.decode_assignment(data)
    except RemoteProtocolError:
        return
    written = consumer_protocol.encode_assignment(assigned)
    assert consumer_protocol.decode_assignment(written) == sorted(assigned)
