"""`kcluster events` against real processes: a failure as it happens, and afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.live.conftest import LiveCluster
from tests.live.test_commands import kcluster, ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

Told = dict[str, Any]


@contextmanager
def following(*words: str) -> Iterator[Iterator[Told]]:
    """Events from now on, as `kcluster events -f` prints them."""
    command = [sys.executable, "-m", "kcluster.cli.main", "events", "-c", "live", "-f", "-n", "1"]
    process = subprocess.Popen(
        [*command, "-o", "jsonl", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield (json.loads(line) for line in process.stdout)
    finally:
        process.kill()
        process.communicate()


def until(events: Iterator[Told], name: str, **wanted: object) -> Told:
    for event in events:
        told = {**event, **event.get("fields", {})}
        if event["event"] == name and wanted.items() <= told.items():
            return event
    raise AssertionError(f"the stream ended without {name}")


def test_a_kill_is_told_from_the_signal_to_the_return(cluster: LiveCluster, topic: str) -> None:
    victim = cluster.leader(topic)
    with following() as events:
        next(events)
        cluster.kill(victim)
        story = [
            until(events, "Signalled", broker=victim),
            until(events, "Died", broker=victim),
            until(events, "BrokerFenced", broker=victim),
            until(events, "Elected", topic=topic, before=victim),
            until(events, "BecameLeader", topic=topic),
        ]
        cluster.start(victim)
        story += [
            until(events, "BrokerRegistered", broker=victim),
            until(events, "IsrExpanded", topic=topic),
        ]
    times = [event["monotonic_ns"] for event in story]
    assert times == sorted(times)
    assert [event["seq"] for event in story] == sorted(event["seq"] for event in story)
    assert story[0]["text"] == "SIGKILL sent"
    leader = story[4]["process"]
    assert story[3]["fields"]["leader"] == leader != victim
    # Whoever asks later is told the same.
    kept = ok("events", f"{topic}-0", "-c", "live", "--type", "election,isr", "-n", "100")
    assert f"leader {victim} → {leader}, epoch" in kept
    assert "{1,2,3}" in kept.splitlines()[-1]
    assert all(f"{topic}-0" in line for line in kept.splitlines())


def test_events_of_one_broker_are_those_about_it_and_those_in_it(
    cluster: LiveCluster, topic: str
) -> None:
    lines = ok("events", "-c", "live", "--broker", "2", "-o", "jsonl", "-n", "10000").splitlines()
    events = [json.loads(line) for line in lines]
    assert {2} == {event.get("broker", event["process"]) for event in events}
    assert {"Started", "BrokerRegistered", "BecameLeader"} <= {event["event"] for event in events}


@pytest.mark.parametrize(
    ("words", "exit_code", "what"),
    [
        (["--type", "ist"], 2, "--type ist: unknown"),
        (["-c", "nobody"], 3, "there is no cluster nobody"),
    ],
)
def test_what_cannot_be_told_is_refused(
    cluster: LiveCluster, words: list[str], exit_code: int, what: str
) -> None:
    done = kcluster("events", *([] if "-c" in words else ["-c", "live"]), *words)
    assert done.returncode == exit_code
    assert what in done.stderr
