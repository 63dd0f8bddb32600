"""AlterClientQuotas: what becomes a record, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kcluster.core.metadata.quotas import Entity, entity_of
from kcluster.core.metadata.snapshot import decode_snapshot, encode_snapshot
from kcluster.errors import ErrorCode
from kcluster.wire.messages import alter_client_quotas_request as m

from .playbook import Playbook
from .test_topics import forward

APP = entity_of(client_id="app")


@pytest.fixture
def p() -> Playbook:
    p = Playbook()
    p.join(1, 2, 3)
    return p


def entry(entity: Any, *ops: tuple[str, float | None]) -> m.EntryData:
    return m.EntryData(
        entity=[m.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
        ops=[
            m.OpData(key=key, value=0 if value is None else value, remove=value is None)
            for key, value in ops
        ],
    )


def alter(p: Playbook, *entries: m.EntryData, validate_only: bool = False) -> list[int]:
    request = m.AlterClientQuotasRequest(entries=list(entries), validate_only=validate_only)
    results = forward(p, request, 1).entries
    assert [result.entity for result in results] == [each.entity for each in entries]
    return [result.error_code for result in results]


def test_quotas_are_set_changed_and_removed(p: Playbook) -> None:
    assert alter(p, entry(APP, ("producer_byte_rate", 5), ("request_percentage", 0.5))) == [0]
    assert p.image.quotas == {APP: {"producer_byte_rate": 5, "request_percentage": 0.5}}
    assert alter(p, entry(APP, ("producer_byte_rate", 6), ("request_percentage", None))) == [0]
    assert p.image.quotas == {APP: {"producer_byte_rate": 6}}
    assert alter(p, entry(APP, ("producer_byte_rate", None), ("consumer_byte_rate", None))) == [0]
    assert p.image.quotas == {}


def test_what_is_so_already_makes_no_record(p: Playbook) -> None:
    alter(p, entry(APP, ("producer_byte_rate", 5)))
    end = p.core.log.end_offset
    alter(p, entry(APP, ("producer_byte_rate", 5), ("consumer_byte_rate", None)))
    assert p.core.log.end_offset == end


def test_validate_only_changes_nothing(p: Playbook) -> None:
    assert alter(p, entry(APP, ("producer_byte_rate", 5)), validate_only=True) == [0]
    assert alter(p, entry(APP, ("nonsense", 5)), validate_only=True) == [42]
    assert p.image.quotas == {}


@pytest.mark.parametrize(
    "entity",
    [
        (),
        (("client-id", ""),),
        (("planet", "mars"),),
        (("ip", "127.0.0.1"),),
        (("ip", None),),
        (("user", "a"), ("user", "b")),
        (("user", "a"), ("ip", "127.0.0.1")),
    ],
)
def test_an_entity_that_cannot_be_is_refused(p: Playbook, entity: Any) -> None:
    refused, taken = alter(
        p, entry(entity, ("producer_byte_rate", 5)), entry(APP, ("producer_byte_rate", 5))
    )
    assert (refused, taken) == (ErrorCode.INVALID_REQUEST, 0)
    assert set(p.image.quotas) == {APP}


@pytest.mark.parametrize(
    "op",
    [
        ("nonsense", 5),
        ("controller_mutation_rate", 5),
        ("connection_creation_rate", 5),
        ("producer_byte_rate", 5.5),
        ("producer_byte_rate", 0),
        ("producer_byte_rate", -1),
        ("request_percentage", math.nan),
        ("consumer_byte_rate", math.inf),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_all_of_its_entity(
    p: Playbook, op: tuple[str, float]
) -> None:
    assert alter(p, entry(APP, ("request_percentage", 5), op)) == [42]
    assert p.image.quotas == {}


def test_what_is_named_twice_is_refused(p: Playbook) -> None:
    assert alter(p, entry(APP, ("producer_byte_rate", 5), ("producer_byte_rate", None))) == [42]
    one = entry((("user", "u"), ("client-id", "c")), ("producer_byte_rate", 5))
    same = entry((("client-id", "c"), ("user", "u")), ("consumer_byte_rate", 5))
    assert alter(p, one, same) == [42, 42]
    assert p.image.quotas == {}


@pytest.mark.parametrize(
    "entity",
    [
        entity_of("u", "c"), entity_of("u", None), entity_of("u"), entity_of(None, "c"),
        entity_of(None, None), entity_of(None), entity_of(client_id="c"), entity_of(client_id=None),
    ],
)  # fmt: skip
def test_every_entity_survives_a_restart_and_a_snapshot(p: Playbook, entity: Entity) -> None:
    quotas = {entity: {"producer_byte_rate": 7.0}, APP: {"request_percentage": 12.5}}
    for each, values in quotas.items():
        alter(p, entry(reversed(each), *values.items()))
    assert Playbook(disk=p.disk, incarnation=2).image.quotas == quotas
    assert decode_snapshot(encode_snapshot(p.image)).quotas == quotas


def test_no_more_entities_are_kept_than_the_bound(
    p: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kcluster.core.controller.handlers import alter_client_quotas
    from kcluster.limits import LIMITS

    monkeypatch.setattr(alter_client_quotas, "LIMITS", type(LIMITS)(quota_entities=2))
    entities = [entity_of(client_id=name) for name in "abc"]
    codes = alter(p, *(entry(each, ("producer_byte_rate", 5)) for each in entities))
    assert codes == [0, 0, 42]
    assert alter(p, entry(entities[0], ("producer_byte_rate", 6))) == [0]
