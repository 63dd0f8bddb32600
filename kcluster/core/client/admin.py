"""Questions and orders to a cluster, without a socket: what any Kafka admin client asks.

    operation --Ask--> AdminCore: exchange --response or None--> operation --return--> Running

An operation is a generator (`operations.py`, `group_operations.py`): it yields what it wants to
know or how long it wants to wait, and returns a typed result. It asks again as long as time may
heal what it was told; its deadline ends that with REQUEST_TIMED_OUT.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from kcluster.core.client.exchange import Exchange, coordinator_lane
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.apis import api_of
from kcluster.wire.message import Message
from kcluster.wire.messages.metadata import MetadataResponse

ANY: Final = -(1 << 31)
"""Whichever broker answers: the asked one changes when it does not."""

OPERATION_MS: Final = 30_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    broker: int
    request: Message
    version: int | None = None
    """The highest that is wanted; None for the highest there is."""
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Time heals it: for so long, or (None) for the usual."""

    ms: int | None = None


Step = Ask | Pause | list[Ask]
Operation = Generator[Step, Any, T]
"""Sent in: the response to an Ask, None when there is none; of several, a list."""


@dataclass(slots=True)
class Running(Generic[T]):
    operation: Operation[T]
    deadline_ms: int
    is_done: bool = False
    result: T | None = None
    error: BaseException | None = None
    answers: list[Any] = field(default_factory=list)
    missing: int = 0
    """Answers of the present step that are still to come."""
    step: int = 0
    """Rises with every step: late answers to an earlier one are dropped."""


class AdminCore:
    def __init__(self, exchange: Exchange, *, has_lane: bool = False) -> None:
        """`has_lane`: others fetch over this exchange, and no answer shall wait behind theirs."""
        self.exchange = exchange
        self._has_lane = has_lane
        self._running: list[Running[Any]] = []

    def start(
        self, operation: Operation[T], now_ms: int, timeout_ms: int = OPERATION_MS
    ) -> Running[T]:
        running = Running(operation, now_ms + timeout_ms)
        self._running.append(running)
        self._advance(running, None, now_ms)
        return running

    def forget(self, running: Running[Any]) -> None:
        """Nobody waits for it any more."""
        if not running.is_done:
            self._end(running, None, None)

    def tick(self, now_ms: int) -> None:
        self.exchange.tick(now_ms)
        for running in [each for each in self._running if each.deadline_ms <= now_ms]:
            self._throw(
                running, ApiError(ErrorCode.REQUEST_TIMED_OUT, "no broker gave an answer in time")
            )

    def next_deadline(self) -> int | None:
        deadlines = [each.deadline_ms for each in self._running]
        exchange = self.exchange.next_deadline()
        return min([*deadlines, exchange] if exchange is not None else deadlines, default=None)

    # --- inside

    def _advance(self, running: Running[Any], outcome: Any, now_ms: int) -> None:
        try:
            step = running.operation.send(outcome)
        except StopIteration as end:
            self._end(running, end.value, None)
            return
        except ApiError as error:
            self._end(running, None, error)
            return
        running.step += 1
        match step:
            case Pause():
                pause_ms = self.exchange.patience.backoff_ms if step.ms is None else step.ms
                number = running.step

                def go_on(now_ms: int) -> None:
                    if not running.is_done and running.step == number:
                        self._advance(running, None, now_ms)

                self.exchange.later(now_ms + pause_ms, go_on)
            case Ask():
                running.answers, running.missing = [None], 1
                self._ask(running, 0, step, now_ms, is_one=True)
            case _:
                running.answers, running.missing = [None] * len(step), len(step)
                for index, ask in enumerate(step):
                    self._ask(running, index, ask, now_ms, is_one=False)
                if not step:
                    self._advance(running, [], now_ms)

    def _ask(
        self, running: Running[Any], index: int, ask: Ask, now_ms: int, *, is_one: bool
    ) -> None:
        number = running.step
        api = api_of(ask.request)
        broker = self.exchange.any_broker() if ask.broker == ANY else ask.broker
        if self._has_lane:
            broker = coordinator_lane(broker)

        def done(response: Any, now_ms: int) -> None:
            if response is None and ask.broker == ANY:
                self.exchange.try_another()
            if isinstance(response, MetadataResponse) and response.brokers:
                self.exchange.brokers = [each.node_id for each in response.brokers]
            if running.is_done or running.step != number:
                return
            running.answers[index] = response
            running.missing -= 1
            if not running.missing:
                self._advance(running, running.answers[0] if is_one else running.answers, now_ms)

        self.exchange.ask(
            broker,
            ask.request,
            api.versions.high if ask.version is None else ask.version,
            api.response,
            done,
            now_ms=now_ms,
            timeout_ms=ask.timeout_ms,
        )

    def _throw(self, running: Running[Any], error: ApiError) -> None:
        """Time is over; an operation may say better what it has waited for."""
        try:
            running.operation.throw(error)
        except StopIteration as end:
            self._end(running, end.value, None)
        except ApiError as told:
            self._end(running, None, told)
        else:
            self._end(running, None, error)

    def _end(self, running: Running[Any], result: Any, error: BaseException | None) -> None:
        running.is_done = True
        running.result, running.error = result, error
        running.operation.close()
        self._running.remove(running)
