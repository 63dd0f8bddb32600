"""Producer ids out of blocks that the controller hands out (KIP-730).

A block is used up before another is asked for. A broker that dies takes the rest of its block
along: ids are plenty (2^63), and none is ever given twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kcluster.core.purgatory import Deadlines, Waiter
from kcluster.core.turn import Turn
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR
from kcluster.wire.bus import AllocateProducerIds, ProducerIdBlock

Given = Callable[[Turn, ErrorCode, int], None]
"""(turn, error, producer id)."""

ASK_AGAIN_MS: Final = 500
WAIT_MS: Final = 5000


class Asker(Waiter):
    __slots__ = ("given", "ids")

    def __init__(self, ids: ProducerIds, given: Given) -> None:
        self.ids = ids
        self.given = given

    def expire(self, turn: Turn) -> None:
        self.ids.drop(self)
        # Kafka's brokers answer so while they have no block: clients try again.
        self.given(turn, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, -1)


class ProducerIds:
    def __init__(self, deadlines: Deadlines, first_number: int) -> None:
        self._deadlines = deadlines
        self._next = 0
        self._end = 0
        self._askers: dict[Asker, None] = {}
        self._request = first_number
        self._outstanding: set[int] = set()
        """Requests that no answer came to: each is listened to once, or a copy of an answer
        would give ids twice."""
        self._asked_ms = -(1 << 62)

    def ask(self, turn: Turn, broker_epoch: int, given: Given) -> None:
        """`given` is called once: at once when the block has ids left."""
        if self._next < self._end:
            self._next += 1
            given(turn, ErrorCode.NONE, self._next - 1)
            return
        if self._deadlines.is_full:
            given(turn, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, -1)
            return
        asker = Asker(self, given)
        self._askers[asker] = None
        self._deadlines.add(turn, WAIT_MS, asker)
        self.look(turn, broker_epoch)

    def look(self, turn: Turn, broker_epoch: int) -> None:
        """Ask for a block when somebody waits and no answer is due. A second block that comes
        because the first answer was late replaces nothing: it is simply left unused."""
        if self._askers and turn.now_ms - self._asked_ms >= ASK_AGAIN_MS:
            self._asked_ms = turn.now_ms
            self._request += 1
            self._outstanding.add(self._request)
            turn.send(COORDINATOR, AllocateProducerIds(broker_epoch, self._request))

    def answered(self, message: ProducerIdBlock, turn: Turn) -> None:
        if message.request not in self._outstanding:
            return
        self._outstanding.discard(message.request)
        if message.error or self._next < self._end:
            return
        self._next, self._end = message.first, message.first + message.count
        self._asked_ms = -(1 << 62)
        while self._askers and self._next < self._end:
            asker = next(iter(self._askers))
            self.drop(asker)
            self._deadlines.remove(asker)
            self._next += 1
            asker.given(turn, ErrorCode.NONE, self._next - 1)

    def drop(self, asker: Asker) -> None:
        self._askers.pop(asker, None)
