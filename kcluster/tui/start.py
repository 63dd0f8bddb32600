"""Making the screen: its view begins with what the journal tells of the time before it."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from kcluster.client.find import running_cluster
from kcluster.processes.journal import read_events
from kcluster.processes.workdir import locate
from kcluster.tui.app import Top
from kcluster.tui.marks import ASCII, UNICODE
from kcluster.tui.view import EVENTS_MAX, View

EVENTS_BEFORE = 500


def make_top(
    cluster: str, *, is_read_only: bool = False, interval_ms: int = 250, is_ascii: bool = False
) -> Top:
    """UsageError when the cluster does not run."""
    running_cluster(cluster)
    view = View(cluster, ASCII if is_ascii else UNICODE, is_read_only)
    before = deque(read_events(Path(locate(cluster)) / "logs"), maxlen=EVENTS_BEFORE)
    assert len(before) <= EVENTS_MAX
    view.story.extend(before)
    return Top(view, interval_ms=interval_ms, after=before[-1].seq if before else -1)
