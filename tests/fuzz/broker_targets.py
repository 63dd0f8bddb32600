"""Any request against a broker that leads a partition and coordinates a group."""

from __future__ import annotations

from kcluster.core.turn import Request
from kcluster.wire.apis import APIS
from kcluster.wire.frame import SIZE
from tests.core.broker.stage import Stage
from tests.fuzz.inputs import Reader, mended

REQUESTS_MAX = 4


def requests(data: bytes) -> None:
    """First number: a broker of which kind. Then, for each request: which API, which version, a
    part that is its body; records in a body of a Produce have their CRCs mended."""
    reader = Reader(data)
    stage = Stage()
    stage.create([1], **({"cleanup_policy": "compact"} if reader.number() & 1 else {}))
    broker = stage[1]
    broker.replies.clear()
    keys = sorted(APIS)
    for correlation in range(REQUESTS_MAX):
        api = APIS[keys[reader.number() % len(keys)]]
        version = reader.number()
        low, high = api.versions
        version = low + version % (high - low + 1)
        body = reader.part()
        head = api.key.to_bytes(2, "big") + version.to_bytes(2, "big")
        head += correlation.to_bytes(4, "big") + b"\0\1c" + b"\0" * api.is_flexible(version)
        broker.run(Request(1, memoryview(bytearray(head + _mended_within(body)))))
        if 1 in broker.closed:
            break
    stage.wait(70_000)
    for reply in broker.replies:
        for part in reply.parts:
            [size] = SIZE.unpack_from(part)
            assert size == len(part) - SIZE.size


def _mended_within(body: bytes) -> bytes:
    """Batches begin at a zero base offset, which is what a producer sends."""
    at = body.find(bytes(8))
    while at != -1:
        if body[at + 16 : at + 17] == b"\2":
            return body[:at] + mended(body[at:])
        at = body.find(bytes(8), at + 1)
    return body
