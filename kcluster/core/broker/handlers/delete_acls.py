"""DeleteAcls (key 31): refused, each filter, as by a Kafka without an authorizer.

Versions 1-3: 1 adds pattern types (KIP-290), 3 user resources (KIP-373). SECURITY_DISABLED. Gap:
an authorizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.broker.handlers.describe_acls import NO_AUTHORIZER
from kcluster.errors import ErrorCode
from kcluster.wire.messages.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsRequest,
    DeleteAclsResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: DeleteAclsRequest, turn: Turn
) -> DeleteAclsResponse:
    return DeleteAclsResponse(
        filter_results=[
            DeleteAclsFilterResult(
                error_code=ErrorCode.SECURITY_DISABLED,
                error_message=NO_AUTHORIZER,
                matching_acls=[],
            )
            for _ in request.filters
        ]
    )
