"""What members say is read rightly, whoever says it."""

from __future__ import annotations

import pytest

from tests.live.group_members import Wanted, of_verifiable_consumer
from tests.live.members.lines import runs


def test_offsets_of_one_poll_are_told_as_runs_without_gaps() -> None:
    assert runs([(1, 5), (0, 9), (1, 6), (1, 8), (0, 10)]) == [[1, 5, 6], [1, 8, 8], [0, 9, 10]]
    assert runs([]) == []


def test_verifiable_consumer_is_understood() -> None:
    records = {
        "timestamp": 1000,
        "name": "records_consumed",
        "count": 4,
        "partitions": [{"topic": "t", "partition": 2, "count": 4, "minOffset": 7, "maxOffset": 10}],
    }
    assert of_verifiable_consumer(records, 5) == {
        "at_ns": 1_000_000_005,
        "event": "records",
        "runs": [[2, 7, 10]],
    }
    revoked = {
        "timestamp": 0,
        "name": "partitions_revoked",
        "partitions": [{"topic": "t", "partition": 1}],
    }
    assert of_verifiable_consumer(revoked, 0) == {
        "at_ns": 0,
        "event": "revoked",
        "partitions": [1],
    }
    commit = {"timestamp": 0, "name": "offsets_committed", "offsets": [], "success": False}
    failed = of_verifiable_consumer(commit, 0)
    assert failed is not None
    assert failed["event"] == "commit_failed"
    assert of_verifiable_consumer({"timestamp": 0, "name": "record_data"}, 0) is None


def test_a_hole_in_what_verifiable_consumer_read_is_not_taken_for_records() -> None:
    part = {"topic": "t", "partition": 2, "count": 3, "minOffset": 7, "maxOffset": 10}
    with pytest.raises(AssertionError):
        of_verifiable_consumer(
            {"timestamp": 0, "name": "records_consumed", "partitions": [part]}, 0
        )


def test_python_members_are_started_by_module() -> None:
    command = Wanted("kafka-python", "h:1", "t", "g", instance="i").command()
    assert command[1:3] == ["-m", "tests.live.members.kafka_python_member"]
    assert command[-2:] == ["--instance", "i"]
