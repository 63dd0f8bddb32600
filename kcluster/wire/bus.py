"""What our processes say to each other over ZeroMQ: one message set, MessagePack, versionless.

Every message travels in an `Envelope` that names who sent it and which incarnations are meant.
A message for another incarnation of the target, or from a fenced one of the source, is dropped
by the receiver: a ZeroMQ socket may deliver what was queued for the dead to their successors
(KIP-380 solves the same for Kafka with broker epochs).

    frame 0: Envelope      frames 1..n: payload (record batches, untouched)

Everything is at most once. Who needs an answer asks again after a while; who changes state
does so by compare-and-set or by position, so that a second copy changes nothing.

Replication between a leader and a follower, for each partition one *stream*:

    follower                                   leader
      Open(stream, log_end, last_epoch)  --->
                                         <---  Diverge(stream, epoch, end_offset)
      truncates, opens a new stream      --->
                                         <---  Push(stream, base_offset, batches, high_watermark)
      Ack(stream, log_end)               --->
                                         <---  Refuse(stream, error)       not leader, wrong epoch

A stream's id is new for each Open and echoed in all that belongs to it; anything else is dropped.
An `Ack` is a fetch position: "I hold everything below log_end, in this leader epoch". A push
whose base offset is not the follower's log end makes it open a new stream. A push without
batches carries a new high watermark or log start, or asks a silent follower where it stands.
The leader answers each Open it accepts with a push at once, so that an unanswered Open is
repeated by the follower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kcluster.model import COORDINATOR, SUPERVISOR
from kcluster.wire.telling import DescribeImage, DescribeReplicas, Image, Replicas, Watch

# --- shared values ------------------------------------------------------------------------


class ProcessState(msgspec.Struct, frozen=True):
    """A server process as the supervisor knows it."""

    id: int
    """Broker id, or 0 for the coordinator."""
    incarnation: int
    """New for every start; rising within a cluster directory."""
    endpoint: str
    """Where its bus inbox is bound; one for each incarnation."""
    pid: int
    state: str
    """starting, running, paused, stopped, killed, failed."""


class LogEnd(msgspec.Struct, frozen=True):
    topic_id: bytes
    partition: int
    last_epoch: int
    log_end_offset: int
    is_damaged: bool = False
    """It lacks what it had promised: trusted no more than after a power loss."""
    topic: str = ""
    """As its directory is called: a copy under another name counts for nothing."""


class ConfigEntry(msgspec.Struct, frozen=True):
    name: str
    value: str | None


# --- supervisor ---------------------------------------------------------------------------


class Announce(msgspec.Struct, frozen=True, tag=True):
    """Who is where: sent to every process after every change."""

    processes: list[ProcessState]


class Died(msgspec.Struct, frozen=True, tag=True):
    """An incarnation has ended, seen by its parent: certain, and at once."""

    id: int
    incarnation: int


class Freeze(msgspec.Struct, frozen=True, tag=True):
    """The cluster is going down: no elections and no ISR changes from now on (rule 8)."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Shut down cleanly. `controlled`: leaders move away first (KIP-67)."""

    controlled: bool


class Bound(msgspec.Struct, frozen=True, tag=True):
    """Process to supervisor, its first words: my inbox is bound, others may connect now."""

    id: int
    incarnation: int
    endpoint: str
    """As it became: a tcp port that was left open is in it."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Process to supervisor: unfenced and holding the image (a broker), or serving (the rest)."""

    id: int
    incarnation: int


class Traced(msgspec.Struct, frozen=True, tag=True):
    """Process to supervisor: what has changed in it. Traces of one turn in the payload frame."""

    wall_ms: int
    monotonic_ns: int
    """CLOCK_MONOTONIC: the same clock in every process of this machine."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Process to supervisor, its last words: why it cannot go on."""

    id: int
    incarnation: int
    reason: str


class StartCompaction(msgspec.Struct, frozen=True, tag=True):
    """Broker to supervisor: run a compactor for the job in my directory; repeated until it has
    ended. A number that has ended already is told again."""

    id: int
    incarnation: int
    number: int


class CompactionEnded(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to broker: the compactor of this job is no more. `status` 0: what it has to
    tell is in the outcome's file. Else it is an exit code, or minus the signal that ended it."""

    number: int
    status: int


# --- broker and coordinator ---------------------------------------------------------------


class Register(msgspec.Struct, frozen=True, tag=True):
    """A broker asks to be a member; repeated until answered. The same incarnation registered
    again gets the same broker epoch."""

    broker_id: int
    incarnation: int
    host: str
    port: int
    endpoint: str
    restart: str
    """How its logs survived: clean, crash (page cache kept) or lossy (power loss)."""
    logs: list[LogEnd]
    """For an election among replicas that all came back lossy."""
    rack: str | None = None


class Registered(msgspec.Struct, frozen=True, tag=True):
    """The whole image at `metadata_offset`, as records in the payload frame (see
    `core/metadata/records.py`). The broker epoch is the offset of the registration record."""

    incarnation: int
    broker_epoch: int
    metadata_offset: int


class RegisterRefused(msgspec.Struct, frozen=True, tag=True):
    incarnation: int
    reason: str


class MetadataDelta(msgspec.Struct, frozen=True, tag=True):
    """Committed metadata records in the payload frame: those at `first_offset` up to
    `end_offset` (exclusive). A broker that misses what is before asks by its heartbeat."""

    first_offset: int
    end_offset: int


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """At a third of the session timeout, and at once when `metadata_offset` moved."""

    broker_epoch: int
    metadata_offset: int
    """The end (exclusive) of the metadata log that this broker has applied."""
    nonce: int = 0
    """Echoed: a broker that stood still trusts only an answer to what it asked afterwards."""
    wants_shutdown: bool = False


class HeartbeatReply(msgspec.Struct, frozen=True, tag=True):
    broker_epoch: int
    nonce: int
    is_fenced: bool
    may_shut_down: bool = False
    unknown_epoch: bool = False
    """This broker epoch does not hold any more: register again."""


class IsrChange(msgspec.Struct, frozen=True):
    """Compare-and-set on (leader_epoch, partition_epoch), KIP-497; with broker epochs, KIP-903."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    partition_epoch: int
    isr: list[int]
    isr_broker_epochs: list[int]
    min_isr: int = 1 << 31
    """What the leader goes by; it may not have heard of a higher one yet, and then moves its high
    watermark without those that leave."""


class AlterPartition(msgspec.Struct, frozen=True, tag=True):
    broker_epoch: int
    request: int
    changes: list[IsrChange]


class IsrOutcome(msgspec.Struct, frozen=True):
    topic_id: bytes
    partition: int
    error: int
    leader_epoch: int = -1
    partition_epoch: int = -1
    isr: list[int] = []


class PartitionAltered(msgspec.Struct, frozen=True, tag=True):
    """Sent when the change is committed. The same outcome also arrives as metadata delta."""

    request: int
    outcomes: list[IsrOutcome]
    error: int = 0


class AllocateProducerIds(msgspec.Struct, frozen=True, tag=True):
    broker_epoch: int
    request: int


class ProducerIdBlock(msgspec.Struct, frozen=True, tag=True):
    request: int
    first: int
    count: int
    error: int = 0


class Forward(msgspec.Struct, frozen=True, tag=True):
    """A client's request that only the controller can decide (KIP-590): its body, as it came,
    is the payload frame. Not repeated: the broker answers REQUEST_TIMED_OUT itself."""

    correlation: int
    api_key: int
    api_version: int
    client_id: str | None
    timeout_ms: int


class Forwarded(msgspec.Struct, frozen=True, tag=True):
    """The response body in the payload frame, once committed and applied by every live broker
    (or 1 s later, rule 10). `error` other than 0: no body."""

    correlation: int
    error: int = 0


class AreYouThere(msgspec.Struct, frozen=True, tag=True):
    """Broker to broker, when a client's question makes it doubtful; answered at once."""

    number: int


class HereIAm(msgspec.Struct, frozen=True, tag=True):
    number: int
    """Of the question."""


class LogDirFailed(msgspec.Struct, frozen=True, tag=True):
    """A broker took these partitions offline after an I/O error: elect others."""

    broker_epoch: int
    partitions: list[tuple[bytes, int]]


# --- replication --------------------------------------------------------------------------


class OpenEntry(msgspec.Struct, frozen=True, array_like=True):
    topic_id: bytes
    partition: int
    stream: int
    leader_epoch: int
    log_end_offset: int
    last_epoch: int
    """Epoch of the last batch in the follower's log, -1 when it is empty."""
    log_start_offset: int


class Open(msgspec.Struct, frozen=True, tag=True):
    entries: list[OpenEntry]


class DivergeEntry(msgspec.Struct, frozen=True, array_like=True):
    """Largest epoch <= the follower's last one that the leader knows, and its exclusive end
    (KIP-279, rule 2). epoch -1: nothing in common, start at `end_offset` afresh (rule 4)."""

    stream: int
    epoch: int
    end_offset: int
    producers: bytes = b""
    """With epoch -1: what the leader remembers of producers' batches below `end_offset`, as a
    producer snapshot."""


class Diverge(msgspec.Struct, frozen=True, tag=True):
    entries: list[DivergeEntry]


class RefuseEntry(msgspec.Struct, frozen=True, array_like=True):
    stream: int
    error: int


class Refuse(msgspec.Struct, frozen=True, tag=True):
    entries: list[RefuseEntry]


class PushEntry(msgspec.Struct, frozen=True, array_like=True):
    """`size` bytes of whole batches in the payload, in the order of the entries; 0 for none."""

    stream: int
    base_offset: int
    """Offset of the first batch; without batches, the end of what was pushed so far."""
    size: int
    high_watermark: int
    log_start_offset: int


class Push(msgspec.Struct, frozen=True, tag=True):
    """The payload frames, joined, are the bytes of all entries, in order. A batch lies within
    one frame, and so does an entry."""

    entries: list[PushEntry]


ABANDONED = -1
"""Instead of a position: the follower has left this stream, because its log has failed."""


class AckEntry(msgspec.Struct, frozen=True, array_like=True):
    stream: int
    log_end_offset: int
    """Or ABANDONED."""
    high_watermark: int
    log_start_offset: int


class Ack(msgspec.Struct, frozen=True, tag=True):
    entries: list[AckEntry]


# --- clients of our own, and status -------------------------------------------------------


class KafkaRequest(msgspec.Struct, frozen=True, tag=True):
    """One frame of Kafka's protocol (header and body, no length prefix) in the payload; from a
    control connection. Answered by `KafkaResponse` with the response frame."""


class KafkaResponse(msgspec.Struct, frozen=True, tag=True):
    pass


Message = (
    Announce | Died | Freeze | Stop | Bound | Ready | Traced | Failed
    | StartCompaction | CompactionEnded | Register | Registered | RegisterRefused
    | MetadataDelta | Heartbeat | HeartbeatReply
    | AlterPartition | PartitionAltered | AllocateProducerIds | ProducerIdBlock
    | Forward | Forwarded | LogDirFailed | AreYouThere | HereIAm
    | Open | Diverge | Refuse | Push | Ack
    | KafkaRequest | KafkaResponse | Watch
    | DescribeReplicas | Replicas | DescribeImage | Image
)  # fmt: skip


SPEAKER: Final[dict[type[msgspec.Struct], int]] = {
    **dict.fromkeys((Announce, Died, Freeze, Stop, CompactionEnded), SUPERVISOR),
    **dict.fromkeys(
        (
            Registered, RegisterRefused, MetadataDelta, HeartbeatReply, PartitionAltered,
            ProducerIdBlock, Forwarded,
        ),
        COORDINATOR,
    ),
}  # fmt: skip
"""The bus address of whom alone may say this."""

QUESTIONS: Final = frozenset({KafkaRequest, DescribeReplicas, DescribeImage, Watch})
"""All that a control connection may say."""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    source: int
    source_epoch: int
    """Incarnation of the sender; 0 for a control connection."""
    target: int
    target_epoch: int
    """Incarnation of the receiver that is meant; 0 when it is not known."""
    message: Message


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode(frame: bytes | bytearray | memoryview) -> Envelope:
    """Raises msgspec.DecodeError (or its subclass ValidationError) on anything that is not one."""
    try:
        return _decoder.decode(frame)
    except (UnicodeDecodeError, RecursionError) as error:
        # Of a string, or of values in values: msgspec lets these two through as they are.
        raise msgspec.DecodeError(str(error)) from None


def accepts(envelope: Envelope, id: int, incarnation: int, known: Mapping[int, int]) -> bool:
    """Whether the process `id` in this `incarnation` may take what arrived in its inbox.

    `known` are the newest incarnations of the others that it heard of. Not for what was meant
    for a predecessor (ZeroMQ delivers it to the successor), nor from one that has a successor.
    """
    if envelope.target != id:
        return False
    if envelope.target_epoch not in (0, incarnation):
        return False
    return envelope.source_epoch == 0 or envelope.source_epoch >= known.get(envelope.source, 0)
