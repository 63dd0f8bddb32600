"""The listener and its connections, on real sockets."""

from __future__ import annotations

import resource
import socket
import struct
from typing import Any

import pytest

from kcluster.core.turn import Append, Disconnected, Request, Span, Turn
from kcluster.world import arenas, connection, kafka_server

PRODUCE = 0
METADATA = 3


def frame(body: bytes, api_key: int = METADATA) -> bytes:
    content = struct.pack(">h", api_key) + body
    return struct.pack(">i", len(content)) + content


def echo(event: Any, turn: Turn) -> None:
    if isinstance(event, Request):
        body = bytes(event.frame)
        turn.reply(event.connection, [struct.pack(">i", len(body)), body])


def test_a_frame_becomes_a_request_without_its_length(house: Any) -> None:
    house.serve()
    client = house.connect()
    client.send(frame(b"hello"))
    house.run_until(lambda: bool(house.core.frames()))
    assert house.core.frames() == [b"\x00\x03hello"]


def test_frames_split_at_every_byte_arrive_whole(house: Any) -> None:
    server = house.serve()
    house.core.on_event = echo
    data = frame(b"one") + frame(b"") + frame(b"three")
    for cut in range(1, len(data)):
        client = house.connect()
        client.send(data[:cut])
        # The first part must have been read before the second is sent.
        whole = sum(cut >= end for end in (9, 15, 26))
        seen = len(house.core.frames())
        house.run_until(
            lambda cut=cut, whole=whole, seen=seen: (
                len(house.core.frames()) >= seen + whole
                and (cut in (9, 15) or bool(server.incomplete))
            )
        )
        client.send(data[cut:])
        assert house.read(client, len(data)) == data
        client.close()
    assert server.queued_bytes == 0


def test_a_frame_that_comes_byte_by_byte_arrives_whole(house: Any) -> None:
    house.serve()
    house.core.on_event = echo
    client = house.connect()
    data = frame(b"one") + frame(b"two")
    for byte in data:
        client.send(bytes([byte]))
        for _ in range(3):
            house.loop.call_soon(house.loop.stop)
            house.loop.run_forever()
    assert house.read(client, len(data)) == data


def test_pipelined_requests_are_answered_in_order_a_few_at_a_time(house: Any) -> None:
    server = house.serve()
    house.core.on_event = echo
    client = house.connect()
    data = b"".join(frame(b"%d" % n) for n in range(1000))
    client.send(data)
    assert house.read(client, len(data)) == data
    assert max(house.core.turns) <= 8
    assert server.queued_bytes == 0


def test_no_more_than_the_limit_is_in_flight_until_an_answer_leaves(house: Any) -> None:
    house.serve()
    client = house.connect()
    client.send(frame(b"x") * 20)
    house.run_until(lambda: len(house.core.frames()) >= 8)
    for _ in range(10):
        house.loop.call_soon(house.loop.stop)
        house.loop.run_forever()
    assert len(house.core.frames()) == 8

    def answer_all(turn: Turn) -> None:
        # No parts: a request that has no answer (acks=0) has ended all the same.
        for _ in range(house.core.turns[-1]):
            turn.reply(1, [])

    house.core.on_settle = answer_all
    turn = Turn()
    for _ in range(8):
        turn.reply(1, [])
    house.world.reply(turn.replies, [])
    house.run_until(lambda: len(house.core.frames()) == 20)


def muting(house: Any, seconds: float) -> None:
    """Answers every request, the first of them with a word to wait."""

    def answer(event: Any, turn: Turn) -> None:
        if isinstance(event, Request):
            is_first = len(house.core.frames()) == 1
            turn.reply(event.connection, [b"ok"], int(seconds * 1000) if is_first else 0)

    house.core.on_event = answer


def test_a_muted_connection_is_answered_at_once_and_read_again_afterwards(house: Any) -> None:
    house.serve()
    muting(house, 0.1)
    client = house.connect()
    sent_at = house.loop.time()
    client.send(frame(b"one"))
    assert house.read(client, 2) == b"ok"
    client.send(frame(b"two"))
    house.run_until(lambda: len(house.core.frames()) == 2)
    assert house.loop.time() - sent_at > 0.09
    assert house.read(client, 2) == b"ok"


def test_what_was_read_before_it_was_muted_waits_and_then_comes_one_by_one(house: Any) -> None:
    server = house.serve()
    muting(house, 0.1)
    client = house.connect()
    client.send(b"".join(frame(b"%d" % n) for n in range(20)) + frame(b"half")[:-2])
    muted_at = house.loop.time()
    house.run_until(lambda: len(house.core.frames()) > 8)
    assert house.loop.time() - muted_at > 0.09
    house.run_until(lambda: len(house.core.frames()) == 20)
    assert house.core.turns[0] == 8
    assert set(house.core.turns[1:]) <= {0, 1}
    assert house.read(client, 40) == b"ok" * 20
    client.send(frame(b"half")[-2:])
    assert house.read(client, 2) == b"ok"
    assert server.queued_bytes == 0


def test_others_do_not_wait_for_who_is_muted(house: Any) -> None:
    server = house.serve()
    muting(house, 60)
    muted, other = house.connect(), house.connect()
    muted.send(frame(b"one") + frame(b"half")[:-2])
    assert house.read(muted, 2) == b"ok"
    assert not server.incomplete, "the memory for frames that end is for those who are read"
    other.send(frame(b"two"))
    assert house.read(other, 2) == b"ok"
    muted.close()


def test_large_frames_of_many_clients_arrive_whole(house: Any) -> None:
    server = house.serve()
    bodies = {}

    def check(event: Any, turn: Turn) -> None:
        if isinstance(event, Request):
            assert bytes(event.frame[2:]) == bodies[event.frame[2]]
            turn.reply(event.connection, [event.frame[2:3].tobytes()])

    house.core.on_event = check
    clients = []
    for n in range(5):
        bodies[n] = bytes([n]) * (3_000_000 + n)
        clients.append(house.connect())
    for _ in range(3):
        rests = [memoryview(frame(bodies[n], PRODUCE)) for n in range(5)]

        def push(rests: list[memoryview] = rests) -> bool:
            for n, client in enumerate(clients):
                try:
                    while rests[n]:
                        rests[n] = rests[n][client.send(rests[n][:100_001]) :]
                except BlockingIOError:
                    pass
            return not any(rests)

        house.run_until(push)
        for n, client in enumerate(clients):
            assert house.read(client, 1) == bytes([n])
    assert server.queued_bytes == 0
    assert not server.incomplete


@pytest.mark.parametrize(
    "hostile",
    [
        struct.pack(">i", 0),
        struct.pack(">i", -1),
        struct.pack(">i", -(2**31)),
        struct.pack(">i", 2**31 - 1),
        struct.pack(">i", 104_857_601),
        struct.pack(">ih", 8_388_609, METADATA),
        struct.pack(">ih", 8_388_609, 1),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_hostile_lengths_close_the_connection(house: Any, hostile: bytes) -> None:
    server = house.serve()
    client = house.connect()
    client.send(hostile)
    assert house.is_closed(client)
    house.run_until(lambda: bool(house.core.of(Disconnected)))
    assert not server.connections
    assert server.queued_bytes == 0


def test_frames_before_a_hostile_length_are_still_posted(house: Any) -> None:
    house.serve()
    client = house.connect()
    client.send(frame(b"fine") + struct.pack(">i", -5))
    assert house.is_closed(client)
    house.run_until(lambda: bool(house.core.of(Disconnected)))
    assert house.core.frames() == [b"\x00\x03fine"]
    assert [type(event) for event in house.core.events] == [Request, Disconnected]


def test_memory_grows_with_bytes_received_not_with_the_length_announced(house: Any) -> None:
    server = house.serve()
    client = house.connect()
    client.send(struct.pack(">ih", 100_000_000, PRODUCE) + bytes(1000))
    house.run_until(lambda: bool(server.incomplete))
    (held,) = server.incomplete.values()
    assert held._buffer is not None
    assert len(held._buffer) <= arenas.SMALLEST_BUFFER


def test_the_budget_of_request_bytes_stops_reading_but_for_the_oldest_frame(house: Any) -> None:
    server = house.serve(queued_bytes_max=100_000)
    house.core.on_event = echo
    first, second, third = house.connect(), house.connect(), house.connect()
    big = frame(bytes(90_000), PRODUCE)
    first.send(big[:60_000])
    house.run_until(lambda: server.queued_bytes == 60_000)
    second.send(big[:50_000])
    house.run_until(lambda: server.queued_bytes >= 100_000)
    third.send(frame(b"wait"))
    house.run_until(lambda: bool(server._paused))
    assert house.core.frames() == []
    first.send(big[60_000:])
    assert house.read(first, len(big)) == big
    second.send(big[50_000:])
    assert house.read(second, len(big)) == big
    assert house.read(third, 10) == frame(b"wait")
    assert server.queued_bytes == 0


def test_a_reply_of_bytes_and_files_leaves_in_order(house: Any) -> None:
    house.serve()
    content = bytes(range(256)) * 40_000
    house.world.perform(Append("t-0/0.log", 0, house.core, [content], len(content)))  # type: ignore[arg-type]

    def fetch(event: Any, turn: Turn) -> None:
        if isinstance(event, Request):
            turn.reply(
                event.connection,
                [b"head", Span("t-0/0.log", 100, 5_000_000), b"", b"mid", b"dle",
                 Span("t-0/0.log", 0, 10), b"tail"],
            )  # fmt: skip

    house.core.on_event = fetch
    client = house.connect()
    client.send(frame(b"fetch") * 3)
    reply = b"head" + content[100:5_000_100] + b"middle" + content[:10] + b"tail"
    assert house.read(client, 3 * len(reply)) == 3 * reply


def test_a_file_deleted_or_renamed_while_it_is_sent_is_sent_to_its_end(house: Any) -> None:
    from kcluster.core.turn import Delete, Replace

    server = house.serve()
    content = bytes(range(256)) * 200_000
    house.world.perform(Append("f", 0, house.core, [content], len(content)))  # type: ignore[arg-type]
    house.core.on_event = lambda event, turn: (
        turn.reply(event.connection, [Span("f", 0, len(content))])
        if isinstance(event, Request)
        else None
    )
    client = house.connect()
    client.send(frame(b"fetch"))
    house.run_until(lambda: any(c._out for c in server.connections.values()))
    house.world.perform(Delete("f"))
    house.world.perform(Replace("f", b"another"))
    assert house.read(client, len(content)) == content


def test_a_file_shorter_than_its_span_closes_the_connection(house: Any) -> None:
    house.serve()
    house.world.perform(Append("f", 0, house.core, [b"short"], 5))  # type: ignore[arg-type]
    house.core.on_event = lambda event, turn: (
        turn.reply(event.connection, [b"head", Span("f", 0, 10)])
        if isinstance(event, Request)
        else None
    )
    client = house.connect()
    client.send(frame(b"fetch"))
    assert house.read(client, 100) == b"headshort"
    house.run_until(lambda: bool(house.core.of(Disconnected)))


def test_a_missing_file_closes_the_connection(house: Any) -> None:
    house.serve()
    house.core.on_event = lambda event, turn: (
        turn.reply(event.connection, [b"head", Span("none", 0, 10)])
        if isinstance(event, Request)
        else None
    )
    client = house.connect()
    client.send(frame(b"fetch"))
    assert house.is_closed(client)


def test_a_reader_slower_than_the_reply_queue_is_cut_off(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.serve()
    monkeypatch.setattr(connection, "LIMITS", type(connection.LIMITS)(reply_queue_bytes=20 << 20))
    reply = bytes(8 << 20)
    house.core.on_event = lambda event, turn: (
        turn.reply(event.connection, [reply]) if isinstance(event, Request) else None
    )
    client = house.connect()
    client.send(frame(b"fetch") * 8)
    house.run_until(lambda: bool(house.core.of(Disconnected)))


def test_a_client_that_does_not_read_is_not_read_either(house: Any) -> None:
    server = house.serve()
    reply = bytes(12 << 20)
    house.core.on_event = lambda event, turn: (
        turn.reply(event.connection, [reply]) if isinstance(event, Request) else None
    )
    client = house.connect()
    client.send(frame(b"fetch"))
    house.run_until(lambda: any(c._out for c in server.connections.values()))
    client.send(frame(b"more") * 3)
    for _ in range(10):
        house.loop.call_soon(house.loop.stop)
        house.loop.run_forever()
    assert len(house.core.frames()) == 1
    house.read(client, 4 * len(reply))
    assert len(house.core.frames()) == 4


def test_a_close_waits_for_the_replies_before_it(house: Any) -> None:
    house.serve()
    reply = bytes(range(256)) * 50_000

    def last(event: Any, turn: Turn) -> None:
        if isinstance(event, Request):
            turn.reply(event.connection, [reply])
            turn.closes.append(event.connection)

    house.core.on_event = last
    client = house.connect()
    client.send(frame(b"last"))
    house.run_until(lambda: bool(house.core.frames()))
    client.send(frame(b"never"))
    assert house.read(client, len(reply) + 1) == reply
    house.run_until(lambda: bool(house.core.of(Disconnected)))
    assert len(house.core.of(Disconnected)) == 1


def test_a_client_that_goes_is_told_to_the_core_once(house: Any) -> None:
    server = house.serve()
    client = house.connect()
    client.send(frame(b"x"))
    house.run_until(lambda: bool(house.core.frames()))
    client.close()
    house.run_until(lambda: bool(house.core.of(Disconnected)))
    assert not server.connections
    house.world.reply([], [1])
    assert len(house.core.of(Disconnected)) == 1


def test_deadlines_close_silent_slow_and_idle_clients(house: Any) -> None:
    server = house.serve()
    silent, slow, idle, waiting = (house.connect() for _ in range(4))
    house.run_until(lambda: len(server.connections) == 4)
    now = house.loop.time()
    waiting.send(frame(b"long poll"))
    house.run_until(lambda: len(house.core.frames()) == 1)
    house.core.on_event = echo
    for client in (slow, idle):
        client.send(frame(b"x"))
        house.read(client, len(frame(b"x")))
    slow.send(b"\x00\x00")
    house.run_until(lambda: bool(server.incomplete))
    by_id = sorted(server.connections.items())
    deadlines = [c.deadline - now for _, c in by_id]
    assert 5 < deadlines[0] <= 11
    assert 29 < deadlines[1] <= 31
    assert 590 < deadlines[2] <= 620
    for id, c in by_id:
        c.expire(now)
        assert (id in server.connections) == (id == 4), "a request in flight is no idleness"
    for client in (silent, slow, idle):
        assert house.is_closed(client)


def test_a_connection_beyond_the_limit_is_closed_at_once_and_said(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_server, "SWEEP_S", 0.01)
    lines: list[str] = []
    server = house.serve(connections_max=2, say=lines.append)
    house.core.on_event = echo
    first, second = house.connect(), house.connect()
    house.run_until(lambda: len(server.connections) == 2)
    assert house.is_closed(house.connect())
    first.close()
    house.run_until(lambda: len(server.connections) == 1)
    for client in (second, house.connect()):
        client.send(frame(b"x"))
        assert house.read(client, 7) == frame(b"x")
    house.run_until(lambda: bool(lines))
    assert lines == [
        "connections: 1 refused (max.connections is 2), "
        "0 cut off as too slow for the memory they took"
    ]


def test_half_open_frames_leave_room_for_others_and_are_cut_off(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = type(connection.LIMITS)(slow_frame_ms=50, slow_frame_bytes_per_s=10_000_000)
    monkeypatch.setattr(connection, "LIMITS", limits)
    server = house.serve(queued_bytes_max=1_000_000)
    house.core.on_event = echo
    honest = house.connect()
    hostile = [house.connect() for _ in range(8)]
    head = struct.pack(">ih", 90_000_000, PRODUCE)
    for client in hostile:
        client.send(head + bytes(100_000))
    house.run_until(lambda: server.queued_bytes >= 750_000)
    honest.send(frame(b"small"))
    assert house.read(honest, 11) == frame(b"small"), "a part of the budget is for small requests"
    house.write(honest, frame(b"half-way")[:7])
    house.run_until(lambda: len(server.incomplete) == len(hostile) + 1)
    house.write(honest, frame(b"half-way")[7:])
    assert house.read(honest, 14) == frame(b"half-way"), "nor is it to be read in one piece"
    assert server.cut_off == 0
    # What does not fit into it waits no longer than it takes to tell who is slow.
    big = frame(bytes(400_000), PRODUCE)
    house.write(honest, big)
    assert house.read(honest, len(big)) == big
    assert server.cut_off > 0
    assert server.queued_bytes < 750_000


def test_a_request_that_waits_takes_no_part_of_the_budget(house: Any) -> None:
    server = house.serve(queued_bytes_max=500_000)
    waiting = house.connect()
    for _ in range(3):
        house.write(waiting, frame(bytes(300_000), PRODUCE))
    house.run_until(lambda: len(house.core.frames()) == 3)
    assert server.queued_bytes == 0
    house.core.on_event = echo
    honest = house.connect()
    honest.send(frame(b"x"))
    assert house.read(honest, 7) == frame(b"x")
    waiting.close()
    house.run_until(lambda: len(server.connections) == 1)
    assert server.queued_bytes == 0


def test_a_paused_frame_has_its_time_when_it_is_read_again(house: Any) -> None:
    server = house.serve(queued_bytes_max=100_000)
    first, second = house.connect(), house.connect()
    first.send(struct.pack(">ih", 90_000_000, PRODUCE) + bytes(60_000))
    house.run_until(lambda: server.queued_bytes > 60_000)
    second.send(struct.pack(">ih", 90_000_000, PRODUCE) + bytes(60_000))
    house.run_until(lambda: server.queued_bytes > 120_000)
    second.send(bytes(1000))
    house.run_until(lambda: bool(server._paused))
    (paused,) = server._paused.values()
    now = house.loop.time()
    paused.expire(now + 1000)
    assert not paused.is_closed, "that nothing comes is our doing"
    left = paused.deadline - paused._paused_at
    first.close()
    house.run_until(lambda: not server._paused)
    assert paused.deadline - house.loop.time() <= left + 0.001


def test_readers_with_most_of_what_is_not_read_are_cut_off(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = type(kafka_server.LIMITS)(all_replies_bytes=40 << 20)
    monkeypatch.setattr(kafka_server, "LIMITS", limits)
    server = house.serve()
    replies = {b"big": bytes(30 << 20), b"few": bytes(9 << 20)}
    house.core.on_event = lambda event, turn: (
        turn.reply(event.connection, [replies[bytes(event.frame[2:])]])
        if isinstance(event, Request)
        else None
    )
    few, *big = (house.connect() for _ in range(4))
    few.send(frame(b"few"))
    for client in big:
        client.send(frame(b"big"))
    house.run_until(lambda: server.cut_off == 2)
    assert server.reply_bytes <= 40 << 20
    assert house.read(few, 9 << 20) == replies[b"few"]
    house.run_until(lambda: server.reply_bytes <= 30 << 20)
    for client in big:
        client.close()
    house.run_until(lambda: len(server.connections) == 1)
    assert server.reply_bytes == 0


def test_accepting_goes_on_after_descriptors_ran_out(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = house.serve()
    monkeypatch.setattr(kafka_server, "ACCEPT_PAUSE_S", 0.001)
    client = house.connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = socket.socket()
    lowest = probe.fileno()
    probe.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        house.run_until(lambda: server._accept_handle is not None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    house.core.on_event = echo
    client.send(frame(b"x"))
    assert house.read(client, 7) == frame(b"x")


def test_a_frame_that_is_still_looked_at_is_not_overwritten(house: Any) -> None:
    server = house.serve()
    held: list[memoryview] = []

    def hold(event: Any, turn: Turn) -> None:
        if isinstance(event, Request):
            held.append(event.frame)
            turn.reply(event.connection, [b"k"])

    house.core.on_event = hold
    client = house.connect()
    for n in range(100):
        house.write(client, frame(bytes([n]) * 100_000, PRODUCE))
        house.read(client, 1)
    assert [bytes(view[2:]) for view in held] == [bytes([n]) * 100_000 for n in range(100)]
    held.clear()
    assert len(server.pool) <= arenas.POOLED_BUFFERS


def test_an_arena_begins_again_when_its_frames_are_let_go(house: Any) -> None:
    server = house.serve()
    house.core.on_event = echo
    client = house.connect()
    data = server.arenas.data
    for _ in range(200):
        house.write(client, frame(bytes(30_000), PRODUCE))
        house.read(client, 30_006)
    assert server.arenas.data is data
    assert server.arenas.end < 100_000
