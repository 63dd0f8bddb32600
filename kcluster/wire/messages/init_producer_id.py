"""InitProducerId (22): a producer id and epoch, for idempotence and for transactions.

Versions 0-6, flexible from 2; 6 is not stable in Kafka 4.3 and is advertised nowhere.

  3   a producer brings its old id and epoch to have the epoch raised (KIP-360)
  4   PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH
  6   two-phase commit (KIP-939)

Sources: KIP-98, KIP-360, KIP-588, KIP-939.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message
from kcluster.wire.types import Bool, Int16, Int32, Int64, String, versions


class InitProducerIdRequest(Message):
    KEY: ClassVar[int] = 22
    VERSIONS: ClassVar[str] = "0-6"
    FLEXIBLE: ClassVar[str] = "2+"

    transactional_id: Annotated[String | None, versions("0+", nullable="0+")] = ""
    """null for a producer that is only idempotent."""
    transaction_timeout_ms: Annotated[Int32, versions("0+")] = 0
    producer_id: Annotated[Int64, versions("3+")] = -1
    producer_epoch: Annotated[Int16, versions("3+")] = -1
    enable_2pc: Annotated[Bool, versions("6+")] = False
    keep_prepared_txn: Annotated[Bool, versions("6+")] = False


class InitProducerIdResponse(Message):
    KEY: ClassVar[int] = 22
    VERSIONS: ClassVar[str] = "0-6"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    producer_id: Annotated[Int64, versions("0+")] = -1
    producer_epoch: Annotated[Int16, versions("0+")] = 0
    ongoing_txn_producer_id: Annotated[Int64, versions("6+")] = -1
    ongoing_txn_producer_epoch: Annotated[Int16, versions("6+")] = -1
