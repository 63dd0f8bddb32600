"""ListGroups (key 16): the groups that this broker coordinates.

Versions 0-5: 4 by state (KIP-518), 5 by type (KIP-848); both compared without regard to case. A
list that would leave out groups still being loaded is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.errors import ApiError
from kcluster.wire.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: ListGroupsRequest, turn: Turn
) -> ListGroupsResponse:
    coordinator = broker.groups.coordinator
    if coordinator is None:
        return ListGroupsResponse()
    states = {state.lower() for state in request.states_filter}
    types = {type.lower() for type in request.types_filter}
    try:
        return ListGroupsResponse(
            groups=[
                ListedGroup(
                    group_id=group.id,
                    protocol_type=group.protocol_type,
                    group_state=group.state.value,
                    group_type=group.TYPE,
                )
                for group in coordinator.all_groups()
                if (not states or group.state.value.lower() in states)
                and (not types or group.TYPE in types)
            ]
        )
    except ApiError as error:
        return ListGroupsResponse(error_code=error.code)
