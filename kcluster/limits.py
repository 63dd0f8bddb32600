"""Bounds that are ours and not Kafka's knobs. Every queue, buffer and frame has one."""

from __future__ import annotations

from typing import Final

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What has no knob in Kafka."""

    other_request_bytes: int = 8 << 20
    """Largest request that is not a Produce."""
    header_tagged_fields: int = 16
    requests_in_flight: int = 8
    """Of one connection; then its socket is not read until one is answered."""
    first_frame_ms: int = 10_000
    frame_ms: int = 30_000
    slow_frame_ms: int = 500
    """A frame that takes longer may be cut off when memory for requests is short ..."""
    slow_frame_bytes_per_s: int = 4 << 20
    """... if less than this came of it."""
    reply_queue_bytes: int = 128 << 20
    """Of one connection; a reader slower than that is cut off."""
    all_replies_bytes: int = 256 << 20
    """Of all connections of a broker; beyond it the readers with most of them are cut off."""
    events_per_turn: int = 512
    """What one wake-up brings beyond that is for the next turn, when answers have left."""
    held_request_bytes: int = 128 << 20
    """Of requests that wait until a broker may serve; who brings more is cut off."""
    request_objects: int = 15_000
    """Array elements and tagged fields of one request: enough to name all partitions of a cluster,
    and few enough that others do not wait while it is taken in (some 25 ms for 25,000)."""
    described_resources: int = 10_500
    """The same of one DescribeConfigs, whose elements take longer: all topics and brokers."""
    decode_objects: int = 200_000
    """Array elements and tagged fields that one message may have when it is decoded, and records
    that a compressed batch may have for a broker to look into it."""
    unpacked_batch_bytes: int = 16 << 20
    """What a compressed batch may become for a broker to look into it."""
    follower_credit_bytes: int = 4 << 20
    """Pushed to one follower broker and not yet acknowledged."""
    bus_message_bytes: int = 128 << 20
    """Of one frame, and of all payload frames of a message."""
    bus_frames: int = 20_000
    """Of one message."""
    send_queue_max: int = 10_000
    """Messages waiting in one ZeroMQ socket."""
    arena_bytes: int = 2 << 20
    purgatory_requests: int = 10_000
    """Requests of one broker that wait for a condition."""
    groups_per_shard: int = 20_000
    """Of one partition of `__consumer_offsets`."""
    group_members: int = 10_000
    """Of one group, with those that have been given an id and have not come back with it."""
    parked_group_requests: int = 2_000
    """Of one such partition, while it is loaded."""
    metadata_tail_records: int = 10_000
    """Committed metadata records kept in memory to bring brokers up to date."""
    metadata_snapshot_records: int = 20_000
    """Records after the last snapshot at which a new one is written."""
    producers_per_partition: int = 10_000
    quota_entities: int = 10_000
    """Users, client ids and pairs of them that have quotas."""
    quota_clients: int = 10_000
    """Whose rates a broker keeps; beyond it who was met first is forgotten."""
    cluster_partitions: int = 10_000
    """Of all topics together; one request creates no more than that either."""


LIMITS: Final = Limits()
