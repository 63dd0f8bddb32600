"""What topics and configs may be: rules shared by the handlers, and the records of new partitions.

Topic names are in `metadata/topic_names.py`; and because metrics of Kafka's turn "." into "_",
no two topics may differ only in that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from kcluster.config import TOPIC_KNOBS, Settings, check_broker_config, check_topic_config
from kcluster.core.controller.brokers import Brokers
from kcluster.core.controller.decision import Decision
from kcluster.core.controller.partitions import Partitions
from kcluster.core.controller.placement import in_sync_at_birth
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import (
    BROKER_LOGGER_RESOURCE,
    BROKER_RESOURCE,
    CLIENT_METRICS_RESOURCE,
    GROUP_RESOURCE,
    TOPIC_RESOURCE,
    ClusterImage,
)
from kcluster.core.metadata.metadata_log import MetadataLog
from kcluster.core.metadata.topic_names import topic_name_problem
from kcluster.errors import ApiError, ErrorCode
from kcluster.limits import LIMITS
from kcluster.model import TopicId

METADATA_TOPIC = "__cluster_metadata"

CLUSTER_WIDE_ONLY = ("min.insync.replicas", "unclean.leader.election.enable")
"""The controller elects by these for all brokers: one broker alone must not see them otherwise."""


class Deciding(msgspec.Struct):
    """What a handler decides with. Records go into `decision`, which replays them at once."""

    decision: Decision
    brokers: Brokers
    partitions: Partitions
    log: MetadataLog
    settings: Settings
    random: Random
    expected_brokers: int
    """Brokers that the cluster was started with; some may not have registered yet."""

    @property
    def image(self) -> ClusterImage:
        return self.decision.image


def check_name(image: ClusterImage, name: str) -> None:
    """Raises INVALID_TOPIC_EXCEPTION or TOPIC_ALREADY_EXISTS."""
    if name == METADATA_TOPIC:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} is the controller's own log")
    problem = topic_name_problem(name)
    if problem is not None:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    if name in image.topics:
        raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    if "." in name or "_" in name:
        flat = name.replace(".", "_")
        for other in sorted(image.topics):
            if other.replace(".", "_") == flat:
                raise ApiError(
                    ErrorCode.INVALID_TOPIC_EXCEPTION,
                    f"Topic '{name}' collides with '{other}': '.' and '_' count as the same.",
                )


def check_partition_budget(image: ClusterImage, added: int) -> None:
    present = sum(len(topic.partitions) for topic in image.topics.values())
    if present + added > LIMITS.cluster_partitions:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"{added} more partition(s) would be too many: the cluster has {present}, "
            f"and a cluster of kcluster holds at most {LIMITS.cluster_partitions}.",
        )


def default_replication_factor(deciding: Deciding) -> int:
    """`default.replication.factor`; -1: three, or as many as there are brokers. Those that are
    about to register count, or a topic made during the start would stay small for ever."""
    factor = deciding.settings.int("default.replication.factor")
    if factor != -1:
        return factor
    return min(3, max(len(deciding.image.brokers), deciding.expected_brokers, 1))


def new_topic_id(deciding: Deciding) -> TopicId:
    """Random, never one that is in use, zero, or printed with a leading dash (KIP-516)."""
    while True:
        id = deciding.random.randbytes(16)
        if any(id[:15]) and id not in deciding.image.topic_names and id[0] >> 2 != 62:
            return TopicId(id)


def add_partitions(
    deciding: Deciding, topic_id: bytes, assignments: Sequence[Sequence[int]], first: int = 0
) -> None:
    for index, replicas in enumerate(assignments, first):
        isr = in_sync_at_birth(deciding.image, replicas)
        assert isr, "placement and check_assignment see to a live replica"
        deciding.decision.add(
            r.PartitionChanged(
                topic_id=topic_id,
                partition=index,
                replicas=list(replicas),
                isr=isr,
                leader=isr[0],
                leader_epoch=0,
                partition_epoch=0,
            )
        )


# --- configs ------------------------------------------------------------------------------

_UNCONFIGURED = {
    BROKER_LOGGER_RESOURCE: "The loggers of a broker (8)",
    CLIENT_METRICS_RESOURCE: "Client metrics (16)",
    GROUP_RESOURCE: "Groups (32)",
}


def check_resource(image: ClusterImage, resource: int, name: str) -> None:
    """Whether there is such a thing to configure."""
    if resource == TOPIC_RESOURCE:
        if name not in image.topics:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Topic '{name}' does not exist.")
    elif resource == BROKER_RESOURCE:
        if name and not (name.isdecimal() and int(name) in image.brokers):
            raise ApiError(
                ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker '{name}' is not registered."
            )
    else:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"{_UNCONFIGURED.get(resource, f'Resource type {resource}')} cannot be configured:"
            " only topics (2) and brokers (4) can.",
        )


def check_config(resource: int, name: str, key: str, value: str | None) -> str:
    """The value, checked; raises INVALID_CONFIG or INVALID_REQUEST with the reason."""
    if value is None:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"{key} has no value")
    if resource == TOPIC_RESOURCE:
        return check_topic_config(key, value)
    if name and key in CLUSTER_WIDE_ONLY:
        raise ApiError(
            ErrorCode.INVALID_CONFIG,
            f"{key} can only be set for all brokers together (empty name), or for a topic",
        )
    return check_broker_config(key, value)


def alter_each(
    deciding: Deciding,
    request: Any,
    one: type[Any],
    changes_of: Callable[[Deciding, Any], dict[str, str | None]],
) -> list[Any]:
    """AlterConfigs and IncrementalAlterConfigs: each resource is changed whole or not at all, and
    one that is named twice is refused. `one` is the class of a result; `changes_of(deciding,
    resource)` checks what is asked for and gives the overrides that it leads to."""
    times = Counter((entry.resource_type, entry.resource_name) for entry in request.resources)
    results = []
    for entry in request.resources:
        resource, name = entry.resource_type, entry.resource_name
        result = one(resource_type=resource, resource_name=name, error_message=None)
        try:
            if times[resource, name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "The resource is named more than once.")
            check_resource(deciding.image, resource, name)
            changes = changes_of(deciding, entry)
            if not request.validate_only:
                change_configs(deciding, resource, name, changes)
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        results.append(result)
    return results


def change_configs(
    deciding: Deciding, resource: int, name: str, changes: dict[str, str | None]
) -> None:
    """Write down checked changes; None removes. What is so already makes no record."""
    image = deciding.image
    for key, value in sorted(changes.items()):
        if image.overrides(resource, name).get(key) != value:
            deciding.decision.add(r.ConfigChanged(resource, name, key, value))
    if resource == BROKER_RESOURCE and not name:
        deciding.settings.dynamic = dict(image.overrides(BROKER_RESOURCE, ""))
    if any(key in changes for key in CLUSTER_WIDE_ONLY):
        topics = [name] if resource == TOPIC_RESOURCE else None
        deciding.partitions.configs_changed(deciding.decision, topics)


_TOPIC_CONFIG, _DYNAMIC_DEFAULT, _STATIC, _DEFAULT = 1, 3, 4, 5
"""Config sources of DescribeConfigs (KIP-226)."""


def effective_configs(settings: Settings, overrides: dict[str, str]) -> list[tuple[str, str, int]]:
    """(name, value, source) of every topic config, by name."""
    found = []
    for name, knob in sorted(TOPIC_KNOBS.items()):
        source = _DEFAULT
        if name in overrides:
            source = _TOPIC_CONFIG
        elif knob.synonym in settings.dynamic:
            source = _DYNAMIC_DEFAULT
        elif knob.synonym in settings.static:
            source = _STATIC
        found.append((name, settings.topic_text(name, overrides), source))
    return found
