"""The codecs of record batches: every form that clients write, and bombs."""

from __future__ import annotations

import struct
import tracemalloc

import cramjam
import pytest

from kcluster.errors import RemoteProtocolError
from kcluster.wire.compression import (
    ALWAYS_ALLOWED_BYTES,
    MAX_BYTES,
    Compression,
    compress,
    decompress,
    limit_for,
)

CODECS = [codec for codec in Compression if codec != Compression.NONE]
TEXT = b"".join(b"record %d " % number for number in range(30_000))

every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name.lower())


@every_codec
@pytest.mark.parametrize("data", [b"", b"a", TEXT, TEXT[:65536], TEXT[:65537]])
def test_what_was_compressed_comes_back(codec: Compression, data: bytes) -> None:
    assert decompress(compress(data, codec), codec) == data
    assert decompress(memoryview(compress(memoryview(data), codec)), codec) == data


@every_codec
def test_what_does_not_compress_comes_back(codec: Compression) -> None:
    noise = bytes(hash((n, "noise")) & 0xFF for n in range(200_000))
    assert decompress(compress(noise, codec), codec) == noise


@every_codec
def test_a_bomb_is_refused_with_little_memory(codec: Compression) -> None:
    bomb = compress(bytes(64 << 20), codec)
    assert len(bomb) < 4 << 20
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="becomes more than"):
            decompress(bomb, codec, limit=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


@every_codec
def test_the_limit_itself_is_allowed(codec: Compression) -> None:
    data = compress(bytes(300_000), codec)
    assert len(decompress(data, codec, limit=300_000)) == 300_000
    with pytest.raises(RemoteProtocolError):
        decompress(data, codec, limit=299_999)


@every_codec
def test_damaged_input_is_refused(codec: Compression) -> None:
    data = compress(TEXT, codec)
    for bad in (data[:-3], data[: len(data) // 2], b"\xff" * 100, b"\x01"):
        with pytest.raises(RemoteProtocolError):
            decompress(bad, codec)


def test_raw_snappy_as_librdkafka_writes_it_is_read() -> None:
    raw = bytes(cramjam.snappy.compress_raw(TEXT))
    assert decompress(raw, Compression.SNAPPY) == TEXT


def test_snappy_is_written_in_the_framing_of_java() -> None:
    data = compress(TEXT[:40_000], Compression.SNAPPY)
    assert data[:16] == b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
    [first] = struct.unpack_from(">i", data, 16)
    assert cramjam.snappy.decompress_raw_len(data[20 : 20 + first]) == 32 << 10


@pytest.mark.parametrize("size", [-1, 1 << 30])
def test_a_snappy_block_of_an_impossible_size_is_refused(size: int) -> None:
    data = compress(b"x", Compression.SNAPPY)[:16] + struct.pack(">i", size) + bytes(10)
    with pytest.raises(RemoteProtocolError):
        decompress(data, Compression.SNAPPY)


def test_a_raw_snappy_block_that_claims_four_gigabytes_is_not_believed() -> None:
    with pytest.raises(RemoteProtocolError):
        decompress(b"\xff\xff\xff\xff\x0fabc", Compression.SNAPPY)


def test_lz4_blocks_do_not_depend_on_each_other() -> None:
    """Java refuses a frame whose blocks do."""
    data = compress(TEXT, Compression.LZ4)
    assert data[:4] == bytes.fromhex("04224d18")
    assert data[4] & 0x20
    assert bytes(cramjam.lz4.decompress(data)) == TEXT


def test_lz4_frames_with_other_settings_are_read() -> None:
    assert decompress(bytes(cramjam.lz4.compress(TEXT)), Compression.LZ4) == TEXT


def test_the_limit_grows_with_the_input_up_to_its_end() -> None:
    assert limit_for(0) == ALWAYS_ALLOWED_BYTES
    assert limit_for(20_000) == 22_000_000
    assert limit_for(100 << 20) == MAX_BYTES


def test_uncompressed_is_handed_through() -> None:
    assert decompress(TEXT, Compression.NONE, limit=len(TEXT)) == TEXT
    with pytest.raises(RemoteProtocolError):
        decompress(TEXT, Compression.NONE, limit=len(TEXT) - 1)
