"""Kafka's requests over ZeroMQ: one frame in one bus message, to the same handlers as over TCP.

    KafkaConnection(process).request(message) -> response

Synchronous, one request at a time, for commands and tests; versions are the highest that we
serve, because both ends are of the same release.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Any

from kcluster.client.control import BusClient
from kcluster.errors import RemoteProtocolError, UsageError
from kcluster.wire import bus
from kcluster.wire.apis import api_of
from kcluster.wire.frame import parse_response_header, request_frame
from kcluster.wire.message import Message, decode

CLIENT_ID = "kcluster"

EXIT_TIMED_OUT = 124

REQUEST_MS = 30_000


class KafkaConnection:
    """One broker, asked through its inbox."""

    def __init__(
        self, process: bus.ProcessState, servers: BusClient, client_id: str = CLIENT_ID
    ) -> None:
        self.process = process
        self._servers = servers
        self._client_id = client_id
        self._correlations = itertools.count(1)

    def request(
        self, message: Message, version: int | None = None, timeout_ms: int = REQUEST_MS
    ) -> Any:
        """The decoded response. UsageError when none comes in time."""
        api = api_of(message)
        if version is None:
            version = api.versions.high
        correlation = next(self._correlations)
        frame = b"".join(request_frame(message, version, correlation, self._client_id))[4:]
        answers = self._servers.ask(
            [self.process], lambda _: bus.KafkaRequest(), timeout_ms, [frame]
        )
        if self.process.id not in answers:
            raise UsageError(
                f"broker {self.process.id} did not answer {api.name} in {timeout_ms} ms",
                "it is busy, paused or gone",
                "kcluster status",
                EXIT_TIMED_OUT,
            )
        body = b"".join(answers[self.process.id][1])
        if len(body) >= 4 and struct.unpack_from(">i", body)[0] == len(body) - 4:
            body = body[4:]
        answered, position = parse_response_header(body, api.key, version)
        if answered != correlation:
            raise RemoteProtocolError(f"{api.name}: answer {answered} to request {correlation}")
        return decode(api.response, memoryview(body)[position:], version)


def any_broker(
    states: Sequence[bus.ProcessState], servers: BusClient, name: str
) -> KafkaConnection:
    """A connection to some broker that runs. UsageError when none does."""
    for state in states:
        if state.id > 0 and state.state == "running":
            return KafkaConnection(state, servers)
    raise UsageError(
        f"no broker of cluster {name} is running",
        "all are stopped, killed or paused",
        f"kcluster start-broker --all -c {name}",
        3,
    )
