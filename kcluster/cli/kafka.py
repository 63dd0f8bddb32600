"""Kafka's own requests from commands: a broker to ask, what is meant by a name, how it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kcluster.cli.options import DEFAULT_CLUSTER
from kcluster.client.admin import GROUPS_MS, Admin
from kcluster.client.control import BusClient, ControlClient
from kcluster.client.find import connect
from kcluster.client.requests import EXIT_TIMED_OUT, KafkaConnection, any_broker
from kcluster.core.client.results import Topic
from kcluster.errors import ApiError, ErrorCode, UsageError

EXIT_NO_SUCH_TOPIC = 4


@contextmanager
def any_of(cluster: str) -> Iterator[tuple[KafkaConnection, ControlClient, BusClient]]:
    """Any broker that runs, and the ways to the supervisor and to the servers."""
    with connect(cluster) as control, BusClient() as servers:
        states = control.states()
        yield any_broker(states, servers, cluster), control, servers


@contextmanager
def admin_of(cluster: str, bootstrap: str | None) -> Iterator[Admin]:
    """Of a cluster by its address, or else by its name. What Kafka says no to and nobody else has
    put into words is a UsageError."""
    with Admin(bootstrap, cluster=cluster if bootstrap is None else None) as admin:
        try:
            yield admin
        except ApiError as error:
            raise UsageError(
                str(error),
                "" if str(error) == error.code.name else error.code.name,
                f"kcluster topic ls{where(cluster, bootstrap)}",
            ) from None


def where(cluster: str, bootstrap: str | None) -> str:
    """What a hint needs behind it, to be about the same cluster."""
    if bootstrap is not None:
        return f" -b {bootstrap}"
    return "" if cluster == DEFAULT_CLUSTER else f" -c {cluster}"


@contextmanager
def refusing(what: str, hint: str) -> Iterator[None]:
    """An ApiError within is a UsageError that says so."""
    try:
        yield
    except ApiError as error:
        refuse(what, error.code, None if error.message == what else error.message, hint)


@contextmanager
def groups_of(cluster: str, bootstrap: str | None = None) -> Iterator[Admin]:
    """To ask and tell coordinators. What Kafka says no to is a UsageError."""
    name = cluster if bootstrap is None else None
    with Admin(bootstrap, cluster=name, timeout_ms=GROUPS_MS) as admin:
        try:
            yield admin
        except ApiError as error:
            raise UsageError(
                "the groups could not be read or written",
                f"{error.code.name}: {error}" if str(error) != error.code.name else str(error),
                f"kcluster status -c {cluster}"
                if bootstrap is None
                else f"kcluster topic ls -b {bootstrap}",
                EXIT_TIMED_OUT if error.code is ErrorCode.REQUEST_TIMED_OUT else 1,
            ) from None


def metadata(broker: KafkaConnection, names: list[str] | None) -> Any:
    """Of these topics, or (None) of all. Makes none."""
    from kcluster.wire.messages import metadata as m

    topics = None if names is None else [m.MetadataRequestTopic(name=name) for name in names]
    return broker.request(m.MetadataRequest(topics=topics, allow_auto_topic_creation=False))


def partitions_meant(broker: KafkaConnection, text: str) -> tuple[Any, list[int]]:
    """The topic (of Metadata) and the partitions that `NAME` or `NAME-P` means. UsageError when
    there are none such. A topic that is called like another's partition comes first."""
    topics = {topic.name: topic for topic in metadata(broker, None).topics}
    known = {
        name: sorted(p.partition_index for p in topic.partitions) for name, topic in topics.items()
    }
    name, partitions = _meant(known, text)
    return topics[name], partitions


def topic_meant(admin: Admin, text: str, hint: str = "") -> tuple[Topic, list[int]]:
    """The same, of any cluster; `hint`: what `where` says."""
    topics = {topic.name: topic for topic in admin.topics(internal=True)}
    known = {name: [each.index for each in topic.partitions] for name, topic in topics.items()}
    name, partitions = _meant(known, text, hint)
    return topics[name], partitions


def _meant(known: dict[str, list[int]], text: str, hint: str = "") -> tuple[str, list[int]]:
    if text in known:
        return text, known[text]
    name, _, index = text.rpartition("-")
    if name in known and index.isdecimal():
        if int(index) in known[name]:
            return name, [int(index)]
        count = len(known[name])
        raise UsageError(
            f"there is no partition {text}",
            f"{name} has {count}: 0 to {count - 1}",
            f"kcluster topic describe {name}{hint}",
            EXIT_NO_SUCH_TOPIC,
        )
    refuse(
        f"there is no topic {text}",
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        None,
        f"kcluster topic ls{hint}",
    )
    raise AssertionError("refused")


def refuse(what: str, code: int, message: str | None, hint: str = "kcluster topic ls") -> None:
    """UsageError for an error code other than NONE."""
    if code == ErrorCode.NONE:
        return
    error = ErrorCode(code)
    is_unknown = error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    why = message if message and message != error.name else ""
    raise UsageError(
        what,
        f"{error.name}: {why}" if why else error.name,
        hint,
        EXIT_NO_SUCH_TOPIC if is_unknown else 1,
    )
