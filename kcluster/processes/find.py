"""Where `kcluster.client.find` is looked for by the rooms above it."""

from __future__ import annotations

from kcluster.client.find import connect, recorded_cluster, running_cluster, watch

__all__ = ["connect", "recorded_cluster", "running_cluster", "watch"]
