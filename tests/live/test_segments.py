"""`kcluster segments` and `dump-segment` beside brokers that write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.live.conftest import LiveCluster
from tests.live.test_commands import kcluster, ok
from tests.live.test_verify import write

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def segments(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok("segments", *words, "-c", "live", "-o", "json"))[
        "segments"
    ]
    return found


def test_every_replica_has_its_segments_and_a_dump_shows_what_is_in_them(
    cluster: LiveCluster,
) -> None:
    topic = cluster.topic(configs={"segment.bytes": "1048576"})
    write(cluster.bootstrap, topic, 250)
    cluster.wait(
        lambda status: all(
            replica.log_end == 250
            for partition in status.partitions
            if partition.topic == topic
            for replica in partition.replicas
        ),
        "all replicas hold it",
    )
    found = segments(topic)
    for broker in (1, 2, 3):
        own = [segment for segment in found if segment["broker"] == broker]
        assert len(own) > 1
        assert sum(segment["records"] for segment in own) == 250
        assert [segment["is_active"] for segment in own] == [False] * (len(own) - 1) + [True]
        assert own[-1]["last_offset"] == 249
        assert all(s["index_entries"] and s["time_index_entries"] for s in own[:-1])
    assert {segment["broker"] for segment in segments(f"{topic}-0", "--broker", "2")} == {2}
    assert {segment["broker"] for segment in segments("__cluster_metadata")} == {0}
    [sealed, *_] = found
    log = sealed["path"]
    shown = json.loads(
        ok("dump-segment", log, log.replace(".log", ".index"), "--records", "-o", "json")
    )["files"]
    assert [file["damage"] for file in shown] == [[], []]
    assert sum(len(batch["records"]) for batch in shown[0]["entries"]) == sealed["records"]
    assert len(shown[1]["entries"]) == sealed["index_entries"]


def test_what_is_not_there_is_exit_code_4(cluster: LiveCluster) -> None:
    for words, says in ((["nobody"], "on disk are"), (["--broker", "9"], "brokers are 1, 2, 3")):
        done = kcluster("segments", *words, "-c", "live")
        assert done.returncode == 4
        assert says in done.stderr.splitlines()[1]
        assert done.stderr.splitlines()[2].startswith("try: kcluster segments")
