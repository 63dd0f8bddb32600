"""AlterConfigs and IncrementalAlterConfigs of topics and brokers."""

from __future__ import annotations

from typing import Any

import pytest

from kcluster.config import Settings
from kcluster.core.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from kcluster.errors import ErrorCode
from kcluster.wire.messages import alter_configs as ac
from kcluster.wire.messages import incremental_alter_configs as iac

from .playbook import Playbook
from .test_topics import forward

SET, DELETE, APPEND, SUBTRACT = range(4)


@pytest.fixture
def p() -> Playbook:
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3])
    return p


def change(
    p: Playbook,
    *changes: tuple[str, int, str | None],
    resource: int = TOPIC_RESOURCE,
    name: str = "t",
    validate_only: bool = False,
) -> Any:
    configs = [
        iac.AlterableConfig(name=key, config_operation=operation, value=value)
        for key, operation, value in changes
    ]
    entry = iac.AlterConfigsResource(resource_type=resource, resource_name=name, configs=configs)
    request = iac.IncrementalAlterConfigsRequest(resources=[entry], validate_only=validate_only)
    (response,) = forward(p, request, 1).responses
    return response


def test_topic_config_is_set_and_deleted(p: Playbook) -> None:
    assert change(p, ("retention.ms", SET, "77")).error_code == 0
    assert p.image.overrides(TOPIC_RESOURCE, "t") == {"retention.ms": "77"}
    assert change(p, ("retention.ms", DELETE, None)).error_code == 0
    assert p.image.overrides(TOPIC_RESOURCE, "t") == {}


def test_validate_only_changes_nothing(p: Playbook) -> None:
    assert change(p, ("retention.ms", SET, "77"), validate_only=True).error_code == 0
    assert p.image.overrides(TOPIC_RESOURCE, "t") == {}


def test_list_grows_and_shrinks_within_what_is_allowed(p: Playbook) -> None:
    assert change(p, ("cleanup.policy", APPEND, "delete")).error_code == 0
    response = change(p, ("cleanup.policy", APPEND, "tidy"))
    assert response.error_code == ErrorCode.INVALID_CONFIG


def test_a_policy_may_be_none_at_all_and_then_nothing_is_deleted_nor_compacted(
    p: Playbook,
) -> None:
    assert change(p, ("cleanup.policy", SUBTRACT, "delete")).error_code == 0
    overrides = p.image.overrides(TOPIC_RESOURCE, "t")
    assert overrides == {"cleanup.policy": ""}
    config = Settings().log_config(overrides)
    assert not config.is_compacted and not config.applies_retention
    assert change(p, ("cleanup.policy", APPEND, "compact")).error_code == 0
    assert p.image.overrides(TOPIC_RESOURCE, "t") == {"cleanup.policy": "compact"}


def test_append_to_what_is_no_list_is_refused(p: Playbook) -> None:
    assert change(p, ("retention.ms", APPEND, "1")).error_code == ErrorCode.INVALID_CONFIG


@pytest.mark.parametrize(
    ("key", "operation", "value", "code"),
    [
        ("no.such", SET, "1", ErrorCode.INVALID_CONFIG),
        ("retention.ms", SET, "soon", ErrorCode.INVALID_CONFIG),
        ("retention.ms", SET, None, ErrorCode.INVALID_CONFIG),
        ("retention.ms", 9, "1", ErrorCode.INVALID_REQUEST),
    ],
)
def test_bad_change_is_refused_with_a_reason(
    p: Playbook, key: str, operation: int, value: str | None, code: ErrorCode
) -> None:
    response = change(p, ("segment.ms", SET, "9"), (key, operation, value))
    assert response.error_code == code and response.error_message
    assert p.image.overrides(TOPIC_RESOURCE, "t") == {}, "a resource changes whole or not"


@pytest.mark.parametrize(
    ("resource", "name", "code"),
    [
        (TOPIC_RESOURCE, "nix", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER_RESOURCE, "9", ErrorCode.BROKER_ID_NOT_REGISTERED),
        (BROKER_RESOURCE, "one", ErrorCode.BROKER_ID_NOT_REGISTERED),
        (8, "x", ErrorCode.INVALID_REQUEST),
    ],
)
def test_unknown_resource_is_refused(
    p: Playbook, resource: int, name: str, code: ErrorCode
) -> None:
    response = change(p, ("retention.ms", SET, "1"), resource=resource, name=name)
    assert response.error_code == code


def test_default_of_all_brokers_moves_what_topics_fall_back_to(p: Playbook) -> None:
    changes = ("min.insync.replicas", SET, "2")
    assert change(p, changes, resource=BROKER_RESOURCE, name="").error_code == 0
    topic = p.core.image.topics["t"]
    assert p.core.partitions.min_isr(topic) == 2


def test_what_elections_rest_on_cannot_differ_between_brokers(p: Playbook) -> None:
    response = change(p, ("min.insync.replicas", SET, "2"), resource=BROKER_RESOURCE, name="1")
    assert response.error_code == ErrorCode.INVALID_CONFIG


def test_knob_of_the_start_cannot_be_changed_while_running(p: Playbook) -> None:
    response = change(
        p, ("broker.session.timeout.ms", SET, "5000"), resource=BROKER_RESOURCE, name=""
    )
    assert response.error_code == ErrorCode.INVALID_REQUEST


def test_lower_min_isr_clears_the_eligible_replicas(p: Playbook) -> None:
    """KIP-966: the high watermark may now move without them."""
    change(p, ("min.insync.replicas", SET, "3"))
    p.die(3)
    assert p.partition().elr == [3]
    change(p, ("min.insync.replicas", SET, "2"))
    assert p.partition().elr == []


def test_unclean_election_switched_on_elects_at_once(p: Playbook) -> None:
    p.alter(1, [1])
    p.die(1)
    assert p.partition().leader == -1
    entry = ("unclean.leader.election.enable", SET, "true")
    configs = [iac.AlterableConfig(name=entry[0], config_operation=entry[1], value=entry[2])]
    resource = iac.AlterConfigsResource(resource_type=2, resource_name="t", configs=configs)
    from kcluster.wire import bus
    from kcluster.wire.message import encode

    request = iac.IncrementalAlterConfigsRequest(resources=[resource])
    p.receive(2, bus.Forward(1, 44, 1, None, 1000), payload=[encode(request, 1)])
    assert p.partition().leader == 2
    assert p.partition().recovering


def test_alter_configs_replaces_all_that_was_there(p: Playbook) -> None:
    change(p, ("retention.ms", SET, "77"), ("segment.ms", SET, "5"))
    configs = [ac.AlterableConfig(name="segment.ms", value="6")]
    entry = ac.AlterConfigsResource(resource_type=2, resource_name="t", configs=configs)
    (response,) = forward(p, ac.AlterConfigsRequest(resources=[entry]), 2).responses
    assert response.error_code == 0
    assert p.image.overrides(TOPIC_RESOURCE, "t") == {"segment.ms": "6"}


def test_resource_named_twice_is_refused(p: Playbook) -> None:
    configs = [ac.AlterableConfig(name="segment.ms", value="6")]
    entry = ac.AlterConfigsResource(resource_type=2, resource_name="t", configs=configs)
    response = forward(p, ac.AlterConfigsRequest(resources=[entry, entry]), 2)
    assert {r.error_code for r in response.responses} == {ErrorCode.INVALID_REQUEST}


def test_a_policy_is_a_list_and_compaction_a_part_of_it(p: Playbook) -> None:
    assert change(p, ("cleanup.policy", APPEND, "compact")).error_code == 0
    overrides = p.image.overrides(TOPIC_RESOURCE, "t")
    assert overrides == {"cleanup.policy": "delete,compact"}
    config = Settings().log_config(overrides)
    assert config.is_compacted and config.applies_retention
    config = Settings().log_config({"cleanup.policy": "compact", "max.compaction.lag.ms": "5000"})
    assert config.is_compacted and not config.applies_retention
    assert config.segment_ms == 5000
    config = Settings({"log.cleanup.policy": "compact", "log.cleaner.min.cleanable.ratio": "0.1"})
    assert config.log_config({}).is_compacted
    assert config.log_config({}).min_cleanable_dirty_ratio == 0.1
    assert not config.log_config({"cleanup.policy": "delete"}).is_compacted
    assert change(p, ("min.cleanable.dirty.ratio", SET, "1.5")).error_code == 40


@pytest.mark.parametrize(("resource", "name"), [(32, "a-group"), (16, "metrics"), (8, "1")])
def test_what_has_no_configs_cannot_be_configured_and_is_told_so_by_name(
    p: Playbook, resource: int, name: str
) -> None:
    response = change(p, ("consumer.session.timeout.ms", SET, "1"), resource=resource, name=name)
    assert response.error_code == ErrorCode.INVALID_REQUEST
    assert "cannot be configured" in response.error_message
