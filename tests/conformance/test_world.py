"""What a core may rely on of the bus, of syncs and of timers, real and simulated."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from kcluster.core.turn import Append, Received, Send, Sync, Synced, Timer
from kcluster.wire.bus import Ack, Announce, Envelope, Heartbeat, Push
from tests.conformance.ends import Ends


class Rang(Timer):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def heartbeat(n: int) -> Heartbeat:
    return Heartbeat(broker_epoch=n, metadata_offset=0)


def test_a_message_arrives_with_its_source_its_incarnation_and_its_payload(ends: Ends) -> None:
    arena = bytearray(b"x" * 300_000)
    ends.send(1, [Send(2, Push([]), [b"small", memoryview(arena), b""])])
    ends.run_until(lambda: bool(ends.received[2]))
    (event,) = ends.received[2]
    assert type(event) is Received
    assert (event.source, event.source_epoch, event.message) == (1, 11, Push([]))
    assert [bytes(part) for part in event.payload] == [b"small", bytes(arena), b""]


def test_messages_of_one_peer_to_another_keep_their_order(ends: Ends) -> None:
    ends.send(1, [Send(2, heartbeat(n)) for n in range(500)])
    ends.run_until(lambda: len(ends.received[2]) == 500)
    assert [event.message.broker_epoch for event in ends.received[2]] == list(range(500))


def test_a_payload_lasts_as_long_as_it_is_held(ends: Ends) -> None:
    for n in range(5):
        ends.send(1, [Send(2, Push([]), [bytes([n]) * 100_000])])
    ends.run_until(lambda: len(ends.received[2]) == 5)
    assert [bytes(event.payload[0][:1]) for event in ends.received[2]] == [
        bytes([n]) for n in range(5)
    ]


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(2, 22, 1, 10, Ack([])),
        Envelope(2, 22, 1, 12, Ack([])),
        Envelope(2, 21, 1, 11, Ack([])),
    ],
)
def test_what_is_for_or_from_another_incarnation_is_dropped(ends: Ends, envelope: Envelope) -> None:
    ends.send_envelope(envelope)
    ends.settle()
    assert ends.received[1] == []


@pytest.mark.parametrize(
    "envelope", [Envelope(2, 22, 1, 11, Ack([])), Envelope(2, 22, 1, 0, Ack([]))]
)
def test_what_is_for_this_incarnation_or_any_is_taken(ends: Ends, envelope: Envelope) -> None:
    ends.send_envelope(envelope)
    ends.run_until(lambda: len(ends.received[1]) == 1)


def test_an_announced_successor_silences_its_predecessor(ends: Ends) -> None:
    ends.announce(23)
    assert type(ends.received[1][0].message) is Announce, "the core hears of it, too"
    ends.send_envelope(Envelope(2, 22, 1, 11, Ack([])))
    ends.settle()
    assert len(ends.received[1]) == 1


def test_what_is_sent_to_nobody_is_dropped(ends: Ends) -> None:
    ends.send(1, [Send(77, Ack([])), Send(2, Ack([]))])
    ends.run_until(lambda: len(ends.received[2]) == 1)


def append(path: str) -> Append:
    owner: Any = None
    return Append(path, 0, owner, [b"abc"], 3)


def test_each_sync_is_answered_in_the_order_of_its_file(ends: Ends) -> None:
    for path in ("a", "b"):
        assert ends.perform(1, append(path)) == 0
    for token in range(3):
        assert ends.perform(1, Sync("a", token)) == 0
        assert ends.perform(1, Sync("b", 10 + token)) == 0
    assert ends.received[1] == [], "a sync ends in a later turn"
    ends.run_until(lambda: len(ends.received[1]) == 6)
    for path, first in (("a", 0), ("b", 10)):
        of_path = [event for event in ends.received[1] if event.path == path]
        assert of_path == [Synced(path, first + n, 0) for n in range(3)]


def test_a_sync_of_a_missing_file_fails_at_once(ends: Ends) -> None:
    assert ends.perform(1, Sync("missing", 1)) == errno.ENOENT


def test_timers_ring_in_the_order_of_their_deadlines_and_never_early(ends: Ends) -> None:
    now = ends.now_ms(1)
    ends.schedule(1, [(now + 30, Rang("c")), (now + 10, Rang("a")), (now + 30, Rang("d"))])
    ends.schedule(1, [(now + 20, Rang("b"))])
    ends.run_until(lambda: len(ends.received[1]) == 1)
    assert ends.now_ms(1) >= now + 10
    ends.run_until(lambda: len(ends.received[1]) == 4)
    assert [event.name for event in ends.received[1]] == ["a", "b", "c", "d"]
    assert ends.now_ms(1) >= now + 30
