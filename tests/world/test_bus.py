"""The bus on real ZeroMQ sockets, several processes' ends in one loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from kcluster.core.turn import Received, Send
from kcluster.model import SUPERVISOR
from kcluster.wire.bus import (
    Ack,
    Announce,
    Died,
    Envelope,
    Freeze,
    Heartbeat,
    KafkaRequest,
    MetadataDelta,
    ProcessState,
    Push,
    Stop,
    decode,
    encode,
)
from kcluster.wire.telling import DescribeReplicas, Replicas
from kcluster.world import bus as bus_module
from kcluster.world.arenas import is_free
from kcluster.world.bus import Bus

PATIENCE_S = 20


class Line:
    """Some buses on one loop, each with the list of what it received."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self.loop = loop
        self.directory = directory
        self.buses: list[Bus] = []
        self.received: dict[int, list[Received]] = {}
        self.states: dict[int, ProcessState] = {}

    def open(self, id: int, incarnation: int = 1, supervisor: ProcessState | None = None) -> Bus:
        endpoint = f"ipc://{self.directory}/{id}.{incarnation}"
        bus = Bus(id, incarnation, endpoint, self.loop, supervisor=supervisor)
        self.buses.append(bus)
        inbox = self.received[id] = []
        bus.start(inbox.append)  # type: ignore[arg-type]
        self.states[id] = ProcessState(id, incarnation, bus.endpoint, os.getpid(), "running")
        return bus

    def announce(self) -> None:
        for bus in self.buses:
            bus.peers_changed(list(self.states.values()))

    def run_until(self, claim: Callable[[], bool]) -> None:
        deadline = self.loop.time() + PATIENCE_S
        failed = False

        def look() -> None:
            nonlocal failed
            failed = self.loop.time() > deadline
            if failed or claim():
                self.loop.stop()
                return
            self.loop.call_later(0.0005, look)

        self.loop.call_soon(look)
        self.loop.run_forever()
        assert not failed, "the claim never came true"

    def control(self, bus: Bus) -> zmq.Socket[bytes]:
        dealer = bus._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(bus.endpoint)
        return dealer

    def reply_to(self, dealer: zmq.Socket[bytes]) -> list[bytes]:
        self.run_until(lambda: bool(dealer.get(zmq.EVENTS) & zmq.POLLIN))
        return dealer.recv_multipart()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    loop = asyncio.new_event_loop()
    line = Line(loop, tmp_path)
    yield line
    for bus in line.buses:
        bus.close()
    loop.close()


def heartbeat(n: int) -> Heartbeat:
    return Heartbeat(broker_epoch=n, metadata_offset=0)


def test_a_message_arrives_with_its_source_and_its_payload(line: Line) -> None:
    one, _ = line.open(1, 7), line.open(2)
    line.announce()
    parts = [b"small", memoryview(bytearray(b"v" * 20_000)), b"", bytes(300_000)]
    one.send([Send(2, Push([]), parts), Send(2, heartbeat(5))])
    line.run_until(lambda: len(line.received[2]) == 2)
    first, second = line.received[2]
    assert (first.source, first.source_epoch, first.message) == (1, 7, Push([]))
    assert [bytes(part) for part in first.payload] == [bytes(part) for part in parts]
    assert second.message == heartbeat(5)
    assert list(second.payload) == []


def test_messages_keep_their_order_and_none_is_left_lying(line: Line) -> None:
    one, two = line.open(1), line.open(2)
    line.announce()
    for n in range(2000):
        one.send([Send(2, heartbeat(n))])
        two.send([Send(1, heartbeat(n))])
    line.run_until(lambda: len(line.received[1]) + len(line.received[2]) == 4000)
    for id in (1, 2):
        epochs = [event.message.broker_epoch for event in line.received[id]]  # type: ignore[union-attr]
        assert epochs == list(range(2000))


def test_what_was_queued_for_the_dead_never_reaches_the_successor(line: Line) -> None:
    one = line.open(1)
    line.states[2] = ProcessState(2, 1, f"ipc://{line.directory}/2.1", 0, "running")
    line.announce()
    for n in range(10):
        one.send([Send(2, heartbeat(n))])
    line.open(2, incarnation=2)
    line.announce()
    one.send([Send(2, heartbeat(99))])
    line.run_until(lambda: bool(line.received[2]))
    assert [event.message for event in line.received[2]] == [heartbeat(99)]


def test_messages_for_or_from_another_incarnation_are_dropped(line: Line) -> None:
    one = line.open(1, 5)
    line.states[2] = ProcessState(2, 3, f"ipc://{line.directory}/2.3", 0, "running")
    line.announce()

    def as_peer(identity: bytes, *frames: bytes) -> None:
        dealer = one._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.ROUTING_ID, identity)
        dealer.connect(one.endpoint)
        dealer.send_multipart(frames)

    as_peer(b"p2.3", encode(Envelope(2, 3, 1, 4, Ack([]))))
    line.run_until(lambda: one.counts.misdirected == 1)
    as_peer(b"p2.2", encode(Envelope(2, 2, 1, 5, Ack([]))))
    line.run_until(lambda: one.counts.stale == 1)
    as_peer(b"p3.1", encode(Envelope(2, 3, 1, 5, Ack([]))))
    line.run_until(lambda: one.counts.misdirected == 2)
    as_peer(b"p2.3.", encode(Envelope(2, 3, 9, 0, Ack([]))))
    line.run_until(lambda: one.counts.misdirected == 3)
    assert line.received[1] == []
    # Newer than announced: its announcement is still on its way.
    as_peer(b"p2.4", encode(Envelope(2, 4, 1, 5, Ack([]))))
    line.run_until(lambda: len(line.received[1]) == 1)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [b"\x95\x01\x01\x01\x01\xc0"],
        [b"\x93" * 5000],
        [b"\xff" * 100, b"payload", b""],
        [encode(Envelope(0, 0, 1, 0, Ack([])))[:-1]],
        [encode(Envelope(0, 0, 1, 0, Ack([]))).replace(b"Ack", b"Akk")],
    ],
)
def test_strangers_messages_do_no_harm(line: Line, frames: list[bytes]) -> None:
    one = line.open(1)
    dealer = line.control(one)
    dealer.send_multipart(frames)
    line.run_until(lambda: one.counts.malformed == 1)
    dealer.send(encode(Envelope(0, 0, 1, 0, DescribeReplicas(1))))
    line.run_until(lambda: len(line.received[1]) == 1)


def test_a_control_connection_may_ask_and_say_nothing_else(line: Line) -> None:
    one = line.open(1)
    dealer = line.control(one)
    said = [Stop(False), Freeze(), Died(1, 1), Announce([]), MetadataDelta(0, 9), heartbeat(1)]
    for message in said:
        dealer.send_multipart([encode(Envelope(SUPERVISOR, 1, 1, 1, message)), b"\xc1"])
    dealer.send(encode(Envelope(0, 0, 1, 0, DescribeReplicas(1))))
    line.run_until(lambda: bool(line.received[1]))
    assert one.counts.misdirected == len(said)
    assert [event.message for event in line.received[1]] == [DescribeReplicas(1)]


def test_each_process_says_only_what_is_its_to_say(line: Line) -> None:
    state = ProcessState(SUPERVISOR, 5, f"ipc://{line.directory}/supervisor", 0, "running")
    one, two = line.open(1, supervisor=state), line.open(2)
    coordinator = line.open(0)
    line.announce()
    said = [Stop(False), Freeze(), Died(1, 1), Announce([]), MetadataDelta(0, 9)]
    two.send([Send(1, message) for message in [*said, Ack([])]])
    line.run_until(lambda: bool(line.received[1]))
    assert one.counts.misdirected == len(said)
    coordinator.send([Send(1, message) for message in said])
    line.run_until(lambda: len(line.received[1]) == 2)
    line.run_until(lambda: one.counts.misdirected == 2 * len(said) - 1)
    assert [event.message for event in line.received[1]] == [Ack([]), MetadataDelta(0, 9)]


def test_another_supervisor_than_the_one_that_started_us_is_not_heard(line: Line) -> None:
    state = ProcessState(SUPERVISOR, 5, f"ipc://{line.directory}/supervisor", 0, "running")
    one = line.open(1, supervisor=state)
    for incarnation in (4, 6, 5):
        dealer = one._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.ROUTING_ID, bus_module.peer_identity(SUPERVISOR, incarnation))
        dealer.connect(one.endpoint)
        dealer.send(encode(Envelope(SUPERVISOR, incarnation, 1, 1, Freeze())))
    line.run_until(lambda: bool(line.received[1]))
    line.run_until(lambda: (one.counts.stale, one.counts.misdirected) == (1, 1))
    assert [event.source_epoch for event in line.received[1]] == [5]


def test_a_message_of_too_many_frames_or_bytes_is_dropped_to_its_end(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = type(bus_module.LIMITS)(bus_frames=10, bus_message_bytes=1000)
    monkeypatch.setattr(bus_module, "LIMITS", limits)
    one = line.open(1)
    dealer = line.control(one)
    head = encode(Envelope(0, 0, 1, 0, KafkaRequest()))
    for payload in ([b""] * 11, [bytes(600), bytes(401), b"end"], [bytes(100)] * 10):
        dealer.send_multipart([head, *payload])
    line.run_until(lambda: bool(line.received[1]))
    assert one.counts.oversized == 2
    assert [len(event.payload) for event in line.received[1]] == [10]


def test_a_control_connection_is_answered_by_its_negative_id(line: Line) -> None:
    one = line.open(1)
    first, second = line.control(one), line.control(one)
    first.send(encode(Envelope(99, 99, 1, 0, DescribeReplicas(1))))
    line.run_until(lambda: len(line.received[1]) == 1)
    second.send(encode(Envelope(0, 0, 1, 0, DescribeReplicas(2))))
    line.run_until(lambda: len(line.received[1]) == 2)
    ids = [event.source for event in line.received[1]]
    assert ids == [-2, -3], "a control connection is nobody's source but its own"
    one.send([Send(id, Replicas(n, 1, 1, []), [b"p"]) for n, id in enumerate(ids)])
    for n, dealer in enumerate((first, second)):
        head, payload = line.reply_to(dealer)
        assert decode(head).message == Replicas(n, 1, 1, [])
        assert payload == b"p"


def test_answers_to_control_connections_that_are_gone_are_counted(line: Line) -> None:
    one = line.open(1)
    dealer = line.control(one)
    dealer.send(encode(Envelope(0, 0, 1, 0, DescribeReplicas(1))))
    line.run_until(lambda: len(line.received[1]) == 1)
    dealer.close(linger=0)

    def is_gone() -> bool:
        one.send([Send(-2, Ack([]))])
        return one.counts.unreachable > 0

    line.run_until(is_gone)
    one.send([Send(-77, Ack([])), Send(5, Ack([]))])
    assert one.counts.unreachable == 3


def test_control_connections_are_bounded(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "CONTROL_CONNECTIONS", 3)
    one = line.open(1)
    dealers = [line.control(one) for _ in range(5)]
    for n, dealer in enumerate(dealers):
        dealer.send(encode(Envelope(0, 0, 1, 0, DescribeReplicas(n))))
        line.run_until(lambda n=n: len(line.received[1]) == n + 1)  # type: ignore[misc]
    assert len(one._control_ids) == len(one._control_identities) == 3
    assert sorted(one._control_identities) == [-6, -5, -4]


def test_an_announcement_of_the_supervisor_connects_peers(line: Line) -> None:
    supervisor = line.open(SUPERVISOR)
    first = line.open(1, supervisor=line.states[SUPERVISOR])
    line.open(2, supervisor=line.states[SUPERVISOR])
    processes = [line.states[1], line.states[2]]
    supervisor.peers_changed(processes)
    supervisor.send([Send(id, Announce(processes)) for id in (1, 2)])
    line.run_until(lambda: len(line.received[1]) == len(line.received[2]) == 1)
    first.send([Send(2, Ack([])), Send(SUPERVISOR, Ack([]))])
    line.run_until(lambda: len(line.received[2]) == 2 and len(line.received[SUPERVISOR]) == 1)


def test_the_dead_are_sent_nothing(line: Line) -> None:
    one, _ = line.open(1), line.open(2)
    line.announce()
    line.states[2] = ProcessState(2, 1, line.states[2].endpoint, 0, "killed")
    line.announce()
    one.send([Send(2, Ack([]))])
    assert one.counts.unreachable == 1


def test_a_full_queue_drops_and_counts(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "LIMITS", type(bus_module.LIMITS)(send_queue_max=10))
    one = line.open(1)
    line.states[2] = ProcessState(2, 1, f"ipc://{line.directory}/nobody", 0, "running")
    line.announce()
    for n in range(50):
        one.send([Send(2, heartbeat(n), [b"p"])])
    assert one.counts.overflowed == 40


def test_many_messages_do_not_starve_the_loop(line: Line) -> None:
    one, _ = line.open(1), line.open(2)
    line.announce()
    rounds = 0

    def breathe() -> None:
        nonlocal rounds
        if line.received[2]:
            rounds += 1
        line.loop.call_soon(breathe)

    done = threading.Event()
    for n in range(3000):
        one.send([Send(2, heartbeat(n))])
    done.set()
    line.loop.call_soon(breathe)
    line.run_until(lambda: len(line.received[2]) == 3000)
    assert rounds >= 3000 // bus_module.MESSAGES_PER_WAKE - 1


STOPPED_READER = """
import asyncio, os, signal, sys
from kcluster.world.bus import Bus
from kcluster.wire.bus import ProcessState, Ack
from kcluster.core.turn import Send
mine, theirs = sys.argv[1:]
loop = asyncio.new_event_loop()
bus = Bus(2, 1, mine, loop)
bus.peers_changed([ProcessState(1, 1, theirs, 0, "running")])
def receive(event):
    if event.payload:
        bytes_seen = bytes(event.payload[0][:1]) * len(event.payload[0])
        assert bytes(event.payload[0]) == bytes_seen, "bytes changed after they were sent"
        bus.send([Send(1, Ack([]), [bytes_seen[:1]])])
    else:
        bus.send([Send(1, Ack([]))])
bus.start(receive)
loop.run_forever()
"""


def test_an_arena_is_not_used_again_while_a_stopped_reader_has_yet_to_take_it(line: Line) -> None:
    one = line.open(1)
    endpoint = f"ipc://{line.directory}/reader"
    reader = subprocess.Popen([sys.executable, "-c", STOPPED_READER, endpoint, one.endpoint])
    try:
        line.states[2] = ProcessState(2, 1, endpoint, reader.pid, "running")
        line.announce()
        one.send([Send(2, Ack([]))])
        line.run_until(lambda: len(line.received[1]) == 1)
        reader.send_signal(signal.SIGSTOP)
        os.waitpid(reader.pid, os.WUNTRACED)
        arenas = []
        for n in range(8):
            arena = bytearray([n]) * (1 << 20)
            arenas.append(arena)
            one.send([Send(2, Push([]), [memoryview(arena)])])
        gc.collect()
        assert not is_free(arenas[-1]), "queued to the stopped reader, it is still ZeroMQ's"
        with pytest.raises(BufferError):
            arenas[-1].clear()
        reader.send_signal(signal.SIGCONT)
        line.run_until(lambda: len(line.received[1]) == 9)
        assert [event.payload[0] for event in line.received[1][1:]] == [
            bytes([n]) for n in range(8)
        ]
        line.run_until(lambda: all(is_free(arena) for arena in arenas))
    finally:
        reader.kill()
        reader.wait()


def test_a_payload_frame_sent_to_two_peers_is_freed_after_the_second(line: Line) -> None:
    one, _, _ = line.open(1), line.open(2), line.open(3)
    line.announce()
    arena = bytearray(b"x" * (1 << 20))
    view = memoryview(arena)
    one.send([Send(2, Push([]), [view]), Send(3, Push([]), [view])])
    view.release()
    line.run_until(lambda: bool(line.received[2]) and bool(line.received[3]))
    for id in (2, 3):
        assert bytes(line.received[id][0].payload[0]) == bytes(arena)
        line.received[id].clear()
    line.run_until(lambda: is_free(arena))


def test_a_bus_can_bind_tcp_and_tells_where(line: Line) -> None:
    bus = Bus(1, 1, "tcp://127.0.0.1:*", line.loop)
    line.buses.append(bus)
    assert bus.endpoint.startswith("tcp://127.0.0.1:")
    assert not bus.endpoint.endswith("*")
    with pytest.raises(zmq.ZMQError):
        Bus(2, 1, bus.endpoint, line.loop)


def test_closing_twice_is_harmless(line: Line) -> None:
    bus: Any = line.open(1)
    bus.close()
    bus.close()
