"""What of a broker's configs counts for its groups."""

from __future__ import annotations

import msgspec


class GroupSettings(msgspec.Struct, frozen=True):
    """Times in ms."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    initial_rebalance_delay_ms: int = 0
    max_size: int = 2**31 - 1
    """Members of a group."""
    commit_timeout_ms: int = 5_000
    retention_ms: int = 604_800_000
    """Of the offsets of groups that nobody uses."""

    consumer_session_timeout_ms: int = 45_000
    """As all that follow, of groups of the consumer protocol."""
    consumer_heartbeat_interval_ms: int = 5_000
    """Told to their members."""
    consumer_max_size: int = 2**31 - 1
    consumer_assignors: tuple[str, ...] = ("uniform", "range")
    """The first is that of groups whose members ask for none."""
    migration_policy: str = "bidirectional"
