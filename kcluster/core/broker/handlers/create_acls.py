"""CreateAcls (key 30): refused, each of them, as by a Kafka without an authorizer.

Versions 1-3: 1 adds pattern types (KIP-290), 3 user resources (KIP-373). SECURITY_DISABLED. Gap:
an authorizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.broker.handlers.describe_acls import NO_AUTHORIZER
from kcluster.errors import ErrorCode
from kcluster.wire.messages.create_acls import (
    AclCreationResult,
    CreateAclsRequest,
    CreateAclsResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: CreateAclsRequest, turn: Turn
) -> CreateAclsResponse:
    return CreateAclsResponse(
        results=[
            AclCreationResult(error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
            for _ in request.creations
        ]
    )
