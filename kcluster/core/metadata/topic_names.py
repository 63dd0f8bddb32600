"""Which names a topic may have, and which names are Kafka's own.

Source: `org.apache.kafka.common.internals.Topic`, Apache Kafka 4.3. The length leaves room for
the partition in the name of a log's directory.
"""

from __future__ import annotations

import re
from typing import Final

TOPIC_NAME_MAX: Final = 249
INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state"})

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+\Z")


def topic_name_problem(name: str) -> str | None:
    """Why no topic can be called `name`, or None."""
    if not name:
        return "a topic name must not be empty"
    if name in (".", ".."):
        return f"a topic name must not be {name!r}: it names a directory"
    if len(name) > TOPIC_NAME_MAX:
        return f"a topic name has at most {TOPIC_NAME_MAX} characters, not {len(name)}"
    if _LEGAL.match(name) is None:
        return f"topic name {name!r} has characters other than letters, digits, '.', '_' and '-'"
    return None
