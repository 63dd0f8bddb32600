"""Quotas as the cluster knows them: who is meant, and how much of what they may have.

An entity names a user, a client id, or both; a name of None is the default of its type. Every
quota is per broker and per second.

Source: KIP-13, KIP-124, KIP-546.
"""

from __future__ import annotations

from typing import Final

USER: Final = "user"
CLIENT_ID: Final = "client-id"
IP: Final = "ip"

Entity = tuple[tuple[str, str | None], ...]
"""(type, name) pairs by type."""

PRODUCER_BYTE_RATE: Final = "producer_byte_rate"
CONSUMER_BYTE_RATE: Final = "consumer_byte_rate"
REQUEST_PERCENTAGE: Final = "request_percentage"

WHOLE_NUMBERS: Final = {
    PRODUCER_BYTE_RATE: True,
    CONSUMER_BYTE_RATE: True,
    REQUEST_PERCENTAGE: False,
}
"""The quotas that there are, by key: whether their values are whole numbers."""

NOT_HONOURED: Final = {
    "controller_mutation_rate": "changes of topics are not throttled here",
    "connection_creation_rate": "connections are not throttled here",
}
"""Quotas that Kafka knows as well, by key, and why they are refused."""


def entity_of(user: str | None = "", client_id: str | None = "") -> Entity:
    """ "" leaves a part out; None is its default."""
    parts = ((CLIENT_ID, client_id), (USER, user))
    return tuple((kind, name) for kind, name in parts if name != "")


def levels(user: str, client_id: str) -> list[tuple[Entity, str, str]]:
    """Whose quota a client goes by, the first that has one, with the (user, client id) that share
    it: "" for all. A client that does not name itself only has quotas of its user."""
    of_user = (entity_of(user), user, "")
    of_any_user = (entity_of(None), user, "")
    if not client_id:
        return [of_user, of_any_user]
    return [
        (entity_of(user, client_id), user, client_id),
        (entity_of(user, None), user, client_id),
        of_user,
        (entity_of(None, client_id), user, client_id),
        (entity_of(None, None), user, client_id),
        of_any_user,
        (entity_of(client_id=client_id), "", client_id),
        (entity_of(client_id=None), "", client_id),
    ]
