"""Requests that only the controller can decide, on their way there and back (KIP-590).

Not repeated: a request that changes the cluster must not be carried out twice because an answer
was lost. Whoever asked is told REQUEST_TIMED_OUT when no answer comes in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kcluster.core.purgatory import Deadlines, Waiter
from kcluster.core.turn import Buffer, Turn
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR
from kcluster.wire.bus import Forward, Forwarded

Done = Callable[[Turn, int, memoryview | None], None]
"""(turn, error, response body): the body only with error 0."""

GRACE_MS: Final = 1500
"""Added to the request's own timeout: the controller may wait 1 s for brokers to apply what it
has committed (rule 10), and its answer says more than ours."""


class Pending(Waiter):
    __slots__ = ("correlation", "done", "forwards")

    def __init__(self, forwards: Forwards, correlation: int, done: Done) -> None:
        self.forwards = forwards
        self.correlation = correlation
        self.done = done

    def expire(self, turn: Turn) -> None:
        self.forwards.drop(self.correlation)
        self.done(turn, ErrorCode.REQUEST_TIMED_OUT, None)


class Forwards:
    def __init__(self, deadlines: Deadlines, first_number: int) -> None:
        self._deadlines = deadlines
        self._pending: dict[int, Pending] = {}
        self._next = first_number

    def send(
        self,
        turn: Turn,
        api_key: int,
        api_version: int,
        body: Buffer,
        client_id: str | None,
        timeout_ms: int,
        done: Done,
    ) -> None:
        """Have the controller decide; `done` is called once, in a later turn."""
        correlation = self._next
        self._next += 1
        timeout_ms = max(timeout_ms, 0)
        pending = Pending(self, correlation, done)
        self._pending[correlation] = pending
        self._deadlines.add(turn, timeout_ms + GRACE_MS, pending)
        message = Forward(correlation, api_key, api_version, client_id, timeout_ms)
        # The body is a view of a frame that ends with this turn, and so does the send.
        turn.send(COORDINATOR, message, [bytes(body)])

    def answered(self, message: Forwarded, body: memoryview | None, turn: Turn) -> None:
        pending = self.drop(message.correlation)
        if pending is not None:
            self._deadlines.remove(pending)
            if message.error == ErrorCode.NONE and body is None:
                pending.done(turn, ErrorCode.UNKNOWN_SERVER_ERROR, None)
            else:
                pending.done(turn, message.error, body)

    def drop(self, correlation: int) -> Pending | None:
        return self._pending.pop(correlation, None)
