"""The image at one offset as a file: records, with a checksum.

    <20 digits of next_offset>.checkpoint
      magic (20 bytes) | next_offset, CRC-32C of the payload, size of the payload | payload

The payload is what `Registered` carries: the records of `ClusterImage.records()`. A file that is
not whole is not used (the one before it and the log behind that are), and never deleted
for it.
"""

from __future__ import annotations

import struct

import msgspec
from fastcrc import crc32

from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.errors import CorruptLogError

SUFFIX = ".checkpoint"
_MAGIC = b"kcluster snapshot 1\n"
_HEAD = struct.Struct(">QIQ")
_START = len(_MAGIC) + _HEAD.size


def file_name(next_offset: int) -> str:
    return f"{next_offset:020d}{SUFFIX}"


def encode_snapshot(image: ClusterImage) -> bytes:
    payload = r.encode_all(image.records())
    return _MAGIC + _HEAD.pack(image.next_offset, crc32.iscsi(payload), len(payload)) + payload


def decode_snapshot(data: bytes) -> ClusterImage:
    """Raises CorruptLogError when it is not whole; that the offset is right only its file's name
    can tell."""
    if len(data) < _START or not data.startswith(_MAGIC):
        raise CorruptLogError("it does not begin like a snapshot")
    next_offset, crc, size = _HEAD.unpack_from(data, len(_MAGIC))
    payload = data[_START:]
    if len(payload) != size or crc32.iscsi(payload) != crc:
        raise CorruptLogError("its checksum does not fit")
    image = ClusterImage()
    try:
        for record in r.decode_all(payload):
            image.replay(record)
    except msgspec.DecodeError as error:
        raise CorruptLogError(f"records that cannot be read: {error}") from error
    image.next_offset = next_offset
    return image
