"""DescribeCluster (60): the cluster id, the controller and the brokers.

Versions 0-2, flexible in all.

  1   endpoint_type: 1 brokers, 2 controllers (KIP-919)
  2   fenced brokers on request (KIP-1073)

Sources: KIP-700, KIP-919, KIP-1073.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int8, Int16, Int32, String, versions


class DescribeClusterRequest(Message):
    KEY: ClassVar[int] = 60
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "0+"

    include_cluster_authorized_operations: Annotated[Bool, versions("0+")] = False
    endpoint_type: Annotated[Int8, versions("1+")] = 1
    include_fenced_brokers: Annotated[Bool, versions("2+")] = False


class DescribeClusterBroker(Struct):
    broker_id: Annotated[Int32, versions("0+")] = 0
    host: Annotated[String, versions("0+")] = ""
    port: Annotated[Int32, versions("0+")] = 0
    rack: Annotated[String | None, versions("0+", nullable="0+")] = None
    is_fenced: Annotated[Bool, versions("2+")] = False


class DescribeClusterResponse(Message):
    KEY: ClassVar[int] = 60
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = None
    endpoint_type: Annotated[Int8, versions("1+")] = 1
    cluster_id: Annotated[String, versions("0+")] = ""
    controller_id: Annotated[Int32, versions("0+")] = -1
    brokers: Annotated[list[DescribeClusterBroker], versions("0+")] = []
    cluster_authorized_operations: Annotated[Int32, versions("0+")] = -2147483648
