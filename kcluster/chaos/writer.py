"""One producer of a load: sends at its rate, and books what became of each send.

The client delivers a partition's batches in the order in which they were sent, so that an event
(partition, count) is about the oldest sends of that partition: of what is under way only
(moment, count) is kept, and its sequence follows from how many were booked before.

Whatever happens to the cluster it goes on. Where its client breaks, everything under way is
unknown, and a new client takes over; where too much is under way it waits, and what it did not
send by then is not sent later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

import zmq

from kcluster.chaos.client_thread import ClientThread
from kcluster.chaos.ledger import FAIL, INFO, OK, Meter, Stream
from kcluster.chaos.reach import Reach
from kcluster.chaos.workload import Workload
from kcluster.client.producer import Producer
from kcluster.core.client.producer import Delivered, Failed, ProducerSettings
from kcluster.errors import ErrorCode, KclusterError

UNDER_WAY_MAX: Final = 50_000
"""Records of one producer."""

UNDER_WAY_BYTES: Final = 16 << 20
"""Of their values: less than the client's buffer, whose end would hold the writer up."""

BURST: Final = 500
"""Sends between two looks at the answers."""

TICK_MS: Final = 5

AGAIN_S: Final = 0.1

REFUSED: Final = frozenset(
    {
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.INVALID_REQUIRED_ACKS,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.POLICY_VIOLATION,
    }
)
"""Refusals that depend on the record alone: each attempt before it was refused as well."""

BROKEN: Final = (KclusterError, OSError, zmq.ZMQError)
"""What a client may end with while its cluster is broken."""


class Writer(ClientThread):
    def __init__(
        self,
        number: int,
        reach: Reach,
        workload: Workload,
        streams: list[Stream],
        meter: Meter,
        settings: ProducerSettings,
        *,
        rate: float | None,
        sends_max: int,
        stops: threading.Event,
        drain_s: float,
    ) -> None:
        """`streams` are all of the workload; it writes to its own. `rate` in records/s, None for
        as fast as it goes. After `stops` it waits `drain_s` for what is under way."""
        super().__init__(f"writer-{number}")
        self.is_full = False
        """It ended because of `sends_max`."""
        self._reach = reach
        self._workload = workload
        self._meter = meter
        self._settings = settings
        self._rate = rate
        self._sends_max = sends_max
        self._stops = stops
        self._drain_s = drain_s
        first = workload.stream(number, 0)
        self._first_stream = first
        self._streams = streams[first : first + workload.partitions]
        self._waiting: list[deque[tuple[int, int]]] = [deque() for _ in self._streams]
        """By partition: (moment, count) of what is under way, oldest first."""
        self._booked = [0] * len(self._streams)
        self._under_way = 0
        self._under_way_max = max(1, min(UNDER_WAY_MAX, UNDER_WAY_BYTES // workload.size))
        self._sent = 0

    def work(self) -> None:
        while not self._stops.is_set() and not self.is_full:
            producer = self._client()
            if producer is None:
                continue
            try:
                self._write(producer)
                self._drain(producer)
            except BROKEN as problem:
                self.breaks += 1
                self.problem = str(problem) or type(problem).__name__
                self._lose("CLIENT_BROKE")
            finally:
                producer.close()
        self._lose("NO_ANSWER")

    def _client(self) -> Producer | None:
        try:
            return Producer(self._reach.open(), self._settings, creates_topics=False)
        except BROKEN as problem:
            self.problem = str(problem)
            self._stops.wait(AGAIN_S)
            return None

    # --- sending

    def _write(self, producer: Producer) -> None:
        started, sent_before = time.monotonic(), self._sent
        while not self._stops.is_set():
            due = BURST
            if self._rate is not None:
                due = int((time.monotonic() - started) * self._rate) - (self._sent - sent_before)
            room = min(BURST, self._under_way_max - self._under_way, self._sends_max - self._sent)
            if due > room:
                if self._rate is not None and room < BURST:
                    # Held back: the rate goes on from here.
                    started, sent_before = time.monotonic(), self._sent + max(room, 0)
                due = room
            if self._sent >= self._sends_max:
                self.is_full = True
                return
            if due > 0:
                self._send(producer, due)
            self._book(producer.poll(0 if due >= BURST else TICK_MS))

    def _send(self, producer: Producer, count: int) -> None:
        workload, topic, partitions = self._workload, self._workload.topic, len(self._streams)
        now_ns, wall_ms = time.monotonic_ns(), int(time.time() * 1000)
        for number in range(self._sent, self._sent + count):
            partition = number % partitions
            stream = self._first_stream + partition
            value = workload.value(stream, self._streams[partition].send())
            waiting = self._waiting[partition]
            if waiting and waiting[-1][0] == now_ns:
                waiting[-1] = now_ns, waiting[-1][1] + 1
            else:
                waiting.append((now_ns, 1))
            producer.send(
                topic, value, workload.key(stream), partition=partition, timestamp_ms=wall_ms
            )
        self._sent += count
        self._under_way += count
        self._meter.sending(count)

    def _drain(self, producer: Producer) -> None:
        deadline = time.monotonic() + self._drain_s
        while self._under_way and time.monotonic() < deadline:
            self._book(producer.poll(TICK_MS))

    # --- booking

    def _book(self, events: list[Delivered | Failed]) -> None:
        now_ns = time.monotonic_ns()
        for event in events:
            if isinstance(event, Delivered):
                partition = event.tp.partition
                runs = self._settle(partition, event.count, OK, event.base_offset)
                self._meter.acknowledge(partition, runs, now_ns)
                continue
            is_refused = event.code in REFUSED or event.partition < 0
            outcome = FAIL if is_refused else INFO
            if event.partition < 0:
                # The topic was never seen: nothing has left this client.
                for partition, waiting in enumerate(self._waiting):
                    self._settle(partition, sum(count for _, count in waiting), outcome)
            else:
                self._settle(event.partition, event.count, outcome)
            self._meter.give_up(event.count, event.code.name, is_refused=is_refused)

    def _settle(
        self, partition: int, count: int, outcome: int, base_offset: int = -1
    ) -> list[tuple[int, int]]:
        """The oldest `count` of a partition; when they were sent."""
        first = self._booked[partition]
        self._streams[partition].settle(first, count, outcome, base_offset)
        self._booked[partition] = first + count
        self._under_way -= count
        waiting, runs = self._waiting[partition], []
        while count:
            sent_ns, size = waiting.popleft()
            taken = min(size, count)
            runs.append((sent_ns, taken))
            count -= taken
            if taken < size:
                waiting.appendleft((sent_ns, size - taken))
        return runs

    def _lose(self, error: str) -> None:
        """What is under way is unknown, and stays so."""
        now_ns = time.monotonic_ns()
        for partition, waiting in enumerate(self._waiting):
            count = len(self._streams[partition]) - self._booked[partition]
            if count:
                if waiting:
                    self._meter.waited(partition, waiting[0][0], now_ns)
                self._meter.give_up(count, error, is_refused=False)
                self._booked[partition] += count
            waiting.clear()
        self._under_way = 0
