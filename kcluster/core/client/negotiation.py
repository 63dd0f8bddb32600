"""Which version of a request to send: the highest that the asker and the broker both know.

    admit(request) --versions known?--> the request, in its version
                     no: ApiVersions first; the request waits for the answer

Only to brokers that may be of another make or release: over ZeroMQ both ends are of one. What a
broker serves is forgotten with its connection, since another release may answer next time.

Sources: KIP-35, KIP-511.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kcluster import __version__
from kcluster.core.client.exchange import Outgoing
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.apis import METADATA, api_of
from kcluster.wire.message import decode
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

API_VERSIONS_VERSION: Final = 3

CORRELATION: Final = 0
"""Of the question itself; an Exchange counts from 1."""

LOWEST: Final = {METADATA: 4}
"""Below these versions a request would not say what is meant: Metadata would make topics."""


@dataclass(slots=True)
class _Question:
    version: int
    waiting: list[Outgoing]


class Negotiation:
    def __init__(self) -> None:
        self._served: dict[int, dict[int, tuple[int, int]]] = {}
        """By broker (its connection), by API: lowest and highest version."""
        self._asked: dict[int, _Question] = {}

    def admit(self, request: Outgoing) -> list[Outgoing]:
        """What to send now. Raises ApiError when the broker does not serve this request."""
        broker = request.broker_id
        if broker in self._served:
            self._lower(request)
            return [request]
        question = self._asked.get(broker)
        if question is not None:
            question.waiting.append(request)
            return []
        self._asked[broker] = _Question(API_VERSIONS_VERSION, [request])
        return [_question(broker, API_VERSIONS_VERSION)]

    def answered(self, broker: int, body: memoryview) -> list[Outgoing]:
        """The body of the broker's answer; the requests that waited for it, or the question once
        more, in a version that it knows."""
        question = self._asked.get(broker)
        if question is None:
            return []
        is_unknown = int.from_bytes(body[:2], "big") == ErrorCode.UNSUPPORTED_VERSION
        response = decode(ApiVersionsResponse, body, 0 if is_unknown else question.version)
        served = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
        if is_unknown and question.version:
            highest = served.get(ApiVersionsRequest.KEY, (0, 0))[1]
            question.version = max(0, min(highest, question.version - 1))
            return [_question(broker, question.version)]
        del self._asked[broker]
        if response.error_code:
            code = ErrorCode(response.error_code)
            raise ApiError(code, f"broker {broker} does not say what it serves: {code.name}")
        self._served[broker] = served
        for request in question.waiting:
            self._lower(request)
        return question.waiting

    def lost(self, broker: int) -> None:
        self._served.pop(broker, None)
        self._asked.pop(broker, None)

    def _lower(self, request: Outgoing) -> None:
        api = api_of(request.request)
        low, high = self._served[request.broker_id].get(api.key, (0, -1))
        version = min(request.version, high)
        if version < max(low, api.versions.low, LOWEST.get(api.key, 0)):
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"broker {request.broker_id} does not serve {api.name}"
                if high < 0
                else f"broker {request.broker_id} serves {api.name} {low}-{high} only",
            )
        request.version = version


def _question(broker: int, version: int) -> Outgoing:
    request = ApiVersionsRequest(
        client_software_name="kcluster", client_software_version=__version__
    )
    return Outgoing(broker, CORRELATION, request, version, ApiVersionsResponse)
