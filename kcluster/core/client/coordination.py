"""The coordinator of a group: where it is, and asking it.

    ask --[known?]--> lane of the coordinator --> done(response, now_ms)
          no: FindCoordinator, any broker, until one says

A coordinator that is lost, or answers that it is none, is looked for again; who asked hears None
or the refusal, and asks again when it likes. Requests go over a lane of their own
(`coordinator_lane`): answers leave in the order of requests, and a heartbeat must not wait
behind a Fetch that waits for records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kcluster.core.client.exchange import Exchange, coordinator_lane
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.message import Message
from kcluster.wire.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

FIND_COORDINATOR_VERSION: Final = 4
GROUP: Final = 0

ELSEWHERE: Final = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})
"""Refusals after which the coordinator is looked for again."""

NOT_YET: Final = ELSEWHERE | {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
}
"""Refusals of a coordinator that time may heal."""


class Coordination:
    def __init__(self, exchange: Exchange, group: str) -> None:
        self.exchange = exchange
        self.group = group
        self.broker: int | None = None
        """Id of the coordinator; None while it is not known."""
        self.problem: ApiError | None = None
        """Why there will never be one."""
        self.on_found: Callable[[int], None] = lambda now_ms: None
        """Called with now_ms when the coordinator is known again."""
        self._is_looking = False
        self._found_ms = -(1 << 62)

    @property
    def is_known(self) -> bool:
        return self.broker is not None

    def ask(
        self,
        request: Message,
        version: int,
        response: type[Message],
        done: Callable[[Any, int], None],
        *,
        now_ms: int,
        timeout_ms: int | None = None,
    ) -> None:
        """Of the coordinator, which must be known. `done(None, now_ms)` when it is lost."""
        broker = self.broker
        assert broker is not None

        def answered(answer: Any, now_ms: int) -> None:
            if answer is None:
                self.lost(broker, now_ms)
            done(answer, now_ms)

        self.exchange.ask(
            coordinator_lane(broker),
            request,
            version,
            response,
            answered,
            now_ms=now_ms,
            timeout_ms=timeout_ms,
        )

    def refused(self, code: ErrorCode, now_ms: int) -> None:
        """A refusal of the coordinator: it may not be it any more."""
        if code in ELSEWHERE and self.broker is not None:
            self.lost(self.broker, now_ms)

    def lost(self, broker: int, now_ms: int) -> None:
        """This broker is not to be asked any more, unless it is named again."""
        if self.broker != broker:
            return
        self.broker = None
        pause_ms = self.exchange.patience.backoff_ms
        if now_ms - self._found_ms >= pause_ms:
            self.find(now_ms)
        else:
            # It was named just now: whoever named it does not know better yet.
            self.exchange.later(now_ms + pause_ms, self.find)

    def find(self, now_ms: int) -> None:
        """Look for the coordinator unless it is known or looked for."""
        if self._is_looking or self.broker is not None or self.problem is not None:
            return
        self._is_looking = True
        self.exchange.ask(
            coordinator_lane(self.exchange.any_broker()),
            # Below version 4 there is one key only (KIP-699).
            FindCoordinatorRequest(key=self.group, key_type=GROUP, coordinator_keys=[self.group]),
            FIND_COORDINATOR_VERSION,
            FindCoordinatorResponse,
            self._found,
            now_ms=now_ms,
        )

    def _found(self, response: FindCoordinatorResponse | None, now_ms: int) -> None:
        self._is_looking = False
        answer: Coordinator | FindCoordinatorResponse | None = response
        if response is not None and response.coordinators:
            answer = response.coordinators[0]
        if answer is not None and answer.error_code == ErrorCode.NONE:
            self.broker, self._found_ms = answer.node_id, now_ms
            self.on_found(now_ms)
            return
        code = ErrorCode(answer.error_code) if answer is not None else ErrorCode.NONE
        if code and code not in NOT_YET:
            why = answer.error_message if answer is not None else ""
            self.problem = ApiError(code, f"group {self.group}: {why or code.name}")
            self.on_found(now_ms)
            return
        self.exchange.try_another()
        self.exchange.later(now_ms + self.exchange.patience.backoff_ms, self.find)
