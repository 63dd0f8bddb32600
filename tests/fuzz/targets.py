"""The targets by name. Each takes any bytes and must come back in time, or it is a crash.

python -m tests.fuzz.run                    all of them, under atheris
python -m tests.fuzz.run TARGET             one of them
python -m tests.fuzz.run TARGET FILE        one input again, without atheris
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tests.fuzz import broker_targets, log_targets, wire_targets

Target = Callable[[bytes], None]

INPUT_BYTES: Final = 4096
"""Longer inputs are not tried."""
CPU_SECONDS: Final = 5.0
"""Of one input: hundreds of times what any of them needs."""

TARGETS: Final[dict[str, Target]] = {
    "request_header": wire_targets.request_header,
    "messages": wire_targets.messages,
    "record_batch": wire_targets.record_batch,
    "compressed": wire_targets.compressed,
    "bus_message": wire_targets.bus_message,
    "group_record": wire_targets.group_record,
    "consumer_metadata": wire_targets.consumer_metadata,
    "partition": log_targets.partition,
    "pushed": log_targets.pushed,
    "small_file": log_targets.small_file,
    "metadata": log_targets.metadata,
    "broker": broker_targets.requests,
}


class TooSlow(Exception):
    """An input took longer than the bound."""


def run_target(name: str, data: bytes) -> None:
    """Raises whatever the target does not expect, and TooSlow."""
    start = time.process_time()
    TARGETS[name](data)
    spent = time.process_time() - start
    if spent > CPU_SECONDS:
        raise TooSlow(f"{name}: {len(data)} bytes took {spent:.1f} s of CPU")
