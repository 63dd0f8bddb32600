"""Which clients have a quota here, and what becomes of an answer that was too much.

    client id --levels--> Metered: the rates it shares in, of produce, fetch and request
    answer    --record--> 0, or for how long: told in the answer, the connection is not read
                          meanwhile (KIP-219)

Bytes produced are those of the whole request; bytes consumed those of the answer, which is empty
in their place when they are too much: then they have not been taken. One batch that is more than
a whole quota allows is given all the same when nothing was before, or it could never be read (in
Kafka it cannot). Request time is what
handling took of this process's one thread, from decoding to encoding, as a percentage; what a turn
does for all its requests together, and looking again at a Fetch that waits, is nobody's. It
throttles for one window at most. Everybody is the user ANONYMOUS. Who asks over the bus is told,
and never muted: such a client waits by itself.

A client without a quota costs one look at `is_active`, and a look-up while others have some.

Source: KIP-13, KIP-55, KIP-124, KIP-219; Kafka's `ClientQuotaManager` and
`ClientRequestQuotaManager`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.config import Settings
from kcluster.core.broker.quotas.rate import Rate
from kcluster.core.metadata.quotas import (
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    Entity,
    levels,
)
from kcluster.limits import LIMITS
from kcluster.wire.apis import FETCH, PRODUCE
from kcluster.wire.message import Message, encode_parts, size_of
from kcluster.wire.messages.fetch import FetchResponse

if TYPE_CHECKING:
    from kcluster.core.broker.connections import Call

ANONYMOUS: Final = "ANONYMOUS"
"""Who everybody is to a listener without SASL."""

PERCENT_PER_NS: Final = 100 / 1e9

Stopwatch = Callable[[], int]
"""Nanoseconds from anywhere on: how long something took is a difference of two."""


class Metered:
    """A client that has quotas: its rates, None for those that it has none of."""

    __slots__ = ("fetch", "produce", "request", "stopwatch")

    def __init__(
        self, produce: Rate | None, fetch: Rate | None, request: Rate | None, stopwatch: Stopwatch
    ) -> None:
        self.produce = produce
        self.fetch = fetch
        self.request = request
        self.stopwatch = stopwatch

    def begun(self, call: Call) -> None:
        """A request is about to be handled."""
        if self.request is not None:
            call.begun_ns = self.stopwatch()

    def handled(self, call: Call, now_ms: int) -> None:
        """It is out of hand, answered or not."""
        if self.request is None:
            return
        call.spent_ns += self.stopwatch() - call.begun_ns
        call.begun_ns = 0
        if call.parts is not None:
            # The rest of what it took, encoding mostly, counts for the next request.
            self.request.add(call.spent_ns * PERCENT_PER_NS, now_ms)

    def answer(self, call: Call, response: Message, now_ms: int) -> Message:
        """What to answer instead of `response`, mostly the same; `call.mute_ms` is set."""
        key = call.header.api_key
        bytes_ms = 0
        size = 0
        if key == PRODUCE:
            bytes_ms = self._produced(call, now_ms)
        elif key == FETCH and self.fetch is not None:
            size = 4 + sum(map(size_of, encode_parts(response, call.header.api_version)))
            bytes_ms = self.fetch.record(size, now_ms)
        throttle_ms = max(bytes_ms, self._spent(call, now_ms))
        if not throttle_ms:
            return response
        call.mute_ms = throttle_ms
        is_batch_too_large = bytes_ms and self.fetch is not None and self.fetch.is_alone(size)
        if key == FETCH and not is_batch_too_large:
            if self.fetch is not None:
                self.fetch.add(-size, now_ms)
            call.is_withheld = True
            return FetchResponse(throttle_time_ms=throttle_ms)
        if hasattr(response, "throttle_time_ms"):
            # A copy: some answers are made once for all who ask.
            response = msgspec.structs.replace(response, throttle_time_ms=throttle_ms)
        return response

    def unanswered(self, call: Call, now_ms: int) -> None:
        """Produced with acks=0: there is nothing to tell it in."""
        call.mute_ms = self._produced(call, now_ms)

    def _produced(self, call: Call, now_ms: int) -> int:
        return self.produce.record(call.size, now_ms) if self.produce is not None else 0

    def _spent(self, call: Call, now_ms: int) -> int:
        rate = self.request
        if rate is None:
            return 0
        spent_ns, call.spent_ns = call.spent_ns, 0
        if call.begun_ns:
            begun_ns, call.begun_ns = call.begun_ns, self.stopwatch()
            spent_ns += call.begun_ns - begun_ns
        return min(rate.record(spent_ns * PERCENT_PER_NS, now_ms), rate.sample_ms)


class ClientQuotas:
    def __init__(self, settings: Settings, stopwatch: Stopwatch) -> None:
        self.is_active = False
        """Somebody has a quota."""
        self._samples = settings.int("quota.window.num")
        self._sample_ms = settings.int("quota.window.size.seconds") * 1000
        self._stopwatch = stopwatch
        self._quotas: Mapping[Entity, Mapping[str, float]] = {}
        self._clients: dict[str, Metered | None] = {}
        """By client id; made anew when quotas have changed."""
        self._rates: dict[tuple[str, str, str], Rate] = {}
        """By key, user and client id; who was met last is at the end."""

    def configure(self, quotas: Mapping[Entity, Mapping[str, float]]) -> None:
        """These are all that there are. What clients had already still counts."""
        self._quotas = quotas
        self.is_active = bool(quotas)
        self._clients.clear()
        if not quotas:
            self._rates.clear()

    def of(self, client_id: str | None) -> Metered | None:
        name = client_id or ""
        if name in self._clients:
            return self._clients[name]
        produce, fetch, request = (
            self._rate(key, name)
            for key in (PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE, REQUEST_PERCENTAGE)
        )
        metered = None
        if not (produce is fetch is request is None):
            metered = Metered(produce, fetch, request, self._stopwatch)
        if len(self._clients) >= LIMITS.quota_clients:
            del self._clients[next(iter(self._clients))]
        self._clients[name] = metered
        return metered

    def _rate(self, key: str, client_id: str) -> Rate | None:
        for entity, user, client in levels(ANONYMOUS, client_id):
            limit = self._quotas.get(entity, {}).get(key)
            if limit is None:
                continue
            rate = self._rates.pop((key, user, client), None)
            if rate is None:
                rate = Rate(limit, self._samples, self._sample_ms)
                if len(self._rates) >= LIMITS.quota_clients:
                    del self._rates[next(iter(self._rates))]
            rate.limit = limit
            self._rates[key, user, client] = rate
            return rate
        return None
