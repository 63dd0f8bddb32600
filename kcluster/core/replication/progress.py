"""How far one follower is, as its leader knows it.

Everything here comes from positions that the follower itself stated (an Open that agreed with
the leader's log, or an Ack): each is Kafka's fetch position, "I hold everything below log_end,
in this leader epoch".

*Caught up* needs a clock (KIP-16; Kafka's `Replica.updateFetchState`). Kafka keeps the leader's
log end and the time of the previous fetch; who fetches at or beyond that end was caught up then.
With pushed data several exchanges are in flight, so the previous position is no whole exchange
ago. A *mark* is kept instead: the leader's log end at some moment. When a position reaches
it, the follower was caught up at that moment, and a new mark is set: one for each round trip,
however many pushes that holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kcluster.core.replication.streams import Stream

NEVER: Final = -(1 << 62)
"""A time, in ms, before any other."""

UNKNOWN: Final = -1
"""A log end that no position was heard of in this leader epoch."""


class Progress:
    """One follower of one partition, during one leader epoch."""

    __slots__ = (
        "broker_id",
        "caught_up_ms",
        "incarnation",
        "log_end",
        "mark",
        "mark_ms",
        "newest_stream",
        "stream",
    )

    def __init__(self, broker_id: int, now_ms: int, *, is_in_sync: bool) -> None:
        self.broker_id = broker_id
        self.incarnation = 0
        """Of the broker whose position this is; 0 until one was heard of."""
        self.log_end = UNKNOWN
        """Exclusive end of what it holds. Rises, but for a follower that came back with less."""
        self.caught_up_ms = now_ms if is_in_sync else NEVER
        """Last moment at which it was known to hold all that the leader held. A new leader gives
        the ISR it was elected from the benefit of the doubt, as Kafka's does."""
        self.mark = UNKNOWN
        self.mark_ms = NEVER
        self.newest_stream = (0, 0)
        """(incarnation, stream id) of the last Open that was looked at."""
        self.stream: Stream | None = None
        """The open one: it has fetched in this epoch."""

    def is_caught_up(self, leader_end: int, now_ms: int, lag_max_ms: int) -> bool:
        return self.log_end == leader_end or now_ms - self.caught_up_ms <= lag_max_ms

    def opened(self, incarnation: int, log_end: int, leader_end: int, now_ms: int) -> None:
        """It starts at `log_end`, up to where its log agrees with the leader's."""
        self.incarnation = incarnation
        self.log_end = log_end
        self.mark = UNKNOWN
        if log_end >= leader_end:
            self.caught_up_ms = now_ms
        else:
            self.mark, self.mark_ms = leader_end, now_ms

    def moved(self, log_end: int, leader_end: int, now_ms: int) -> None:
        """Its position is `log_end` now, when the leader's own is `leader_end`."""
        self.log_end = log_end
        if log_end >= leader_end:
            self.caught_up_ms = now_ms
            self.mark = UNKNOWN
        elif self.mark == UNKNOWN:
            self.mark, self.mark_ms = leader_end, now_ms
        elif log_end >= self.mark:
            self.caught_up_ms = max(self.caught_up_ms, self.mark_ms)
            self.mark, self.mark_ms = leader_end, now_ms

    def appended_to_full(self, now_ms: int) -> None:
        """The leader appends to a log that this follower holds to its end: it was caught up
        until this moment. An idle follower says nothing, and without this the first write after
        a quiet minute would shrink the ISR."""
        self.caught_up_ms = now_ms
        self.mark = UNKNOWN
