"""Asking a running cluster: its supervisor for processes, its servers for what they hold.

    ControlClient  DEALER -> supervisor's ROUTER     commands of `wire/control.py`
    BusClient      DEALER -> inbox of one server     a bus message and its answer

For the command line, the library and tests: synchronous, with a deadline on everything. Nothing
of the hot path is here.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import zmq

from kcluster.errors import UsageError
from kcluster.limits import LIMITS
from kcluster.wire import bus
from kcluster.wire import control as c
from kcluster.wire.events import ClusterEvent

EXIT_NOT_RUNNING = 3
EXIT_TIMED_OUT = 124

ANSWER_MS = 5_000
"""For the answer to a question; a command says itself how long it may take."""

SLACK_MS = 2_000
"""On top of a command's own time."""

RECONNECT_MS = 20

FOLLOW_AGAIN_S = 2.0
"""Who follows events asks again so often, and believes that nobody is there after three times."""


class ControlTimeout(UsageError):
    """Nobody answered in time."""


def make_dealer(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, LIMITS.bus_message_bytes)
    socket.setsockopt(zmq.SNDHWM, LIMITS.send_queue_max)
    socket.connect(endpoint)
    return socket


class ControlClient:
    """One supervisor. Use it as a context manager, or close it."""

    def __init__(self, endpoint: str, name: str = "") -> None:
        self.name = name
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = make_dealer(self._context, endpoint)
        self._numbers = itertools.count(1)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(c.Answered)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def describe(self) -> c.Description:
        answer = self._ask(c.Describe(), ANSWER_MS)
        assert isinstance(answer, c.Description)
        return answer

    def states(self) -> list[bus.ProcessState]:
        """Of all processes, the coordinator first."""
        return [info.state for info in self.describe().processes]

    def command(self, command: c.Command, timeout_ms: int = ANSWER_MS) -> c.Done:
        """Carry it out. UsageError when it is refused, ControlTimeout when nobody answers."""
        own_ms: int = getattr(command, "timeout_ms", 0)
        answer = self._ask(command, max(timeout_ms, own_ms + SLACK_MS))
        assert isinstance(answer, c.Done)
        return answer

    def follow(self, after: int, patience_ms: int) -> Iterator[list[ClusterEvent]]:
        """Events behind the seq `after` (-1: from now on), as they come; an empty list once the
        supervisor has heard of it, and after each `patience_ms` without any. Nothing else may be
        asked meanwhile. ControlTimeout when the supervisor is gone."""
        number = next(self._numbers)
        asked_at = heard_at = 0.0
        is_begun = False
        while True:
            now = time.monotonic()
            if now - asked_at > FOLLOW_AGAIN_S:
                self._socket.send(self._encoder.encode(c.Asked(number, c.Follow(after))))
                asked_at = now
                heard_at = heard_at or now
            if now - heard_at > 3 * FOLLOW_AGAIN_S:
                raise ControlTimeout(
                    f"the supervisor of cluster {self.name} tells no more events",
                    "it has ended, or was stopped",
                    "kcluster ls",
                    EXIT_NOT_RUNNING,
                )
            if not self._socket.poll(min(patience_ms, int(FOLLOW_AGAIN_S * 1000))):
                yield []
                continue
            answered = self._decoder.decode(self._socket.recv())
            if answered.number != number:
                continue
            answer = answered.answer
            if isinstance(answer, c.Refused):
                raise UsageError(answer.what, answer.why, answer.hint, answer.exit_code)
            assert isinstance(answer, c.Told)
            heard_at = time.monotonic()
            new = [event for event in answer.events if event.seq > after]
            if new:
                after = new[-1].seq
            if new or not is_begun:
                is_begun = True
                yield new

    def _ask(self, command: c.Command, timeout_ms: int) -> c.Answer:
        number = next(self._numbers)
        self._socket.send(self._encoder.encode(c.Asked(number, command)))
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0 or not self._socket.poll(int(left_ms) + 1):
                raise ControlTimeout(
                    f"the supervisor of cluster {self.name} did not answer in {timeout_ms} ms",
                    "it is busy, or stopped",
                    "kcluster ls",
                    EXIT_TIMED_OUT,
                )
            answered = self._decoder.decode(self._socket.recv())
            if answered.number == number:
                break
        answer = answered.answer
        if isinstance(answer, c.Refused):
            raise UsageError(answer.what, answer.why, answer.hint, answer.exit_code)
        return answer


class BusClient:
    """Control connections to any number of servers, asked side by side."""

    def __init__(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: dict[tuple[int, int], zmq.Socket[bytes]] = {}
        """By (id, incarnation): an endpoint belongs to one incarnation."""
        self._numbers = itertools.count(1)

    def __enter__(self) -> BusClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    def ask(
        self,
        processes: Sequence[bus.ProcessState],
        question: Callable[[int], bus.Message],
        timeout_ms: int = ANSWER_MS,
        payload: Sequence[bytes] = (),
    ) -> dict[int, tuple[bus.Message, list[bytes]]]:
        """Put `question(number)` to each; answers by process id. Who does not answer in time
        (paused, dead, starting) is missing. An answer that carries another `request` number is
        a late one to an earlier question, and is dropped."""
        number = next(self._numbers)
        poller = zmq.Poller()
        waiting: dict[zmq.Socket[bytes], bus.ProcessState] = {}
        for process in processes:
            if not process.endpoint:
                continue
            socket = self._socket(process)
            envelope = bus.Envelope(0, 0, process.id, process.incarnation, question(number))
            socket.send_multipart([bus.encode(envelope), *payload])
            poller.register(socket, zmq.POLLIN)
            waiting[socket] = process
        answers: dict[int, tuple[bus.Message, list[bytes]]] = {}
        deadline = time.monotonic() + timeout_ms / 1000
        while waiting:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                break
            for socket, _ in poller.poll(int(left_ms) + 1):
                head, *rest = socket.recv_multipart()
                message = bus.decode(head).message
                if getattr(message, "request", number) != number:
                    continue
                answers[waiting.pop(socket).id] = (message, rest)
                poller.unregister(socket)
        return answers

    def _socket(self, process: bus.ProcessState) -> zmq.Socket[bytes]:
        key = (process.id, process.incarnation)
        socket = self._sockets.get(key)
        if socket is None:
            socket = self._sockets[key] = make_dealer(self._context, process.endpoint)
        return socket
