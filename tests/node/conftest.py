"""The live cluster, for Node's clients."""

from tests.live.conftest import cluster, group_brokers, live_home, shared_cluster

__all__ = ["cluster", "group_brokers", "live_home", "shared_cluster"]
