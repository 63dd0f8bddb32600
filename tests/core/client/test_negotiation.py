from __future__ import annotations

import pytest

from kcluster.core.client.exchange import Outgoing
from kcluster.core.client.negotiation import CORRELATION, Negotiation
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.message import encode
from kcluster.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from kcluster.wire.messages.fetch import FetchRequest, FetchResponse
from kcluster.wire.messages.metadata import MetadataRequest, MetadataResponse


def fetch(broker: int = 1, correlation: int = 1) -> Outgoing:
    return Outgoing(broker, correlation, FetchRequest(), 12, FetchResponse)


def answer(version: int = 3, error: ErrorCode = ErrorCode.NONE, **served: str) -> memoryview:
    keys = {"fetch": 1, "metadata": 3, "api_versions": 18}
    response = ApiVersionsResponse(
        error_code=error,
        api_keys=[
            ApiVersion(api_key=keys[name], min_version=int(low), max_version=int(high))
            for name, text in served.items()
            for low, high in [text.split("-")]
        ],
    )
    return memoryview(encode(response, version))


def test_requests_wait_until_the_broker_has_said_what_it_serves() -> None:
    negotiation = Negotiation()
    [question] = negotiation.admit(fetch(correlation=1))
    assert (question.correlation, question.version) == (CORRELATION, 3)
    assert negotiation.admit(fetch(correlation=2)) == []
    released = negotiation.answered(1, answer(fetch="4-11"))
    assert [(each.correlation, each.version) for each in released] == [(1, 11), (2, 11)]
    [third] = negotiation.admit(fetch(correlation=3))
    assert third.version == 11


def test_no_more_is_asked_for_than_is_wanted() -> None:
    negotiation = Negotiation()
    negotiation.admit(fetch())
    [released] = negotiation.answered(1, answer(fetch="4-18"))
    assert released.version == 12


def test_each_broker_is_asked_and_asked_again_after_its_connection_is_lost() -> None:
    negotiation = Negotiation()
    negotiation.admit(fetch(1))
    negotiation.answered(1, answer(fetch="4-18"))
    [question] = negotiation.admit(fetch(2))
    assert (question.broker_id, question.correlation) == (2, CORRELATION)
    negotiation.lost(1)
    [question] = negotiation.admit(fetch(1))
    assert question.correlation == CORRELATION
    assert negotiation.answered(2, answer(fetch="4-5"))[0].version == 5


def test_a_broker_that_knows_only_an_older_question_is_asked_that() -> None:
    negotiation = Negotiation()
    negotiation.admit(fetch())
    refusal = answer(0, ErrorCode.UNSUPPORTED_VERSION, api_versions="0-1")
    [question] = negotiation.answered(1, refusal)
    assert (question.correlation, question.version) == (CORRELATION, 1)
    assert isinstance(question.request, ApiVersionsRequest)
    [released] = negotiation.answered(1, answer(1, fetch="4-10"))
    assert released.version == 10


@pytest.mark.parametrize("served", ["0-3", "13-18"])
def test_a_version_that_nobody_has_in_common_is_refused(served: str) -> None:
    negotiation = Negotiation()
    negotiation.admit(fetch())
    with pytest.raises(ApiError, match=f"broker 1 serves Fetch {served} only"):
        negotiation.answered(1, answer(fetch=served))


def test_an_api_that_is_not_served_is_refused_and_so_is_what_would_make_topics() -> None:
    negotiation = Negotiation()
    negotiation.admit(fetch())
    negotiation.answered(1, answer(fetch="4-12", metadata="0-3"))
    with pytest.raises(ApiError, match="serves Metadata 0-3 only"):
        negotiation.admit(Outgoing(1, 5, MetadataRequest(), 12, MetadataResponse))
    negotiation.lost(1)
    negotiation.admit(fetch())
    with pytest.raises(ApiError, match="does not serve Fetch"):
        negotiation.answered(1, answer(metadata="0-12"))
