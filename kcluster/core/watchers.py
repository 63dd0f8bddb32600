"""Who watches this process: control connections that are told what changes, as long as they ask.

    Watch --> watch() is new: told everything      timer --> due(): told what has changed

Sending is cheap and losing is harmless: each watcher counts what it is told, and begins anew when
it has missed something.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kcluster.core.turn import Timer, Turn
from kcluster.wire.telling import Watch

WATCHERS_MAX: Final = 64
INTERVAL_MS_MIN: Final = 50
LEASE_MS_MAX: Final = 60_000


class TellDue(Timer):
    """Look at what has changed for those who watch."""


class _Lease(msgspec.Struct):
    request: int
    until_ms: int
    interval_ms: int
    told: int = 0


class Watchers:
    def __init__(self) -> None:
        self._leases: dict[int, _Lease] = {}
        self._is_armed = False

    def watch(self, source: int, message: Watch, turn: Turn) -> bool:
        """Whether `source` has to be told everything. Beyond WATCHERS_MAX nobody new is told."""
        until_ms = turn.now_ms + min(max(message.lease_ms, 0), LEASE_MS_MAX)
        lease = self._leases.get(source)
        if lease is not None and lease.request == message.request:
            lease.until_ms = until_ms
            return False
        if lease is None and len(self._leases) >= WATCHERS_MAX:
            return False
        interval_ms = min(max(message.interval_ms, INTERVAL_MS_MIN), LEASE_MS_MAX)
        self._leases[source] = _Lease(message.request, until_ms, interval_ms)
        self._arm(turn)
        return True

    def due(self, turn: Turn) -> list[int]:
        """Who is to be told now; empty when nobody watches any more."""
        self._is_armed = False
        for source, lease in list(self._leases.items()):
            if lease.until_ms < turn.now_ms:
                del self._leases[source]
        self._arm(turn)
        return list(self._leases)

    def number(self, source: int) -> tuple[int, int]:
        """(request, told) of the next message to a watcher."""
        lease = self._leases[source]
        lease.told += 1
        return lease.request, lease.told - 1

    def _arm(self, turn: Turn) -> None:
        if self._leases and not self._is_armed:
            self._is_armed = True
            interval_ms = min(lease.interval_ms for lease in self._leases.values())
            turn.after(interval_ms, TellDue())
