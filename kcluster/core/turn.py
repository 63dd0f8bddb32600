"""One wake-up of a process: what came in, what it made of it, and how that is carried out.

    events --> core.handle(event, turn) --> run_turn: disk, settle, send, reply, timers, traces

A core is pure: it takes events and writes what it wants into one reused `Turn`. `run_turn` is
the one path by which a turn reaches a `World`, in the broker, in the coordinator and in the
simulator alike. The order is the safety argument: what was produced is on disk (`write(2)`
returned) before `settle` lets it be counted, pushed or acknowledged, and a failed write
undoes its staged tail before anyone heard of it.

Disk operations are carried out in the order in which they were put into the turn. Consecutive
appends to one file share one `Append`, so that everything of one wake-up is one pwritev a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kcluster.wire.bus import Message

Buffer = bytes | bytearray | memoryview


# --- events -------------------------------------------------------------------------------


class Request(msgspec.Struct):
    """One frame of Kafka's protocol, without its length prefix.

    `frame` is writable and stays valid until the end of this turn only: what a core keeps
    longer it copies.
    """

    connection: int
    frame: memoryview
    host: str = ""
    """Address of the client; empty when it is not one of TCP."""


class Disconnected(msgspec.Struct):
    """The connection is gone; replies to it are dropped from now on."""

    connection: int


class Received(msgspec.Struct):
    """A bus message. `payload` are the frames behind it, valid as long as they are held."""

    source: int
    """Broker id, COORDINATOR, SUPERVISOR, or a negative id of a control connection."""
    source_epoch: int
    message: Message
    payload: Sequence[Buffer] = ()


class Synced(msgspec.Struct):
    """A `Sync` came back: all that was appended to `path` before it is durable, or errno."""

    path: str
    token: int
    errno: int = 0


class StoodStill(msgspec.Struct):
    """This process did not run for `gap_ms` (monotonic clock), longer than a session timeout.

    It comes before the requests that waited for it (invariant 19).
    """

    gap_ms: int


class Timer:
    """Base of events that a core asked for with `Turn.after`."""

    __slots__ = ()


Event = Request | Disconnected | Received | Synced | StoodStill | Timer


# --- what a core wants --------------------------------------------------------------------


class Writer(Protocol):
    """The owner of an append: hears of its end before anybody else does."""

    def written(self, turn: Turn, append: Append) -> None: ...

    def write_failed(self, turn: Turn, append: Append, errno: int) -> None: ...


class Append(msgspec.Struct):
    """Buffers to be written to a file from `position` on; the file is created when missing."""

    path: str
    position: int
    owner: Writer
    buffers: list[Buffer] = msgspec.field(default_factory=list)
    size: int = 0


class Replace(msgspec.Struct):
    """The whole content of a small file, put in place atomically (temporary file, rename).

    `durable` also waits for the disk: for what must survive a power cut before going on.
    """

    path: str
    data: Buffer
    durable: bool = False


class Truncate(msgspec.Struct):
    path: str
    size: int


class Rename(msgspec.Struct):
    """Also renames directories."""

    source: str
    target: str


class Delete(msgspec.Struct):
    """A file, or a directory with all that is in it. Missing is fine."""

    path: str


class Sync(msgspec.Struct):
    """Make `path`, its name, and deletions in its directory durable; answered by a
    `Synced(path, token)` in a later turn. One is in flight for each file; a second waits."""

    path: str
    token: int


DiskOperation = Append | Replace | Truncate | Rename | Delete | Sync


class Span(msgspec.Struct):
    """Bytes of a file that go to a socket without passing through this process."""

    path: str
    position: int
    size: int


Part = Buffer | Span


class Reply(msgspec.Struct):
    """A whole response frame with its length prefix, in parts, for one connection. Without parts:
    the oldest request in flight is done and has no answer (acks=0)."""

    connection: int
    parts: list[Part]
    mute_ms: int = 0
    """For so long nothing more is read of the connection: its client is over its quota."""


class Send(msgspec.Struct):
    """A bus message to `target` (broker id, COORDINATOR, SUPERVISOR or a control connection).

    At most once: it may be lost, and what is sent to nobody is dropped.
    """

    target: int
    message: Message
    payload: Sequence[Buffer] = ()


class Trace(Protocol):
    """A state change worth telling: see `core/traces.py`."""


class Turn:
    """One wake-up: the only output of every core. Reused, so that it costs no allocation."""

    __slots__ = ("closes", "disk", "now_ms", "replies", "sends", "timers", "traces", "wall_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        """Monotonic clock: for deadlines, leases and lag."""
        self.wall_ms = 0
        """Wall clock: for record timestamps and retention only."""
        self.disk: list[DiskOperation] = []
        self.sends: list[Send] = []
        self.replies: list[Reply] = []
        self.closes: list[int] = []
        """Connections to close once their replies have left."""
        self.timers: list[tuple[int, Timer]] = []
        self.traces: list[Any] = []

    def append(self, path: str, position: int, owner: Writer, buffer: Buffer) -> Append:
        """Add `buffer` at `position`: to the last append of this file when it goes on there.
        The operation that it is now part of; its owner may still empty it."""
        for operation in reversed(self.disk):
            if type(operation) is not Append:
                break
            if operation.path == path:
                if operation.position + operation.size != position:
                    break
                operation.buffers.append(buffer)
                operation.size += len(buffer)
                return operation
        operation = Append(path, position, owner, [buffer], len(buffer))
        self.disk.append(operation)
        return operation

    def rename(self, source: str, target: str) -> None:
        """Rename a file that is being read: replies of this turn leave after it was carried out,
        so that what they hold of it is found under its new name."""
        for reply in self.replies:
            for part in reply.parts:
                if type(part) is Span and part.path == source:
                    part.path = target
        self.disk.append(Rename(source, target))

    def send(self, target: int, message: Message, payload: Sequence[Buffer] = ()) -> None:
        self.sends.append(Send(target, message, payload))

    def reply(self, connection: int, parts: list[Part], mute_ms: int = 0) -> None:
        self.replies.append(Reply(connection, parts, mute_ms))

    def after(self, delay_ms: int, timer: Timer) -> None:
        """Have `timer` come back as an event, `delay_ms` from now."""
        self.timers.append((self.now_ms + delay_ms, timer))

    def trace(self, trace: Any) -> None:
        self.traces.append(trace)

    def clear(self) -> None:
        self.disk.clear()
        self.sends.clear()
        self.replies.clear()
        self.closes.clear()
        self.timers.clear()
        self.traces.clear()


# --- who carries it out -------------------------------------------------------------------


class Volume(msgspec.Struct, frozen=True):
    """Where a process keeps its files."""

    path: str
    """Absolute, of the root of `Files`."""
    total_bytes: int
    """Of the file system that it is on; -1 when that is not known."""
    usable_bytes: int


class Files(Protocol):
    """The only thing a core may do while it handles: read. Paths are relative to its root."""

    def read(self, path: str, position: int, size: int) -> bytes:
        """At most `size` bytes; fewer at the end of the file; b"" for a file that is missing."""
        ...

    def size(self, path: str) -> int:
        """In bytes; -1 when there is no such file."""
        ...

    def list(self, directory: str) -> list[str]:
        """Names in it, sorted; empty when there is no such directory."""
        ...

    def volume(self) -> Volume: ...


class World(Files, Protocol):
    """The outside of one process. Real: pwritev, ZeroMQ, sendfile. Fake: bytearrays."""

    def clock(self) -> tuple[int, int]:
        """(monotonic ms, wall ms)."""
        ...

    def perform(self, operation: DiskOperation) -> int:
        """Carry out one disk operation; 0, or the errno of its failure. A `Sync` only starts."""
        ...

    def send(self, sends: list[Send]) -> None: ...

    def reply(self, replies: list[Reply], closes: list[int]) -> None: ...

    def schedule(self, timers: list[tuple[int, Timer]]) -> None: ...

    def trace(self, traces: list[Any]) -> None: ...

    def release(self) -> None:
        """The turn is over: buffers that nothing holds any more may be used again."""
        ...


class Core(Protocol):
    def handle(self, event: Event, turn: Turn) -> None:
        """Take one event. Disk operations asked for here are carried out before `settle`."""
        ...

    def settle(self, turn: Turn) -> None:
        """All writes of this turn have ended: count, push and answer what they made true.

        May ask for more disk operations; it is then called again after them.
        """
        ...

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        """An operation other than an append failed."""
        ...


SETTLE_ROUNDS = 8
"""A core that still asks for disk operations after so many rounds is broken."""


def run_turn(core: Core, events: Sequence[Event], turn: Turn, world: World) -> None:
    """Give all `events` to the core and carry out what it wants."""
    turn.now_ms, turn.wall_ms = world.clock()
    handle = core.handle
    for event in events:
        handle(event, turn)
    for _ in range(SETTLE_ROUNDS):
        if turn.disk:
            _perform(core, turn, world)
        core.settle(turn)
        if not turn.disk:
            break
    else:
        raise AssertionError("a core never stopped asking for disk operations")
    if turn.traces:
        world.trace(turn.traces)
    if turn.sends:
        world.send(turn.sends)
    if turn.replies or turn.closes:
        world.reply(turn.replies, turn.closes)
    if turn.timers:
        world.schedule(turn.timers)
    turn.clear()
    world.release()


def _perform(core: Core, turn: Turn, world: World) -> None:
    operations = turn.disk
    turn.disk = []
    for operation in operations:
        errno = world.perform(operation)
        if type(operation) is Append:
            if errno:
                operation.owner.write_failed(turn, operation, errno)
            else:
                operation.owner.written(turn, operation)
        elif errno:
            core.disk_failed(turn, operation, errno)
