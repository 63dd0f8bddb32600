"""DeleteTopics (20): delete topics, by name, or from version 6 by id.

Versions 1-6, flexible from 4. Decided by the controller.

  5   error_message (KIP-599)
  6   `topics` with name or id instead of `topic_names` (KIP-516)

Sources: KIP-4, KIP-516.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Int16, Int32, String, Uuid, versions


class DeleteTopicState(Struct):
    name: Annotated[String | None, versions("6+", nullable="6+")] = None
    topic_id: Annotated[Uuid, versions("6+")] = ZERO_UUID


class DeleteTopicsRequest(Message):
    KEY: ClassVar[int] = 20
    VERSIONS: ClassVar[str] = "1-6"
    FLEXIBLE: ClassVar[str] = "4+"

    topics: Annotated[list[DeleteTopicState], versions("6+")] = []
    topic_names: Annotated[list[String], versions("0-5")] = []
    timeout_ms: Annotated[Int32, versions("0+")] = 0


class DeletableTopicResult(Struct):
    name: Annotated[String | None, versions("0+", nullable="6+")] = ""
    topic_id: Annotated[Uuid, versions("6+")] = ZERO_UUID
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("5+", nullable="5+")] = None


class DeleteTopicsResponse(Message):
    KEY: ClassVar[int] = 20
    VERSIONS: ClassVar[str] = "1-6"
    FLEXIBLE: ClassVar[str] = "4+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    responses: Annotated[list[DeletableTopicResult], versions("0+")] = []
