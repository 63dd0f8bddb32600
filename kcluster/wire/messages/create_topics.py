"""CreateTopics (19): create topics, each with its own outcome.

Versions 2-7, flexible from 5. Decided by the controller.

`num_partitions` and `replication_factor` are -1 for the defaults (v4, KIP-464) and where
`assignments` says which replicas each partition has.

  5   the response tells partitions, replication factor and configs (KIP-525)
  7   topic ids (KIP-516)

Sources: KIP-4, KIP-464, KIP-525, KIP-516.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Bool, Int8, Int16, Int32, String, Uuid, versions


class CreatableReplicaAssignment(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    broker_ids: Annotated[list[Int32], versions("0+")] = []


class CreatableTopicConfig(Struct):
    name: Annotated[String, versions("0+")] = ""
    value: Annotated[String | None, versions("0+", nullable="0+")] = ""


class CreatableTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    num_partitions: Annotated[Int32, versions("0+")] = 0
    replication_factor: Annotated[Int16, versions("0+")] = 0
    assignments: Annotated[list[CreatableReplicaAssignment], versions("0+")] = []
    configs: Annotated[list[CreatableTopicConfig], versions("0+")] = []


class CreateTopicsRequest(Message):
    KEY: ClassVar[int] = 19
    VERSIONS: ClassVar[str] = "2-7"
    FLEXIBLE: ClassVar[str] = "5+"

    topics: Annotated[list[CreatableTopic], versions("0+")] = []
    timeout_ms: Annotated[Int32, versions("0+")] = 60000
    validate_only: Annotated[Bool, versions("1+")] = False


class CreatableTopicConfigs(Struct):
    name: Annotated[String, versions("5+")] = ""
    value: Annotated[String | None, versions("5+", nullable="5+")] = ""
    read_only: Annotated[Bool, versions("5+")] = False
    config_source: Annotated[Int8, versions("5+")] = -1
    is_sensitive: Annotated[Bool, versions("5+")] = False


class CreatableTopicResult(Struct):
    name: Annotated[String, versions("0+")] = ""
    topic_id: Annotated[Uuid, versions("7+")] = ZERO_UUID
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("1+", nullable="0+")] = ""
    topic_config_error_code: Annotated[Int16, versions("5+", tag=0, tagged="5+")] = 0
    num_partitions: Annotated[Int32, versions("5+")] = -1
    replication_factor: Annotated[Int16, versions("5+")] = -1
    configs: Annotated[list[CreatableTopicConfigs] | None, versions("5+", nullable="5+")] = []
    """null with an error."""


class CreateTopicsResponse(Message):
    KEY: ClassVar[int] = 19
    VERSIONS: ClassVar[str] = "2-7"
    FLEXIBLE: ClassVar[str] = "5+"

    throttle_time_ms: Annotated[Int32, versions("2+")] = 0
    topics: Annotated[list[CreatableTopicResult], versions("0+")] = []
