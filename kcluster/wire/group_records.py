"""The records of `__consumer_offsets`: what groups are, in Kafka's own formats.

    key     INT16 record type | OffsetCommitKey (types 0 and 1) or GroupMetadataKey (type 2)
    value   INT16 version     | OffsetCommitValue or GroupMetadataValue; null: a tombstone

Written in version 3, the newest that every Kafka since 2.3 reads, an offset with an expiry of its
own in version 1, the only one that has it; read in all of them. Types 3 to 8 and 16 are those of
`consumer_group_records`; others belong to group protocols that are not served.

Sources: `GroupMetadataValue`, `OffsetCommitValue` of Kafka's group coordinator; KIP-848, KIP-915.
"""

from __future__ import annotations

import struct
from typing import Annotated, ClassVar, Final

from kcluster.errors import CorruptLogError, RemoteProtocolError
from kcluster.wire import consumer_group_records as consumer
from kcluster.wire.message import decode, encode
from kcluster.wire.plan import Message, Struct, valid_versions
from kcluster.wire.types import ZERO_UUID, Bytes, Int32, Int64, String, Uuid, versions

_PREFIX: Final = struct.Struct(">h")
_LEGACY_OFFSET_COMMIT: Final = 0
VALUE_VERSION: Final = 3
EXPIRING_VERSION: Final = 1


class OffsetCommitKey(Message):
    KEY: ClassVar[int] = 1
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group: Annotated[String, versions("0")] = ""
    topic: Annotated[String, versions("0")] = ""
    partition: Annotated[Int32, versions("0")] = 0


class OffsetCommitValue(Message):
    KEY: ClassVar[int] = 1
    VERSIONS: ClassVar[str] = "0-4"
    FLEXIBLE: ClassVar[str] = "4+"

    offset: Annotated[Int64, versions("0+")] = 0
    leader_epoch: Annotated[Int32, versions("3+")] = -1
    metadata: Annotated[String, versions("0+")] = ""
    commit_timestamp: Annotated[Int64, versions("0+")] = 0
    """Wall ms."""
    expire_timestamp: Annotated[Int64, versions("1")] = -1
    topic_id: Annotated[Uuid, versions("4+", tag=0, tagged="4+")] = ZERO_UUID


class GroupMetadataKey(Message):
    KEY: ClassVar[int] = 2
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group: Annotated[String, versions("0")] = ""


class MemberMetadata(Struct):
    member_id: Annotated[String, versions("0+")] = ""
    group_instance_id: Annotated[String | None, versions("3+", nullable="3+")] = None
    client_id: Annotated[String, versions("0+")] = ""
    client_host: Annotated[String, versions("0+")] = ""
    rebalance_timeout: Annotated[Int32, versions("1+")] = -1
    """In ms, as the session timeout."""
    session_timeout: Annotated[Int32, versions("0+")] = 0
    subscription: Annotated[Bytes, versions("0+")] = b""
    assignment: Annotated[Bytes, versions("0+")] = b""


class GroupMetadataValue(Message):
    KEY: ClassVar[int] = 2
    VERSIONS: ClassVar[str] = "0-4"
    FLEXIBLE: ClassVar[str] = "4+"

    protocol_type: Annotated[String, versions("0+")] = ""
    generation: Annotated[Int32, versions("0+")] = 0
    protocol: Annotated[String | None, versions("0+", nullable="0+")] = ""
    leader: Annotated[String | None, versions("0+", nullable="0+")] = ""
    current_state_timestamp: Annotated[Int64, versions("2+")] = -1
    """Wall ms of the last change of state."""
    members: Annotated[list[MemberMetadata], versions("0+")] = []


Key = OffsetCommitKey | GroupMetadataKey | consumer.Key
Value = OffsetCommitValue | GroupMetadataValue | consumer.Value

_KEYS: Final[dict[int, type[Key]]] = {
    _LEGACY_OFFSET_COMMIT: OffsetCommitKey,
    OffsetCommitKey.KEY: OffsetCommitKey,
    GroupMetadataKey.KEY: GroupMetadataKey,
    **{key.KEY: key for key, _ in consumer.KINDS},
}
_KINDS: Final[tuple[tuple[type[Key], type[Value]], ...]] = (
    (OffsetCommitKey, OffsetCommitValue),
    (GroupMetadataKey, GroupMetadataValue),
    *consumer.KINDS,
)
_VALUES: Final[dict[type[Key], type[Value]]] = dict(_KINDS)


def encode_key(key: Key) -> bytes:
    return _PREFIX.pack(key.KEY) + encode(key, 0)


def encode_value(value: Value) -> bytes:
    version = min(VALUE_VERSION, valid_versions(type(value)).high)
    if isinstance(value, OffsetCommitValue) and value.expire_timestamp >= 0:
        version = EXPIRING_VERSION
    return _PREFIX.pack(version) + encode(value, version)


def decode_key(data: bytes) -> Key | None:
    """None for a record type that is not known here. Raises CorruptLogError."""
    try:
        [kind] = _PREFIX.unpack_from(data)
        cls = _KEYS.get(kind)
        return None if cls is None else decode(cls, data, 0, _PREFIX.size)
    except (struct.error, RemoteProtocolError) as error:
        raise CorruptLogError(f"a group record's key: {error}") from None


def decode_value(key: Key, data: bytes) -> Value:
    """Raises CorruptLogError."""
    cls = _VALUES[type(key)]
    try:
        [version] = _PREFIX.unpack_from(data)
        # Later versions only add tagged fields, which are skipped (KIP-915).
        return decode(cls, data, min(version, valid_versions(cls).high), _PREFIX.size)
    except (struct.error, RemoteProtocolError) as error:
        raise CorruptLogError(f"a group record's value: {error}") from None
