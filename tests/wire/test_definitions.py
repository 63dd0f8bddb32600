"""Every class held against Kafka's own message definitions, field by field.

The definitions are in `kafka-clients-4.3.1.jar`, which is not ours to copy: these tests need it
under `$KAFKA_PEER_HOME/libs` (by default `~/.cache/kafka-peer/libs`) and are skipped without.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kcluster.wire import consumer_group_records, consumer_protocol, group_records
from kcluster.wire.api_gaps import GAPS, PARTLY
from kcluster.wire.apis import APIS
from kcluster.wire.plan import Message, Struct, fields_of, flexible_versions, valid_versions
from kcluster.wire.types import NO_VERSIONS, ZERO_UUID, WireType, version_range
from tests.wire.samples import ALL_CLASSES

HOME = Path(os.environ.get("KAFKA_PEER_HOME", Path.home() / ".cache" / "kafka-peer"))
JAR = HOME / "libs" / "kafka-clients-4.3.1.jar"
GROUP_JAR = HOME / "libs" / "kafka-group-coordinator-4.3.1.jar"

needs_jar = pytest.mark.skipif(not JAR.exists(), reason=f"no Kafka definitions: {JAR} is missing")


def definition(name: str, path: Path = JAR) -> dict[str, Any]:
    with zipfile.ZipFile(path) as jar:
        text = jar.read(f"common/message/{name}.json").decode()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("//")]
    found: dict[str, Any] = json.loads("\n".join(lines))
    return found


def snake_case(name: str) -> str:
    name = name.replace("2Pc", "_2pc")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def default_of(fact: dict[str, Any]) -> Any:
    text = fact.get("default", "")
    kind = fact["type"]
    if text in ("null", None) or kind == "records":
        return None
    if kind.startswith("[]"):
        return []
    match kind:
        case "string":
            return text or ""
        case "bytes":
            return b""
        case "uuid":
            return ZERO_UUID
        case "bool":
            return str(text).lower() == "true"
        case "float64":
            return float(text or 0)
    return int(str(text or 0), 0)


def compare(cls: type[Struct], facts: list[dict[str, Any]], common: dict[str, Any]) -> int:
    """Assert that fields and order are the same; how many fields were compared."""
    fields = fields_of(cls)
    assert [field.name for field in fields] == [snake_case(fact["name"]) for fact in facts]
    count = 0
    for field, fact in zip(fields, facts, strict=True):
        where = f"{cls.__name__}.{field.name}"
        kind = fact["type"]
        assert field.is_array == kind.startswith("[]"), where
        assert field.versions == version_range(fact["versions"]), where
        nullable = fact.get("nullableVersions")
        assert field.nullable == (version_range(nullable) if nullable else NO_VERSIONS), where
        assert field.tag == fact.get("tag"), where
        tagged = fact.get("taggedVersions")
        assert field.tagged == (version_range(tagged) if tagged else NO_VERSIONS), where
        kind = kind.removeprefix("[]")
        if isinstance(field.type, WireType):
            assert field.type.name == kind, where
            assert field.default == default_of(fact), where
            count += 1
            continue
        assert field.type.__name__ == kind, where
        inner = fact.get("fields") or common[kind]
        count += 1 + compare(field.type, inner, common)
        if field.is_array or fact.get("default", "") in ("null", None):
            assert field.default == default_of(fact), where
        else:
            assert field.default == field.type(), where
    return count


@needs_jar
@pytest.mark.parametrize("cls", ALL_CLASSES, ids=lambda cls: cls.__name__)
def test_a_class_is_what_kafka_defines(cls: type[Message]) -> None:
    facts = definition(cls.__name__)
    assert valid_versions(cls) == version_range(facts["validVersions"])
    assert flexible_versions(cls) == version_range(facts["flexibleVersions"])
    assert facts["apiKey"] == cls.KEY
    common = {struct["name"]: struct["fields"] for struct in facts.get("commonStructs", [])}
    compare(cls, facts["fields"], common)


@pytest.mark.skipif(not GROUP_JAR.exists(), reason=f"{GROUP_JAR} is missing")
@pytest.mark.parametrize(
    "cls",
    [
        group_records.OffsetCommitKey,
        group_records.OffsetCommitValue,
        group_records.GroupMetadataKey,
        group_records.GroupMetadataValue,
        *(cls for kind in consumer_group_records.KINDS for cls in kind),
    ],
    ids=lambda cls: cls.__name__,
)
def test_a_group_record_is_what_kafka_defines(cls: type[Message]) -> None:
    facts = definition(cls.__name__, GROUP_JAR)
    assert valid_versions(cls) == version_range(facts["validVersions"])
    assert flexible_versions(cls) == version_range(facts["flexibleVersions"])
    assert facts["apiKey"] == cls.KEY
    common = {struct["name"]: struct["fields"] for struct in facts.get("commonStructs", [])}
    compare(cls, facts["fields"], common)


@needs_jar
@pytest.mark.parametrize(
    "cls",
    [
        consumer_protocol.ConsumerProtocolSubscription,
        consumer_protocol.ConsumerProtocolAssignment,
    ],
    ids=lambda cls: cls.__name__,
)
def test_what_consumers_tell_each_other_is_what_kafka_defines(cls: type[Message]) -> None:
    facts = definition(cls.__name__)
    assert valid_versions(cls) == version_range(facts["validVersions"])
    assert flexible_versions(cls) == version_range(facts["flexibleVersions"])
    compare(cls, facts["fields"], {})


@needs_jar
def test_versions_that_kafka_calls_unstable_are_not_served() -> None:
    for api in APIS.values():
        facts = definition(api.request.__name__)
        stable = version_range(facts["validVersions"]).high
        if facts.get("latestVersionUnstable"):
            stable -= 1
        assert api.versions == (version_range(facts["validVersions"]).low, stable), api.name
        assert api.name == facts["name"].removesuffix("Request")


@needs_jar
def test_every_api_of_kafka_is_served_or_named_as_a_gap_with_its_reason() -> None:
    with zipfile.ZipFile(JAR) as jar:
        names = [
            Path(name).stem
            for name in jar.namelist()
            if name.startswith("common/message/") and name.endswith("Request.json")
        ]
    defined = {facts["apiKey"]: facts for facts in map(definition, names)}
    assert {*APIS, *GAPS} == set(defined)
    assert not set(APIS) & set(GAPS)
    for key, gap in GAPS.items():
        facts = defined[key]
        assert gap.name == facts["name"].removesuffix("Request")
        assert gap.versions == version_range(facts["validVersions"]), gap.name
        assert gap.reason


def test_what_is_served_with_a_reservation_is_served() -> None:
    assert set(PARTLY) <= set(APIS)


def test_the_table_says_what_the_classes_say() -> None:
    for api in APIS.values():
        assert api.versions.low == valid_versions(api.request).low, api.name
        assert api.versions.high <= valid_versions(api.request).high, api.name
        for version in range(api.versions.low, api.versions.high + 1):
            assert api.is_flexible(version) == (version in flexible_versions(api.request))


def test_request_and_response_have_the_same_versions() -> None:
    for api in APIS.values():
        assert valid_versions(api.request) == valid_versions(api.response)
        assert flexible_versions(api.request) == flexible_versions(api.response)
        assert api.request.KEY == api.response.KEY == api.key


def test_only_produce_is_advertised_beyond_what_is_served() -> None:
    assert {
        api.name: tuple(api.advertised) for api in APIS.values() if api.advertised != api.versions
    } == {"Produce": (0, 13)}
    assert tuple(APIS[0].versions) == (3, 13)
    assert tuple(APIS[22].advertised) == (0, 5)
