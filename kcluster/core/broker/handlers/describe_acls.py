"""DescribeAcls (key 29): there are none, and nothing is forbidden to anybody.

Versions 1-3: 1 adds pattern types (KIP-290), 3 user resources (KIP-373). Answered as Kafka does
where no authorizer is configured: SECURITY_DISABLED. Gap: an authorizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.errors import ErrorCode
from kcluster.wire.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

NO_AUTHORIZER: Final = "kcluster has no authorizer: everybody may do everything"


def handle(
    broker: BrokerCore, call: Call, request: DescribeAclsRequest, turn: Turn
) -> DescribeAclsResponse:
    return DescribeAclsResponse(
        error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER, resources=[]
    )
