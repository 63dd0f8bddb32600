"""The live cluster, for Java's clients and tools."""

from tests.live.conftest import cluster, group_brokers, live_home, shared_cluster, topic

__all__ = ["cluster", "group_brokers", "live_home", "shared_cluster", "topic"]
