"""What the Python members share: options, lines out, the word to stop, commits that are due."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable

POLL_MS = 100
RECORDS_MAX = 500
"""Of one poll."""
COMMIT_MS = 10_000
"""After which a commit counts as failed, where the library lets one say so."""


class Options(argparse.Namespace):
    bootstrap: str
    topic: str
    group: str
    instance: str | None
    strategy: str
    protocol: str
    session_ms: int | None
    heartbeat_ms: int | None

    def times(self, session: str, heartbeat: str) -> dict[str, int]:
        """What was given of the two, under the library's names: the rest is its own."""
        given = {session: self.session_ms, heartbeat: self.heartbeat_ms}
        return {name: ms for name, ms in given.items() if ms is not None}


def options() -> Options:
    logging.getLogger().addHandler(Complaints(logging.ERROR))
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--instance")
    parser.add_argument("--strategy", default="range")
    parser.add_argument("--protocol", default="classic")
    parser.add_argument("--session-ms", type=int)
    parser.add_argument("--heartbeat-ms", type=int)
    return parser.parse_args(namespace=Options())


class Complaints(logging.Handler):
    """What a library logs as an error, as lines."""

    def emit(self, record: logging.LogRecord) -> None:
        say("error", error=record.getMessage()[:200])


def say(event: str, **fields: object) -> None:
    line = {"event": event, "at_ns": time.monotonic_ns(), **fields}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def runs(places: Iterable[tuple[int, int]]) -> list[list[int]]:
    """(partition, offset) in the order they came, as [partition, first, last] without gaps."""
    found: dict[int, list[list[int]]] = {}
    for partition, offset in places:
        mine = found.setdefault(partition, [])
        if mine and mine[-1][2] + 1 == offset:
            mine[-1][2] = offset
        else:
            mine.append([partition, offset, offset])
    return [run for mine in found.values() for run in mine]


def until_told() -> threading.Event:
    """Set on SIGTERM, and when standard input ends: no member outlives who started it."""
    told = threading.Event()

    def read() -> None:
        # Past sys.stdin, whose lock would be held when the interpreter ends.
        while os.read(0, 1):
            pass
        told.set()

    signal.signal(signal.SIGTERM, lambda *_: told.set())
    threading.Thread(target=read, daemon=True).start()
    return told


class Member:
    """What this member owns, and the offsets it has still to commit."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.due: dict[int, int] = {}

    def assigned(self, partitions: Iterable[int], generation: int = -1) -> None:
        came = sorted(partitions)
        self.owned.update(came)
        say("assigned", partitions=came, generation=generation)

    def revoked(self, partitions: Iterable[int], event: str = "revoked") -> None:
        went = sorted(partitions)
        self.owned.difference_update(went)
        for partition in went:
            self.due.pop(partition, None)
        say(event, partitions=went)

    def records(self, places: list[tuple[int, int]]) -> None:
        """Takes those of owned partitions; the others' owners read them themselves."""
        places = [place for place in places if place[0] in self.owned]
        if places:
            say("records", runs=runs(places))
        for partition, offset in places:
            self.due[partition] = offset + 1

    def committed(self, offsets: dict[int, int], began_ns: int) -> None:
        say("committed", offsets=offsets, began_ns=began_ns)
        for partition, offset in offsets.items():
            if self.due.get(partition) == offset:
                del self.due[partition]

    def commit_failed(self, offsets: dict[int, int], error: BaseException) -> None:
        say("commit_failed", offsets=offsets, error=f"{type(error).__name__}: {error}"[:200])
