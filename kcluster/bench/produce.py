"""How fast a cluster takes record batches: the same few bytes over plain sockets, again and again.

The generator must not be what is measured. So batches are built once, with a valid CRC, and
sent as they are; a frame is a ready head and a ready batch in one `sendmsg`; answers have a
fixed size and are compared, not decoded. One thread, one socket for each partition and
connection, `in_flight` requests in each: what was answered is what may be sent next.

    head | batch   head | batch   ...   --sendmsg-->   broker
                    ok ok ok            <-recv_into--

Not idempotent, so that a batch can be sent twice; Produce version 7, the last before flexible
lengths, which both old and new brokers speak.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kcluster.bench.connection import CLIENT_ID, SOCKET_BUFFER_BYTES, Address, address_text
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.wire.records import Record, build_batch

VERSION: Final = 7
TIMEOUT_MS: Final = 30_000
STUCK_S: Final = 40.0
"""A broker that answers nothing for so long has failed the benchmark."""

DISTINCT_BATCHES: Final = 4
"""Batches made in advance; sent in turn so that no cache sees one buffer only."""

ANSWERS_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Load:
    batch_bytes: int = 65_536
    """Size of a whole batch on the wire, as near below as whole records allow."""
    record_bytes: int = 1024
    """Size of a record's value."""
    acks: int = -1
    partitions: int = 1
    connections: int = 1
    """For each partition."""
    in_flight: int = 5
    """Requests not answered yet, in each connection."""
    round_s: float = 3.0
    round_bytes: int = 256 << 20
    """A round ends after `round_s` or so many bytes, whichever comes first."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round gave. Latencies in microseconds, from `sendmsg` to the answer."""

    seconds: float
    batches: int
    bytes: int
    records: int
    latency_p50_us: float
    latency_p99_us: float

    @property
    def mb_per_s(self) -> float:
        return self.bytes / self.seconds / 1e6

    @property
    def records_per_s(self) -> float:
        return self.records / self.seconds


def build(load: Load, seed: int = 0) -> tuple[list[bytearray], int]:
    """(batches to send in turn, records in each). Values are random: nothing compresses them."""
    chance = random.Random(seed)
    now_ms = int(time.time() * 1000)

    def batch(count: int) -> bytearray:
        values = (chance.randbytes(load.record_bytes) for _ in range(count))
        return build_batch([Record(value, timestamp=now_ms) for value in values])

    one, many = len(batch(1)), len(batch(17))
    each = (many - one) / 16
    count = max(1, int((load.batch_bytes - (one - each)) / each))
    while count > 1 and len(batch(count)) > load.batch_bytes:
        count -= 1
    return [batch(count) for _ in range(DISTINCT_BATCHES)], count


@dataclass(slots=True)
class _Lane:
    """One connection to the leader of one partition."""

    socket: socket.socket
    partition: int
    frames: list[tuple[bytes, bytearray]]
    """(head, batch) of each distinct request."""
    answer_bytes: int
    error_at: int
    """Position of the error code in an answer, behind its length prefix."""
    buffer: bytearray = field(default_factory=lambda: bytearray(ANSWERS_BYTES))
    held: int = 0
    """Bytes of an answer that has not come whole yet."""
    next_frame: int = 0
    sent_at: deque[float] = field(default_factory=deque)

    def send(self, count: int) -> None:
        parts: list[bytes | bytearray | memoryview] = []
        for _ in range(count):
            parts += self.frames[self.next_frame]
            self.next_frame = (self.next_frame + 1) % len(self.frames)
        now = time.perf_counter()
        self.sent_at.extend([now] * count)
        size = sum(map(len, parts))
        sent = self.socket.sendmsg(parts)
        while sent < size:
            size -= sent
            while sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            parts[0] = memoryview(parts[0])[sent:]
            sent = self.socket.sendmsg(parts)

    def receive(self, latencies: list[float]) -> int:
        """How many answers came. Raises ApiError when one is a refusal."""
        view = memoryview(self.buffer)
        got = self.socket.recv_into(view[self.held :])
        if got == 0:
            raise UsageError(
                "the broker closed the connection", f"partition {self.partition}", "kcluster logs"
            )
        end = self.held + got
        position = count = 0
        now = time.perf_counter()
        while end - position >= 4:
            size = int.from_bytes(self.buffer[position : position + 4], "big") + 4
            if end - position < size:
                break
            at = position + 4 + self.error_at
            code = int.from_bytes(self.buffer[at : at + 2], "big", signed=True)
            if code or size != self.answer_bytes:
                raise ApiError(
                    ErrorCode(code), f"partition {self.partition} refused: {ErrorCode(code).name}"
                )
            latencies.append(now - self.sent_at.popleft())
            position += size
            count += 1
        self.held = end - position
        self.buffer[: self.held] = self.buffer[position:end]
        return count


class Lanes:
    """All connections of one load to one topic."""

    def __init__(
        self, load: Load, topic: str, leaders: dict[int, Address], batches: list[bytearray]
    ) -> None:
        self.load = load
        self.batch_bytes = sum(map(len, batches)) / len(batches)
        self._lanes: dict[int, _Lane] = {}
        self._poll = select.poll()
        for partition in range(load.partitions):
            frames = [
                (produce_head(topic, partition, load.acks, len(batch)), batch) for batch in batches
            ]
            for _ in range(load.connections):
                lane = _Lane(
                    _connect(leaders[partition]),
                    partition,
                    frames,
                    4 + answer_size(topic),
                    error_position(topic),
                )
                self._lanes[lane.socket.fileno()] = lane
                self._poll.register(lane.socket, select.POLLIN)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.socket.close()

    def run(self, seconds: float, size: int, records_in_batch: int) -> Round:
        """Send for `seconds` or `size` bytes, wait for all answers, and say what it gave."""
        batches_left = max(1, int(size / self.batch_bytes))
        latencies: list[float] = []
        began = time.perf_counter()
        deadline = began + seconds
        batches = acked = 0
        for lane in self._lanes.values():
            first = min(self.load.in_flight, batches_left)
            if first and self.load.acks:
                lane.send(first)
            batches_left -= first
            batches += first
        if self.load.acks == 0:
            batches = self._pour(deadline, batches + batches_left)
            acked = batches
        open_requests = batches - acked
        while open_requests:
            ready = self._poll.poll(STUCK_S * 1000)
            if not ready:
                raise ApiError(ErrorCode.REQUEST_TIMED_OUT, f"no answer for {STUCK_S:g} s")
            is_over = time.perf_counter() >= deadline
            for descriptor, _ in ready:
                lane = self._lanes[descriptor]
                came = lane.receive(latencies)
                open_requests -= came
                more = 0 if is_over else min(came, batches_left)
                if more:
                    lane.send(more)
                    batches_left -= more
                    batches += more
                    open_requests += more
        seconds = time.perf_counter() - began
        latencies.sort()
        return Round(
            seconds,
            batches,
            int(batches * self.batch_bytes),
            batches * records_in_batch,
            _percentile(latencies, 0.50) * 1e6,
            _percentile(latencies, 0.99) * 1e6,
        )

    def _pour(self, deadline: float, batches: int) -> int:
        """acks=0 has no answers: as much as the sockets take."""
        sent = 0
        while sent < batches and time.perf_counter() < deadline:
            for lane in self._lanes.values():
                lane.send(1)
                lane.sent_at.clear()
                sent += 1
        return sent


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def _connect(address: Address) -> socket.socket:
    try:
        connection = socket.create_connection(address, 5)
    except OSError as error:
        raise UsageError(
            f"nothing answers at {address_text(address)}", str(error), "kcluster status", 3
        ) from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    connection.settimeout(STUCK_S)
    return connection


# --- the bytes of Produce version 7, one topic with one partition ---------------------------


def produce_head(topic: str, partition: int, acks: int, batch_bytes: int) -> bytes:
    """Everything in front of the batch, length prefix included. The correlation id is always
    0: answers come in the order of the requests."""
    client_id, name = CLIENT_ID.encode(), topic.encode()
    body = struct.pack(
        f">hhih{len(client_id)}shhiih{len(name)}siii",
        0,
        VERSION,
        0,
        len(client_id),
        client_id,
        -1,  # no transactional id
        acks,
        TIMEOUT_MS,
        1,
        len(name),
        name,
        1,
        partition,
        batch_bytes,
    )
    return struct.pack(">i", len(body) + batch_bytes) + body


def error_position(topic: str) -> int:
    """Correlation id, one topic, its name, one partition, its index: then the error."""
    return 4 + 4 + 2 + len(topic.encode()) + 4 + 4


def answer_size(topic: str) -> int:
    """Then base offset, append time, log start offset, and the throttle time."""
    return error_position(topic) + 2 + 8 + 8 + 8 + 4
