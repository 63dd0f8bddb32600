"""Events: what changed in a cluster and when, as it is kept in the journal and told to people.

One line of JSON each. `SCHEMA` rises when a name changes its meaning.
"""

from __future__ import annotations

import msgspec

SCHEMA = 1

TYPES = {
    "chaos": "what was done to processes by command",
    "process": "processes that start, serve and end",
    "broker": "brokers registered, fenced and unfenced",
    "election": "leaders",
    "isr": "replicas that fall out of sync and come back",
    "reassign": "partitions moved to other replicas",
    "role": "replicas that lead or follow from now on",
    "log": "logs recovered, truncated, offline",
    "segment": "segments rolled",
    "retention": "segments deleted",
    "compaction": "logs compacted",
    "topic": "topics created and deleted",
    "group": "consumer groups",
    "warning": "what a person should read",
}


class ClusterEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    seq: int
    """Rising by one within a cluster directory; a hole: the journal was cut."""
    at_ms: int
    """Wall clock of the process that it happened in."""
    monotonic_ns: int
    """CLOCK_MONOTONIC, which is the same in every process of a machine, until it boots again."""
    process: int
    """A broker's id, 0 for the coordinator, -1 for the supervisor."""
    incarnation: int
    type: str
    """One of TYPES."""
    event: str
    """What happened, as the code calls it: IsrShrunk, Elected, Died, ..."""
    text: str
    """The same for people."""
    topic: str = ""
    partition: int = -1
    broker: int = -1
    """The one that it is about."""
    fields: dict[str, str | int | bool | list[int]] = {}
    """What else is known, by names that stay."""

    @property
    def subject(self) -> str:
        """What it is about: a partition, a topic, a broker."""
        if self.topic:
            return self.topic if self.partition < 0 else f"{self.topic}-{self.partition}"
        if self.broker >= 0:
            return f"broker {self.broker}" if self.broker else "coordinator"
        if self.process > 0:
            return f"broker {self.process}"
        return "supervisor" if self.process else "coordinator"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ClusterEvent)


_HEAD = b'{"schema":%d,' % SCHEMA


def to_line(event: ClusterEvent) -> bytes:
    return _HEAD + _encoder.encode(event)[1:] + b"\n"


def from_line(line: bytes) -> ClusterEvent:
    """Raises msgspec.DecodeError on what is not one, such as a torn line."""
    try:
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
