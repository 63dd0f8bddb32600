"""CreatePartitions (37): add partitions to topics.

Versions 0-3, flexible from 2. Decided by the controller.

  3   no change of layout; THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599)

Sources: KIP-195, KIP-599.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int16, Int32, String, versions


class CreatePartitionsAssignment(Struct):
    broker_ids: Annotated[list[Int32], versions("0+")] = []


class CreatePartitionsTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    count: Annotated[Int32, versions("0+")] = 0
    """Partitions afterwards, not those to add."""
    assignments: Annotated[
        list[CreatePartitionsAssignment] | None, versions("0+", nullable="0+")
    ] = []
    """null to have the new replicas placed."""


class CreatePartitionsRequest(Message):
    KEY: ClassVar[int] = 37
    VERSIONS: ClassVar[str] = "0-3"
    FLEXIBLE: ClassVar[str] = "2+"

    topics: Annotated[list[CreatePartitionsTopic], versions("0+")] = []
    timeout_ms: Annotated[Int32, versions("0+")] = 0
    validate_only: Annotated[Bool, versions("0+")] = False


class CreatePartitionsTopicResult(Struct):
    name: Annotated[String, versions("0+")] = ""
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = None


class CreatePartitionsResponse(Message):
    KEY: ClassVar[int] = 37
    VERSIONS: ClassVar[str] = "0-3"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    results: Annotated[list[CreatePartitionsTopicResult], versions("0+")] = []
