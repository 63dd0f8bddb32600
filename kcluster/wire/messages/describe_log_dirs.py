"""DescribeLogDirs (35): what lies in this broker's log directory, how large, how far behind.

Versions 1-5, flexible from 2.

  3   a top-level error
  4   bytes of the volume, total and usable (KIP-827)
  5   whether the directory is cordoned (KIP-1066)

Sources: KIP-113, KIP-827.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int16, Int32, Int64, String, versions


class DescribableLogDirTopic(Struct):
    topic: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[Int32], versions("0+")] = []


class DescribeLogDirsRequest(Message):
    KEY: ClassVar[int] = 35
    VERSIONS: ClassVar[str] = "1-5"
    FLEXIBLE: ClassVar[str] = "2+"

    topics: Annotated[list[DescribableLogDirTopic] | None, versions("0+", nullable="0+")] = []


class DescribeLogDirsPartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    partition_size: Annotated[Int64, versions("0+")] = 0
    offset_lag: Annotated[Int64, versions("0+")] = 0
    is_future_key: Annotated[Bool, versions("0+")] = False


class DescribeLogDirsTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[DescribeLogDirsPartition], versions("0+")] = []


class DescribeLogDirsResult(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    log_dir: Annotated[String, versions("0+")] = ""
    topics: Annotated[list[DescribeLogDirsTopic], versions("0+")] = []
    total_bytes: Annotated[Int64, versions("4+")] = -1
    usable_bytes: Annotated[Int64, versions("4+")] = -1
    is_cordoned: Annotated[Bool, versions("5+")] = False


class DescribeLogDirsResponse(Message):
    KEY: ClassVar[int] = 35
    VERSIONS: ClassVar[str] = "1-5"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("3+")] = 0
    results: Annotated[list[DescribeLogDirsResult], versions("0+")] = []
