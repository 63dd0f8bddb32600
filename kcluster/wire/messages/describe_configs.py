"""DescribeConfigs (32): the values of configs, and where each comes from.

Versions 1-4, flexible from 4.

`resource_type`: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.

  1   synonyms: the layers a value was looked up in, first one wins (KIP-226)
  3   types and documentation (KIP-569)

Sources: KIP-133, KIP-226, KIP-569.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int8, Int16, Int32, String, versions


class DescribeConfigsResource(Struct):
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""
    configuration_keys: Annotated[list[String] | None, versions("0+", nullable="0+")] = []
    """null for all."""


class DescribeConfigsRequest(Message):
    KEY: ClassVar[int] = 32
    VERSIONS: ClassVar[str] = "1-4"
    FLEXIBLE: ClassVar[str] = "4+"

    resources: Annotated[list[DescribeConfigsResource], versions("0+")] = []
    include_synonyms: Annotated[Bool, versions("1+")] = False
    include_documentation: Annotated[Bool, versions("3+")] = False


class DescribeConfigsSynonym(Struct):
    name: Annotated[String, versions("1+")] = ""
    value: Annotated[String | None, versions("1+", nullable="0+")] = ""
    source: Annotated[Int8, versions("1+")] = 0


class DescribeConfigsResourceResult(Struct):
    name: Annotated[String, versions("0+")] = ""
    value: Annotated[String | None, versions("0+", nullable="0+")] = ""
    read_only: Annotated[Bool, versions("0+")] = False
    config_source: Annotated[Int8, versions("1+")] = -1
    """1 topic, 2 dynamic broker, 3 dynamic default broker, 4 static broker, 5 default."""
    is_sensitive: Annotated[Bool, versions("0+")] = False
    synonyms: Annotated[list[DescribeConfigsSynonym], versions("1+")] = []
    config_type: Annotated[Int8, versions("3+")] = 0
    documentation: Annotated[String | None, versions("3+", nullable="0+")] = ""


class DescribeConfigsResult(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""
    configs: Annotated[list[DescribeConfigsResourceResult], versions("0+")] = []


class DescribeConfigsResponse(Message):
    KEY: ClassVar[int] = 32
    VERSIONS: ClassVar[str] = "1-4"
    FLEXIBLE: ClassVar[str] = "4+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    results: Annotated[list[DescribeConfigsResult], versions("0+")] = []
