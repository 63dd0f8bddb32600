"""Strangers on the ZeroMQ bus: a process of the same user, which the 0700 directory lets in.

Everything is thrown at the inboxes of brokers, coordinator and supervisor, and at the supervisor's
control socket: bytes that are no envelope, envelopes for others and of others, every message type
with any values from a control connection and from a broker that nobody knows, frames too large
and too many. Nobody may die, and everybody answers afterwards.

Left out on purpose: who introduces itself as a broker and registers *is* one. What keeps
strangers from doing so is the directory.
"""

from __future__ import annotations

import random
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from kcluster.wire import bus, telling
from kcluster.wire import control as c

SEED: Final = 11
LINGER_MS: Final = 5000
IMPOSTOR: Final = 77
VALUES: Final = 5
"""Messages of each type."""
NUMBERS: Final = (0, 1, -1, 2, 77, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
TYPES: Final[tuple[type[Any], ...]] = typing.get_args(bus.Message)


def any_value(kind: Any, source: random.Random) -> Any:
    """Something that a field of this type decodes."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return any_value(source.choice(typing.get_args(kind)), source)
    if origin is list:
        [element] = typing.get_args(kind)
        return [any_value(element, source) for _ in range(source.choice((0, 1, 3)))]
    if origin is dict:
        return {
            any_value(key, source): any_value(value, source)
            for key, value in [typing.get_args(kind)] * source.choice((0, 1))
        }
    if origin is tuple:
        return tuple(any_value(part, source) for part in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in msgspec.structs.fields(kind)]
        return kind(*(any_value(hints[name], source) for name in names))
    if kind is int:
        return source.choice(NUMBERS)
    if kind is str:
        return source.choice(("", "x", "running", "ipc:///nowhere", "\x00" * 300))
    if kind is bytes:
        return source.choice((b"", bytes(16), source.randbytes(40)))
    if kind is bool:
        return source.random() < 0.5
    assert kind is types.NoneType, kind
    return None


def envelopes(target: int, incarnation: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """(identity of the sender, frames); an empty identity is a control connection."""
    source = random.Random(SEED)
    sound = bus.encode(bus.Envelope(0, 0, target, incarnation, telling.DescribeImage(1)))
    malformed = [b"", b"\xc1", b"\x91" * 100_000, sound[:-1], sound + b"\0", b"\x95" + sound[1:]]
    malformed += [source.randbytes(source.randrange(1, 200)) for _ in range(100)]
    malformed += [sound.replace(b"DescribeImage", b"DescribeImagf"), b"\x00" * 1000]
    for head in malformed:
        for identity in (b"", b"p1.1", b"p-1.1", b"p99999999999.1", source.randbytes(20)):
            yield identity, [head, source.randbytes(30)]
    impostor = b"p%d.1" % IMPOSTOR
    for kind in TYPES:
        for _ in range(VALUES):
            message = any_value(kind, source)
            payload = [source.randbytes(50)] * source.choice((0, 1, 3))
            said = bus.Envelope(IMPOSTOR, 1, target, incarnation, message)
            others = bus.Envelope(IMPOSTOR, 1, target, incarnation + 1, message)
            yield b"", [bus.encode(said), *payload]
            yield b"p1.0", [bus.encode(said), *payload]
            yield impostor, [bus.encode(others), *payload]
            if kind is not bus.Register:
                yield impostor, [bus.encode(said), *payload]
    kafka = bus.encode(bus.Envelope(0, 0, target, incarnation, bus.KafkaRequest()))
    for size in (0, 1, 8, 10, 200, 20_000):
        yield b"", [kafka, source.randbytes(size)]
    yield b"", [kafka, *([b"x"] * 30_000)]
    if target <= 1:  # the other brokers are of the same kind
        yield b"", [kafka, *([bytes(1 << 20)] * 140)]
        yield b"", [kafka, bytes(129 << 20)]


def throw_at_inbox(endpoint: str, target: int, incarnation: int) -> int:
    """All envelopes; how many there were."""
    count = 0
    context = zmq.Context()
    by_identity: dict[bytes, zmq.Socket[bytes]] = {}
    try:
        for identity, frames in envelopes(target, incarnation):
            socket = by_identity.get(identity)
            if socket is None:
                socket = by_identity[identity] = context.socket(zmq.DEALER)
                if identity:
                    socket.setsockopt(zmq.ROUTING_ID, identity.replace(b"\0", b"x"))
                socket.setsockopt(zmq.SNDTIMEO, LINGER_MS)
                socket.connect(endpoint)
            socket.send_multipart(frames)
            count += 1
    finally:
        context.destroy(linger=LINGER_MS)
    return count


def throw_at_control(endpoint: str) -> int:
    """At the supervisor's commands: bytes that are none."""
    source = random.Random(SEED)
    sound = msgspec.msgpack.encode(c.Asked(1, c.Describe()))
    thrown = [[b""], [sound[:-1]], [b"\x92" * 100_000], [bytes(2 << 20)], [b""] * 10_000]
    thrown += [[source.randbytes(source.randrange(1, 200))] for _ in range(200)]
    thrown += [[sound.replace(b"Describe", b"Destroyy")]]
    context = zmq.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.connect(endpoint)
        for frames in thrown:
            socket.send_multipart(frames)
    finally:
        context.destroy(linger=LINGER_MS)
    return len(thrown)


def throw_at_all(endpoint: str) -> dict[str, int]:
    """At every socket beside this one; how much was thrown, by socket."""
    thrown: dict[str, int] = {}
    for path in sorted(Path(endpoint.removeprefix("ipc://")).parent.iterdir()):
        if path.name == "control":
            thrown[path.name] = throw_at_control(f"ipc://{path}")
            continue
        target, _, incarnation = path.name.rpartition("-")
        thrown[path.name] = throw_at_inbox(f"ipc://{path}", int(target), int(incarnation))
    return thrown
