"""The metadata log's files: Kafka's segment files of record batches, read whole at the start.

    __cluster_metadata-0/<20 digits of base offset>.log      one batch for each decision

They differ from a user's partition in what damage means. A user's log is cut where its bytes
stop making sense, because a leader has the rest. Here nobody has: bytes may only be cut that were
never committed, so that a power cut (which loses unsynced pages in any order) and bit rot must
be told apart. Each batch therefore says, in a record header, up to where the log was committed
when it was appended. A bad batch followed by one that knows it to be committed is damage, and
the controller refuses to start (invariant 17; NATS #7556: damaged metadata must never
cause deletion). A bad batch otherwise is the torn tail and is cut.

No index: the log is read from a snapshot on, once. A new segment begins only while nothing is
uncommitted, so that only the last one can be torn.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec

from kcluster.core.metadata import records as r
from kcluster.core.turn import Files
from kcluster.errors import CorruptLogError, RemoteProtocolError
from kcluster.wire.records import (
    HEADER_BYTES,
    BatchHeader,
    Record,
    build_batch,
    check_crc,
    read_header,
    read_records,
)

SUFFIX = ".log"
COMMITTED = "committed"
"""The record header that says up to where the log was committed before the batch."""
_OFFSET = struct.Struct(">q")


def file_name(base_offset: int) -> str:
    return f"{base_offset:020d}{SUFFIX}"


def encode_batch(
    records: Sequence[r.Record],
    base_offset: int,
    leader_epoch: int,
    committed_offset: int,
    timestamp_ms: int,
) -> bytearray:
    values = [Record(value=r.encode(record), timestamp=timestamp_ms) for record in records]
    values[0].headers = ((COMMITTED, _OFFSET.pack(committed_offset)),)
    return build_batch(values, base_offset=base_offset, leader_epoch=leader_epoch)


def base_offsets(files: Files, directory: str) -> list[int]:
    """Of the segments there are, rising."""
    stems = [name.removesuffix(SUFFIX) for name in files.list(directory) if name.endswith(SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def read_segment(
    files: Files, path: str, base_offset: int, committed: int = 0, *, is_last: bool
) -> tuple[list[r.Record], int]:
    """(all its records, bytes that are good). Raises CorruptLogError when committed bytes are
    damaged: all of any but the last segment, what is below `committed`, and what a later batch
    says was."""
    data = files.read(path, 0, max(files.size(path), 0))
    records: list[r.Record] = []
    position = 0
    while position < len(data):
        batch = _batch_at(data, position)
        if batch is None or batch.base_offset != base_offset + len(records):
            bad_offset = base_offset + len(records)
            is_known = not is_last or bad_offset < committed
            if is_known or _is_committed(data, position, bad_offset):
                raise CorruptLogError(
                    f"{path}: the metadata log is damaged at offset {bad_offset} (byte "
                    f"{position}), in records that had been committed"
                )
            break
        records += _decode(path, data, position)
        if base_offset + len(records) != batch.last_offset + 1:
            raise CorruptLogError(f"{path}: a batch at byte {position} that we did not write")
        position += batch.size
    return records, position


def _decode(path: str, data: bytes, position: int) -> list[r.Record]:
    try:
        return [r.decode(record.value or b"") for record in read_records(data, position)]
    except (RemoteProtocolError, msgspec.DecodeError) as error:
        # Its checksum fits: somebody else's record, or a newer version's.
        raise CorruptLogError(f"{path}: a batch at byte {position}: {error}") from error


def _batch_at(data: bytes, position: int) -> BatchHeader | None:
    """The header of a whole batch with the CRC it claims."""
    if len(data) - position < HEADER_BYTES:
        return None
    header = read_header(data, position)
    if header.magic != 2 or not HEADER_BYTES <= header.size <= len(data) - position:
        return None
    return header if check_crc(data, position, header.size) else None


def _is_committed(data: bytes, position: int, offset: int) -> bool:
    """Whether a batch behind `position` says that `offset` had been committed before it, or is
    sound and cannot be read: then nobody knows what it would say."""
    for later in _batches_behind(data, position):
        try:
            first = read_records(data, later)[0]
        except RemoteProtocolError:
            return True
        for name, value in first.headers:
            if name == COMMITTED and value is not None and len(value) == _OFFSET.size:
                [committed] = _OFFSET.unpack(value)
                if committed > offset:
                    return True
    return False


def _batches_behind(data: bytes, position: int) -> Iterator[int]:
    """Positions of sound batches anywhere behind `position`. Looks at each byte that may be a
    batch's magic; the checksum decides."""
    magic = data.find(b"\x02", position + 17)
    while magic != -1:
        at = magic - 16
        batch = _batch_at(data, at)
        if batch is not None and batch.record_count > 0:
            yield at
            magic = data.find(b"\x02", at + batch.size + 16)
        else:
            magic = data.find(b"\x02", magic + 1)
