"""Hostile bytes for any Kafka broker's TCP port, each input with what may come back.

    INPUTS["name"].run(target) -> Counter of what came back

An answer is "closed" (by the broker, at once), "open" (nothing came within the patience of the
input, and the connection still stands), "refused" (no connection), the name of an error code, or
"answered" where a response has none. `expects` is what kcluster may answer; what another broker
answers is only reported.

Connections that an input leaves open are the target's, so that they weigh on the broker as long as
the caller wants; `Target.let_go` closes them.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kcluster.errors import ErrorCode
from kcluster.wire import varint
from kcluster.wire.apis import APIS
from kcluster.wire.frame import parse_response_header, request_frame
from kcluster.wire.message import Message, decode
from kcluster.wire.messages.api_versions import ApiVersionsRequest
from kcluster.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from kcluster.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
)
from kcluster.wire.messages.metadata import MetadataRequest
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)

PATIENCE_S: Final = 5.0
ALL: Final = -1
INT_MAX: Final = 2**31 - 1
HALF_OPEN_BYTES: Final = 90_000_000
SEED: Final = 7

Answers = Counter[str]


@dataclass
class Target:
    """One broker, with topics of one partition that it leads."""

    address: tuple[str, int]
    topic: str
    compacted: str
    connections: int = 300
    """For the inputs that open many."""
    slow_connections: int = 300
    held: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        sock = socket.create_connection(self.address, PATIENCE_S)
        sock.settimeout(PATIENCE_S)
        return sock

    def hold(self) -> socket.socket:
        sock = self.connect()
        self.held.append(sock)
        return sock

    def let_go(self) -> None:
        for sock in self.held:
            sock.close()
        self.held.clear()


@dataclass(frozen=True)
class Input:
    run: Callable[[Target], Answers]
    expects: frozenset[str]
    is_lasting: bool
    """Its connections are to be held while the other client is measured."""


INPUTS: dict[str, Input] = {}


def hostile(
    name: str, *expects: str, is_lasting: bool = False
) -> Callable[[Callable[[Target], Answers]], Callable[[Target], Answers]]:
    def register(run: Callable[[Target], Answers]) -> Callable[[Target], Answers]:
        INPUTS[name] = Input(run, frozenset(expects), is_lasting)
        return run

    return register


# --- asking ---------------------------------------------------------------------------------


def sized(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


def outcome(sock: socket.socket, patience_s: float = PATIENCE_S) -> str:
    """What the broker does with what was sent: "closed", "answered" or "open"."""
    sock.settimeout(patience_s)
    try:
        return "answered" if sock.recv(1) else "closed"
    except TimeoutError:
        return "open"
    except OSError:
        return "closed"


def throw(target: Target, data: bytes, patience_s: float = PATIENCE_S) -> str:
    """A connection for these bytes alone."""
    with target.connect() as sock:
        try:
            sock.sendall(data)
        except OSError:
            return "closed"
        return outcome(sock, patience_s)


def throw_all(target: Target, inputs: Iterable[bytes], patience_s: float = PATIENCE_S) -> Answers:
    return Counter(throw(target, data, patience_s) for data in inputs)


def framed(request: Message, version: int) -> bytes:
    return b"".join(request_frame(request, version, 1, "hostile"))


def read_frame(sock: socket.socket) -> bytes:
    """A response without its length; empty when the connection ends instead."""
    data = bytearray()
    size = 4
    while len(data) < size:
        try:
            chunk = sock.recv(min(size - len(data), 1 << 20))
        except OSError:
            return b""
        if not chunk:
            return b""
        data += chunk
        if size == 4 and len(data) == 4:
            size += int.from_bytes(data, "big")
    return bytes(data[4:])


def produce(target: Target, batch: bytes | bytearray, topic: str = "") -> str:
    """The name of the error code that a batch is answered with."""
    request = ProduceRequest(
        acks=ALL,
        timeout_ms=5000,
        topic_data=[
            TopicProduceData(
                name=topic or target.topic,
                partition_data=[PartitionProduceData(index=0, records=bytes(batch))],
            )
        ],
    )
    with target.connect() as sock:
        sock.settimeout(60)
        try:
            sock.sendall(framed(request, 9))
        except OSError:
            return "closed"
        frame = read_frame(sock)
        if not frame:
            return "closed"
        _, position = parse_response_header(frame, 0, 9)
        response = decode(ProduceResponse, frame, 9, position)
        return ErrorCode(response.responses[0].partition_responses[0].error_code).name


def answer_code(target: Target, request: Message, version: int, patience_s: float = 60) -> str:
    """The first error code that is found in the answer to `request`; "answered" for none."""
    with target.connect() as sock:
        sock.sendall(framed(request, version))
        sock.settimeout(patience_s)
        frame = read_frame(sock)
        if not frame:
            return "closed"
        api = APIS[request.KEY]
        _, position = parse_response_header(frame, api.key, version)
        return _first_code(decode(api.response, frame, version, position)) or "answered"


def _first_code(value: object) -> str:
    if isinstance(value, list):
        return next((code for part in value if (code := _first_code(part))), "")
    names = getattr(value, "__struct_fields__", ())
    if code := getattr(value, "error_code", 0):
        return ErrorCode(code).name
    return next((code for name in names if (code := _first_code(getattr(value, name)))), "")


# --- frames -----------------------------------------------------------------------------------


@hostile("length prefixes of 2 GB, negative, zero, 1 above the bound", "closed")
def lengths(target: Target) -> Answers:
    prefixes = (INT_MAX, -1, -(2**31), 0, 104_857_601)
    return throw_all(target, (struct.pack(">i", length) + bytes(8) for length in prefixes))


@hostile("8 MiB and a byte announced, and no Produce", "closed")
def too_long_for_its_api(target: Target) -> Answers:
    keys = [key for key in APIS if key]
    return throw_all(target, (struct.pack(">ihh", (8 << 20) + 1, key, 0) for key in keys))


@hostile("random bytes", "closed", "open")
def garbage(target: Target) -> Answers:
    """A length that happens to be possible leaves the broker waiting for the rest."""
    source = random.Random(SEED)
    return throw_all(target, (source.randbytes(1000) for _ in range(200)), 0.05)


@hostile("random bytes in a frame", "closed", "answered")
def framed_garbage(target: Target) -> Answers:
    source = random.Random(SEED)
    return throw_all(target, (sized(source.randbytes(200)) for _ in range(200)))


@hostile("TLS ClientHello", "closed")
def tls(target: Target) -> Answers:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    wrapped = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        wrapped.do_handshake()
    return Counter([throw(target, outgoing.read())])


@hostile("HTTP", "closed")
def http(target: Target) -> Answers:
    requests = [f"{verb} / HTTP/1.1\r\nHost: x\r\n\r\n" for verb in ("GET", "POST", "OPTIONS")]
    return throw_all(target, (text.encode() for text in requests))


@hostile("unknown APIs, versions not served", "closed")
def unknown(target: Target) -> Answers:
    heads = [(key, 0) for key in (-1, 4, 7, 17, 99, 32767)]
    heads += [(key, 99) for key in APIS if key != ApiVersionsRequest.KEY]
    heads += [(key, -1) for key in APIS]
    frames = (sized(struct.pack(">hhih", *head, 1, -1) + bytes(20)) for head in heads)
    return throw_all(target, frames)


@hostile("ApiVersions in a version to come", "UNSUPPORTED_VERSION")
def api_versions_to_come(target: Target) -> Answers:
    with target.connect() as sock:
        sock.sendall(sized(struct.pack(">hhih", 18, 99, 7, -1) + bytes(20)))
        frame = read_frame(sock)
    assert struct.unpack_from(">i", frame) == (7,)
    return Counter([ErrorCode(struct.unpack_from(">h", frame, 4)[0]).name])


@hostile("requests cut short at every byte", "closed", "answered")
def truncated(target: Target) -> Answers:
    """Whole frames around bodies that end too early, and so do not hold what they say."""
    fetch = fetch_request(target, max_wait_ms=0)
    frames = [framed(MetadataRequest(topics=None), 12), framed(fetch, 12), framed(fetch, 4)]
    cuts = [sized(frame[4:end]) for frame in frames for end in range(6, len(frame))]
    return throw_all(target, cuts)


@hostile("frames that end in the middle, left by their client", "open")
def abandoned(target: Target) -> Answers:
    frame = framed(MetadataRequest(topics=None), 12)
    return throw_all(target, (frame[:end] for end in range(1, len(frame))), 0.01)


@hostile("counts of 2^31: arrays, strings, compact forms", "closed")
def counts(target: Target) -> Answers:
    plain = struct.pack(">hhih", 3, 1, 1, -1)
    compact = struct.pack(">hhih", 3, 9, 1, -1) + b"\0"
    bodies = [
        plain + struct.pack(">i", INT_MAX),
        plain + struct.pack(">i", -(2**31)),
        plain + struct.pack(">ih", 1, 32767),
        plain + struct.pack(">ih", 1, -32768),
        compact + b"\xff\xff\xff\xff\x0f",
        compact + b"\x02\xff\xff\xff\xff\x0f",
        compact + b"\x80\x80\x80\x80\x08" + bytes(100),
        # A Produce whose records say to have 2^31 bytes.
        struct.pack(">hhih", 0, 3, 1, -1)
        + struct.pack(">hhii", -1, -1, 1000, 1)
        + struct.pack(">h1sii", 1, b"t", 1, 0)
        + struct.pack(">i", INT_MAX),
        # JoinGroup's protocols, ElectLeaders' partitions.
        struct.pack(">hhih", 11, 0, 1, -1)
        + struct.pack(">h1sih1sh1si", 1, b"g", 10_000, 1, b"m", 1, b"c", INT_MAX),
        struct.pack(">hhih", 43, 0, 1, -1) + struct.pack(">ih1si", 1, 1, b"t", INT_MAX),
    ]
    return throw_all(target, map(sized, bodies))


@hostile("10 000 tagged fields in a header", "closed")
def tagged_header(target: Target) -> Answers:
    fields = b"".join(varint.unsigned(tag) + b"\0" for tag in range(10_000))
    frame = struct.pack(">hhih", 18, 3, 1, -1) + varint.unsigned(10_000) + fields
    return Counter([throw(target, sized(frame + b"\x01\x01\x00"))])


@hostile("a million tagged fields in a body", "closed")
def tagged_body(target: Target) -> Answers:
    head = struct.pack(">hhih", 18, 3, 1, -1) + b"\0\x02a\x02a"
    return Counter([throw(target, sized(head + varint.unsigned(10**6) + bytes(2 * 10**6)))])


@hostile("varints without an end", "closed")
def endless_varints(target: Target) -> Answers:
    endless = b"\xff" * 1000
    return throw_all(
        target,
        (
            sized(struct.pack(">hhih", 18, 3, 1, -1) + b"\x01" + endless),
            sized(struct.pack(">hhih", 18, 3, 1, -1) + b"\x00" + endless),
            sized(struct.pack(">hhih", 3, 12, 1, -1) + b"\x00" + endless),
        ),
    )


# --- connections --------------------------------------------------------------------------------


def half_open(target: Target, have: int) -> Answers:
    """Frames announced to be of 90 MB of which `have` bytes come, and then nothing."""
    head = struct.pack(">ihhih", HALF_OPEN_BYTES, 0, 9, 1, -1)
    rest = bytes(have - len(head))
    answers: Answers = Counter()
    for _ in range(target.connections):
        try:
            sock = target.hold()
            # A broker that has enough of them may stop reading: that is no reason to hang here.
            sock.settimeout(0.2)
            sock.sendall(head + rest)
        except TimeoutError:
            answers["not read"] += 1
        except OSError:
            answers["closed"] += 1
    return answers


def states(target: Target) -> Answers:
    """What has become of the connections that are held: "closed" or "open"."""
    answers: Answers = Counter()
    for sock in target.held:
        sock.setblocking(False)
        try:
            while chunk := sock.recv(1 << 16):
                pass
            assert not chunk
            answers["closed"] += 1
        except BlockingIOError:
            answers["open"] += 1
        except OSError:
            answers["closed"] += 1
    return answers


@hostile("half-open frames of 90 MB, 100 bytes sent", is_lasting=True)
def half_open_small(target: Target) -> Answers:
    return half_open(target, 100)


@hostile("half-open frames of 90 MB, 1 MiB sent", "closed", "not read", is_lasting=True)
def half_open_large(target: Target) -> Answers:
    return half_open(target, 1 << 20)


@hostile("slow connections, a byte at a time", is_lasting=True)
def slow(target: Target) -> Answers:
    """As many as are wanted; the length and a byte, `trickle` sends the others."""
    answers: Answers = Counter()
    for _ in range(target.slow_connections):
        try:
            target.hold().sendall(struct.pack(">ib", 1000, 0))
        except OSError:
            answers["refused"] += 1
    return answers


def trickle(target: Target) -> None:
    """One more byte on each connection that still stands."""
    for sock in target.held:
        with contextlib.suppress(OSError):
            sock.send(b"\0")


def fetch_request(
    target: Target, *, max_wait_ms: int = 500, min_bytes: int = 0, repeat: int = 1
) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=50 << 20)
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=50 << 20,
        topics=[FetchTopic(topic=target.topic, partitions=[wanted] * repeat)],
    )


@hostile("readers that never read, Fetch of all there is", is_lasting=True)
def never_reads_fetch(target: Target) -> Answers:
    frame = framed(fetch_request(target), 12)
    for _ in range(50):
        target.hold().sendall(frame * 8)
    return Counter()


@hostile("readers that never read, descriptions of configs", is_lasting=True)
def never_reads_configs(target: Target) -> Answers:
    """Answers that lie in memory and not in files."""
    frame = framed(describe_configs(target, 200), 4)
    for _ in range(30):
        with contextlib.suppress(OSError):
            target.hold().sendall(frame * 8)
    return Counter()


def describe_configs(target: Target, repeat: int) -> DescribeConfigsRequest:
    one = DescribeConfigsResource(resource_type=2, resource_name=target.topic)
    return DescribeConfigsRequest(
        resources=[one] * repeat, include_synonyms=True, include_documentation=True
    )


@hostile("1000 requests pipelined", "in order")
def pipelined(target: Target) -> Answers:
    frames = b"".join(
        b"".join(request_frame(MetadataRequest(topics=[]), 9, number, "hostile"))
        for number in range(1000)
    )
    with target.connect() as sock:
        sock.sendall(frames)
        for number in range(1000):
            if struct.unpack_from(">i", read_frame(sock).ljust(4, b"\xff")) != (number,):
                return Counter(["out of order"])
    return Counter(["in order"])


@hostile("requests of 8 MiB that wait for ever", is_lasting=True)
def waits_for_ever(target: Target) -> Answers:
    """Long polls for what never comes, padded with bytes that mean nothing."""
    request = fetch_request(target, max_wait_ms=INT_MAX, min_bytes=INT_MAX)
    content = framed(request, 12)[4:]
    frame = sized(content + bytes((8 << 20) - len(content)))
    answers: Answers = Counter()
    for _ in range(40):
        sock = target.hold()
        sock.settimeout(0.5)
        try:
            sock.sendall(frame)
        except TimeoutError:
            answers["not read"] += 1
        except OSError:
            answers["closed"] += 1
    return answers
