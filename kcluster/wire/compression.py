"""The five codecs of record batches, with bounds on what a batch may unfold to.

Decompressing trusts nothing that the input says about its size. The output buffer starts small
and grows fourfold, up to a limit that grows with the input (`limit_for`), and only then the input
is refused; so all the buffers that were too small are a third of the last one.

Snappy comes in two forms and we read both: raw blocks (librdkafka), and the framing of the
Xerial library (Java): a header of 16 bytes, then INT32-length raw blocks. We write the latter,
in blocks of 32 KiB as Java does. LZ4 is the standard frame format; Java's reader refuses blocks
that depend on each other, which cramjam's own frames have, so we write the frame ourselves.

cramjam is imported when first needed: a broker that never looks into a compressed batch does
not pay for it.

Sources: KIP-98 (attributes of a batch), KIP-57 (LZ4 frames), KIP-110 (zstd); the LZ4 frame format
description; the format notes of snappy-java.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Final

from kcluster.errors import RemoteProtocolError

MAX_RATIO: Final = 1100
"""Just above what gzip can do (1029 : 1)."""

ALWAYS_ALLOWED_BYTES: Final = 8 << 20
"""Zstd packs an honest megabyte of equal bytes into a hundred: below this no ratio counts."""

MAX_BYTES: Final = 128 << 20

_FIRST_BYTES: Final = 64 << 10

_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
"""Magic, version, lowest compatible version."""
_XERIAL_BLOCK_BYTES: Final = 32 << 10

_LZ4_HEADER: Final = bytes.fromhex("04224d18 60 40 82")
"""Magic, version 1 with independent blocks and no checksums, blocks of 64 KiB, and the checksum
of the two bytes before it."""
_LZ4_BLOCK_BYTES: Final = 64 << 10
_LZ4_UNCOMPRESSED: Final = 1 << 31
_LZ4_END: Final = bytes(4)


class Compression(enum.IntEnum):
    """As in the lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def limit_for(size: int) -> int:
    """The most bytes that `size` compressed bytes may become."""
    return min(MAX_BYTES, max(ALWAYS_ALLOWED_BYTES, size * MAX_RATIO))


def compress(data: bytes | bytearray | memoryview, compression: Compression) -> bytes:
    if compression == Compression.NONE:
        return bytes(data)
    import cramjam  # noqa: PLC0415

    match compression:
        case Compression.GZIP:
            return bytes(cramjam.gzip.compress(data))
        case Compression.SNAPPY:
            return _compress_xerial(memoryview(data), cramjam)
        case Compression.LZ4:
            return _compress_lz4(memoryview(data), cramjam)
        case _:
            return bytes(cramjam.zstd.compress(data, level=3))


def decompress(
    data: bytes | bytearray | memoryview, compression: Compression, limit: int | None = None
) -> memoryview:
    """All of it; RemoteProtocolError when it is damaged or becomes more than `limit` bytes
    (`limit_for` by default)."""
    view = memoryview(data)
    if limit is None:
        limit = limit_for(len(view))
    if compression == Compression.NONE:
        if len(view) > limit:
            raise _too_large(limit)
        return view
    import cramjam  # noqa: PLC0415

    match compression:
        case Compression.GZIP:
            return _decompress_growing(cramjam.gzip, cramjam, view, limit)
        case Compression.SNAPPY:
            return _decompress_snappy(view, cramjam, limit)
        case Compression.LZ4:
            return _decompress_growing(cramjam.lz4, cramjam, view, limit)
        case _:
            return _decompress_growing(cramjam.zstd, cramjam, view, limit)


def _too_large(limit: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"a compressed batch becomes more than {limit} bytes")


def _decompress_growing(codec: Any, cramjam: Any, view: memoryview, limit: int) -> memoryview:
    """Into a buffer that grows fourfold while it is too small.

    cramjam says only in words that the output was too small; every other failure is damage.
    """
    room = min(limit, max(_FIRST_BYTES, 4 * len(view)))
    output = bytearray()
    while True:
        output = bytearray()  # the smaller one goes before the larger comes
        output = bytearray(room)
        try:
            written = codec.decompress_into(view, output)
        except (cramjam.DecompressionError, OSError, ValueError) as error:
            if "write whole buffer" not in str(error):
                raise RemoteProtocolError(f"a compressed batch is damaged: {error}") from None
        else:
            return memoryview(output)[:written]
        if room >= limit:
            raise _too_large(limit)
        room = min(limit, room * 4)


def _compress_xerial(view: memoryview, cramjam: Any) -> bytes:
    parts = [_XERIAL_HEADER]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (struct.pack(">i", len(block)), block)
    return b"".join(parts)


def _compress_lz4(view: memoryview, cramjam: Any) -> bytes:
    parts = [_LZ4_HEADER]
    for start in range(0, len(view), _LZ4_BLOCK_BYTES):
        plain = view[start : start + _LZ4_BLOCK_BYTES]
        block = bytes(cramjam.lz4.compress_block(plain, store_size=False))
        if len(block) < len(plain):
            parts += (struct.pack("<I", len(block)), block)
        else:
            parts += (struct.pack("<I", len(plain) | _LZ4_UNCOMPRESSED), bytes(plain))
    parts.append(_LZ4_END)
    return b"".join(parts)


def _decompress_snappy(view: memoryview, cramjam: Any, limit: int) -> memoryview:
    if bytes(view[:8]) != _XERIAL_MAGIC:
        return memoryview(_decompress_block(view, cramjam, limit))
    output = bytearray()
    position = len(_XERIAL_HEADER)
    while position < len(view):
        if len(view) - position < 4:
            raise RemoteProtocolError("a snappy frame is cut short")
        [size] = struct.unpack_from(">i", view, position)
        position += 4
        if not 0 <= size <= len(view) - position:
            raise RemoteProtocolError(f"a snappy block of {size} bytes")
        output += _decompress_block(view[position : position + size], cramjam, limit - len(output))
        position += size
    return memoryview(output)


def _decompress_block(block: memoryview, cramjam: Any, limit: int) -> bytearray:
    """A raw snappy block: its first bytes say its size, which is checked before it is believed."""
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > limit:
            raise _too_large(limit)
        output = bytearray(size)
        written = cramjam.snappy.decompress_raw_into(block, output)
    except (cramjam.DecompressionError, OSError, ValueError) as error:
        raise RemoteProtocolError(f"a compressed batch is damaged: {error}") from None
    if written != size:
        raise RemoteProtocolError("a snappy block is cut short")
    return output
