"""DescribeConfigs (key 32): every knob of a topic or of this broker, and where its value is from.

Versions 1-4: 1 adds sources and synonyms (KIP-226), 3 types and documentation (KIP-569). A
topic's value is its override, else what the broker's knob of the same meaning has; the
*synonyms* are all places that hold a value, the one that counts first. Knobs that are known to
Kafka and not honoured here show their default: they cannot be set to anything else.

A broker describes itself, and by the empty name the cluster-wide overrides, as Kafka's do. Of
itself it tells read-only who it is and where it listens, which a launcher said and no config. What
Kafka has configs for and kcluster has not is described by an empty list, so that tools which ask
for everything go on: groups (32: their configs belong to the protocol of KIP-848), client metrics
(16) and the loggers of this broker (8: levels cannot be changed while it runs).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from kcluster.config import BROKER_KNOBS, IDENTITY_KNOBS, TOPIC_KNOBS, Knob
from kcluster.core.metadata.image import (
    BROKER_LOGGER_RESOURCE,
    BROKER_RESOURCE,
    CLIENT_METRICS_RESOURCE,
    GROUP_RESOURCE,
    TOPIC_RESOURCE,
)
from kcluster.core.metadata.topic_names import topic_name_problem
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

# Sources, as `ConfigEntry.ConfigSource` numbers them on the wire.
TOPIC_OVERRIDE: Final = 1
BROKER_OVERRIDE: Final = 2
CLUSTER_OVERRIDE: Final = 3
STATIC: Final = 4
DEFAULT: Final = 5

Place = tuple[str, str, int]
"""(name, value, source): one place that holds a value for a knob."""


def handle(
    broker: BrokerCore, call: Call, request: DescribeConfigsRequest, turn: Turn
) -> DescribeConfigsResponse:
    # Each resource once, as Kafka: some 40 configs for two bytes more would be a bargain.
    resources = {(each.resource_type, each.resource_name): each for each in request.resources}
    return DescribeConfigsResponse(
        results=[_result(broker, request, resource) for resource in resources.values()]
    )


def _result(
    broker: BrokerCore, request: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> DescribeConfigsResult:
    try:
        configs = _configs(broker, request, resource)
        code, message = ErrorCode.NONE, None
    except ApiError as error:
        configs, code, message = [], error.code, error.message
    return DescribeConfigsResult(
        error_code=code,
        error_message=message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=configs,
    )


def _configs(
    broker: BrokerCore, request: DescribeConfigsRequest, resource: DescribeConfigsResource
) -> list[DescribeConfigsResourceResult]:
    # An empty list of keys means all of them, like null; some clients send it.
    wanted = set(resource.configuration_keys or ())

    def is_wanted(knob: Knob) -> bool:
        return not wanted or knob.name in wanted

    name = resource.resource_name
    described: Iterable[tuple[Knob, list[Place], bool]]
    if resource.resource_type == TOPIC_RESOURCE:
        _check_topic(broker, name)
        described = (
            (knob, topic_places(broker, name, knob), False)
            for knob in TOPIC_KNOBS.values()
            if is_wanted(knob)
        )
    elif resource.resource_type == BROKER_RESOURCE and name == "":
        overrides = broker.image.overrides(BROKER_RESOURCE, "")
        described = (
            (knob, [(knob.name, overrides[knob.name], CLUSTER_OVERRIDE)], False)
            for knob in BROKER_KNOBS.values()
            if knob.name in overrides and is_wanted(knob)
        )
    elif resource.resource_type == BROKER_RESOURCE:
        _check_broker(broker, name)
        described = itertools.chain(
            (
                (knob, broker_places(broker, knob), not knob.is_dynamic)
                for knob in BROKER_KNOBS.values()
                if is_wanted(knob)
            ),
            (
                (knob, [(knob.name, broker.settings.identity[knob.name], STATIC)], True)
                for knob in IDENTITY_KNOBS.values()
                if knob.name in broker.settings.identity and is_wanted(knob)
            ),
        )
    elif resource.resource_type == BROKER_LOGGER_RESOURCE:
        _check_broker(broker, name)
        return []
    elif resource.resource_type in (GROUP_RESOURCE, CLIENT_METRICS_RESOURCE):
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "a group, or client metrics, need a name")
        return []
    else:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"nothing of resource type {resource.resource_type} has configs",
        )
    return [_described(request, *entry) for entry in _by_name(described)]


def _by_name(
    described: Iterable[tuple[Knob, list[Place], bool]],
) -> list[tuple[Knob, list[Place], bool]]:
    return sorted(described, key=lambda entry: entry[0].name)


def _check_topic(broker: BrokerCore, name: str) -> None:
    if name in broker.image.topics:
        return
    problem = topic_name_problem(name)
    if problem is not None:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")


def _check_broker(broker: BrokerCore, name: str) -> None:
    if not name.isascii() or not name.isdecimal():
        raise ApiError(ErrorCode.INVALID_REQUEST, f"a broker id is a number, not {name!r}")
    if int(name) != broker.broker_id:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"this is broker {broker.broker_id}: ask broker {name} itself about its configs",
        )


def topic_places(broker: BrokerCore, topic: str, knob: Knob) -> list[Place]:
    """All places that hold a value of a topic's knob, the one that counts first."""
    places: list[Place] = []
    overrides = broker.image.overrides(TOPIC_RESOURCE, topic)
    if knob.name in overrides:
        places.append((knob.name, overrides[knob.name], TOPIC_OVERRIDE))
    if knob.synonym:
        places += broker_places(broker, BROKER_KNOBS[knob.synonym])
    else:
        places.append((knob.name, knob.default, DEFAULT))
    return places


def broker_places(broker: BrokerCore, knob: Knob) -> list[Place]:
    """All places that hold a value of this broker's knob, the one that counts first."""
    name = knob.name
    places: list[Place] = []
    for layer, source in (
        (broker.image.overrides(BROKER_RESOURCE, str(broker.broker_id)), BROKER_OVERRIDE),
        (broker.image.overrides(BROKER_RESOURCE, ""), CLUSTER_OVERRIDE),
        (broker.settings.static, STATIC),
    ):
        if name in layer:
            places.append((name, layer[name], source))
    places.append((name, knob.default, DEFAULT))
    return places


def _described(
    request: DescribeConfigsRequest, knob: Knob, places: list[Place], is_read_only: bool
) -> DescribeConfigsResourceResult:
    _, value, source = places[0]
    return DescribeConfigsResourceResult(
        name=knob.name,
        value=value,
        read_only=is_read_only,
        config_source=source,
        is_sensitive=False,
        synonyms=[
            DescribeConfigsSynonym(name=name, value=text, source=place)
            for name, text, place in (places if request.include_synonyms else ())
        ],
        config_type=knob.kind.value,
        documentation=_documentation(knob) if request.include_documentation else None,
    )


def _documentation(knob: Knob) -> str:
    if knob.honoured:
        return knob.doc
    return f"{knob.doc} ({knob.reason})" if knob.doc else knob.reason
