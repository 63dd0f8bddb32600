"""FindCoordinator (10): which broker coordinates a group or a transaction.

Versions 0-6, flexible from 3.

  1   key_type: 0 group, 1 transaction, 2 share group (v6)
  4   many keys in one request and one answer for each (KIP-699)
  5   no change of layout; TRANSACTION_ABORTABLE may be answered (KIP-890)
  6   share groups (KIP-932)

Sources: KIP-98, KIP-699.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int8, Int16, Int32, String, versions


class FindCoordinatorRequest(Message):
    KEY: ClassVar[int] = 10
    VERSIONS: ClassVar[str] = "0-6"
    FLEXIBLE: ClassVar[str] = "3+"

    key: Annotated[String, versions("0-3")] = ""
    key_type: Annotated[Int8, versions("1+")] = 0
    coordinator_keys: Annotated[list[String], versions("4+")] = []


class Coordinator(Struct):
    key: Annotated[String, versions("4+")] = ""
    node_id: Annotated[Int32, versions("4+")] = 0
    host: Annotated[String, versions("4+")] = ""
    port: Annotated[Int32, versions("4+")] = 0
    error_code: Annotated[Int16, versions("4+")] = 0
    error_message: Annotated[String | None, versions("4+", nullable="4+")] = ""


class FindCoordinatorResponse(Message):
    KEY: ClassVar[int] = 10
    VERSIONS: ClassVar[str] = "0-6"
    FLEXIBLE: ClassVar[str] = "3+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("0-3")] = 0
    error_message: Annotated[String | None, versions("1-3", nullable="1-3")] = ""
    node_id: Annotated[Int32, versions("0-3")] = 0
    host: Annotated[String, versions("0-3")] = ""
    port: Annotated[Int32, versions("0-3")] = 0
    coordinators: Annotated[list[Coordinator], versions("4+")] = []
