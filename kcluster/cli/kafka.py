"""Kafka's own requests from commands: a broker to ask, what is meant by a name, how it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kcluster.client.control import BusClient, ControlClient
from kcluster.client.groups import GroupClient
from kcluster.client.requests import KafkaConnection, any_broker
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.processes.find import connect

EXIT_NO_SUCH_TOPIC = 4


@contextmanager
def any_of(cluster: str) -> Iterator[tuple[KafkaConnection, ControlClient, BusClient]]:
    """Any broker that runs, and the ways to the supervisor and to the servers."""
    with connect(cluster) as control, BusClient() as servers:
        states = control.states()
        yield any_broker(states, servers, cluster), control, servers


@contextmanager
def groups_of(cluster: str) -> Iterator[GroupClient]:
    """What Kafka says no to is a UsageError."""
    with connect(cluster) as control, BusClient() as servers:
        try:
            yield GroupClient(control.states, servers, cluster)
        except ApiError as error:
            raise UsageError(
                "the groups could not be read or written",
                f"{error.code.name}: {error}" if str(error) != error.code.name else str(error),
                f"kcluster status -c {cluster}",
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
    if text in topics:
        return topics[text], sorted(p.partition_index for p in topics[text].partitions)
    name, _, index = text.rpartition("-")
    if name in topics and index.isdecimal():
        known = [p.partition_index for p in topics[name].partitions]
        if int(index) in known:
            return topics[name], [int(index)]
        raise UsageError(
            f"there is no partition {text}",
            f"{name} has {len(known)}: 0 to {len(known) - 1}",
            f"kcluster topic describe {name}",
            EXIT_NO_SUCH_TOPIC,
        )
    refuse(f"there is no topic {text}", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None)
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
