"""Every API of Kafka that a kcluster broker does not serve, and why.

With `APIS` these are all that Apache Kafka 4.3.1 defines; a test holds both against its message
definitions, and the README's table is made from them. Nothing here is advertised, so that a
client sees at once what it must do without. An API that comes to be served moves: its line here
goes, one in `APIS` comes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kcluster.wire.types import VersionRange, version_range


class Gap(msgspec.Struct, frozen=True):
    key: int
    name: str
    versions: VersionRange
    """Kafka's; none when Kafka has removed it, too."""
    reason: str


_TRANSACTIONS: Final = "transactions are not there yet"
_SECURITY: Final = (
    "no SASL: a cluster for one machine listens on loopback and trusts whoever is there"
)
_TOKENS: Final = "delegation tokens need SASL"
_SHARE: Final = "share groups (KIP-932) are not there yet"
_STREAMS: Final = "groups of KIP-1071 are not there yet; Streams uses the classic protocol"
_TELEMETRY: Final = "clients would push their metrics where nobody reads them"
_VOTERS: Final = "the coordinator is a quorum of one"
_COORDINATOR: Final = "between Kafka's controllers: the coordinator does it alone"
_BUS: Final = "between Kafka's brokers and controllers: ours say it over ZeroMQ"
_REMOVED: Final = "removed in Kafka 4.0"


def _gap(key: int, name: str, versions: str, reason: str) -> Gap:
    return Gap(key, name, version_range(versions), reason)


GAPS: Final[dict[int, Gap]] = {
    gap.key: gap
    for gap in (
        _gap(4, "LeaderAndIsr", "none", _REMOVED),
        _gap(5, "StopReplica", "none", _REMOVED),
        _gap(6, "UpdateMetadata", "none", _REMOVED),
        _gap(7, "ControlledShutdown", "none", _REMOVED),
        _gap(17, "SaslHandshake", "0-1", _SECURITY),
        _gap(24, "AddPartitionsToTxn", "0-5", _TRANSACTIONS),
        _gap(25, "AddOffsetsToTxn", "0-4", _TRANSACTIONS),
        _gap(26, "EndTxn", "0-5", _TRANSACTIONS),
        _gap(27, "WriteTxnMarkers", "1-2", _TRANSACTIONS),
        _gap(28, "TxnOffsetCommit", "0-5", _TRANSACTIONS),
        _gap(34, "AlterReplicaLogDirs", "1-2", "a broker has one log directory"),
        _gap(36, "SaslAuthenticate", "0-2", _SECURITY),
        _gap(38, "CreateDelegationToken", "1-3", _TOKENS),
        _gap(39, "RenewDelegationToken", "1-2", _TOKENS),
        _gap(40, "ExpireDelegationToken", "1-2", _TOKENS),
        _gap(41, "DescribeDelegationToken", "1-3", _TOKENS),
        _gap(50, "DescribeUserScramCredentials", "0", _SECURITY),
        _gap(51, "AlterUserScramCredentials", "0", _SECURITY),
        _gap(52, "Vote", "0-2", _COORDINATOR),
        _gap(53, "BeginQuorumEpoch", "0-1", _COORDINATOR),
        _gap(54, "EndQuorumEpoch", "0-1", _COORDINATOR),
        _gap(56, "AlterPartition", "2-3", _BUS),
        _gap(58, "Envelope", "0", _BUS),
        _gap(59, "FetchSnapshot", "0-1", _COORDINATOR),
        _gap(62, "BrokerRegistration", "0-4", _BUS),
        _gap(63, "BrokerHeartbeat", "0-2", _BUS),
        _gap(65, "DescribeTransactions", "0", _TRANSACTIONS),
        _gap(66, "ListTransactions", "0-2", _TRANSACTIONS),
        _gap(67, "AllocateProducerIds", "0", _BUS),
        _gap(70, "ControllerRegistration", "0", _COORDINATOR),
        _gap(71, "GetTelemetrySubscriptions", "0", _TELEMETRY),
        _gap(72, "PushTelemetry", "0", _TELEMETRY),
        _gap(73, "AssignReplicasToDirs", "0", "a broker has one log directory"),
        _gap(76, "ShareGroupHeartbeat", "1", _SHARE),
        _gap(77, "ShareGroupDescribe", "1", _SHARE),
        _gap(78, "ShareFetch", "1-2", _SHARE),
        _gap(79, "ShareAcknowledge", "1-2", _SHARE),
        _gap(80, "AddRaftVoter", "0-1", _VOTERS),
        _gap(81, "RemoveRaftVoter", "0", _VOTERS),
        _gap(82, "UpdateRaftVoter", "0", _VOTERS),
        _gap(83, "InitializeShareGroupState", "0", _SHARE),
        _gap(84, "ReadShareGroupState", "0", _SHARE),
        _gap(85, "WriteShareGroupState", "0-1", _SHARE),
        _gap(86, "DeleteShareGroupState", "0", _SHARE),
        _gap(87, "ReadShareGroupStateSummary", "0-1", _SHARE),
        _gap(88, "StreamsGroupHeartbeat", "0", _STREAMS),
        _gap(89, "StreamsGroupDescribe", "0", _STREAMS),
        _gap(90, "DescribeShareGroupOffsets", "0-1", _SHARE),
        _gap(91, "AlterShareGroupOffsets", "0", _SHARE),
        _gap(92, "DeleteShareGroupOffsets", "0", _SHARE),
    )
}
"""By key."""

PARTLY: Final[dict[int, str]] = {
    0: "advertised as 0-13, or librdkafka before 2.8 drops compression (KAFKA-18659)",
    22: "Kafka calls version 6 unstable and does not advertise it either",
    10: "of groups; a transactional id is refused for good, since transactions are not there yet",
    49: "bytes produced and consumed, and request time; what else Kafka knows is refused",
    68: "groups have no configs of their own, and are assigned anew at once",
}
"""What is served with a reservation, by key."""
