"""A client over TCP, and a broker that falls silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kcluster.client import Admin
from kcluster.core.client.exchange import Patience
from kcluster.wire.frame import response_frame
from kcluster.wire.message import Message, encode_parts
from kcluster.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from kcluster.wire.messages.metadata import MetadataResponse, MetadataResponseBroker

SERVED = API_VERSIONS, METADATA = 18, 3


@contextmanager
def silent_at_first() -> Iterator[tuple[str, list[list[int]]]]:
    """Its address, and the APIs that were asked for by connection: the first one is told no more
    than what it may ask."""
    asked: list[list[int]] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        host, port = server.getsockname()

        def serve(connection: socket.socket, apis: list[int], is_silent: bool) -> None:
            with connection, connection.makefile("rb") as incoming:
                while len(head := incoming.read(4)) == 4:
                    frame = incoming.read(int.from_bytes(head, "big"))
                    api, version = (int.from_bytes(frame[at : at + 2], "big") for at in (0, 2))
                    correlation = int.from_bytes(frame[4:8], "big")
                    apis.append(api)
                    if api == API_VERSIONS:
                        known = [ApiVersion(api_key=key, max_version=12) for key in SERVED]
                        answer: Message = ApiVersionsResponse(api_keys=known)
                    elif is_silent:
                        continue
                    else:
                        broker = MetadataResponseBroker(node_id=7, host=host, port=port)
                        answer = MetadataResponse(brokers=[broker])
                    body = encode_parts(answer, version)
                    connection.sendall(b"".join(response_frame(api, version, correlation, body)))

        def accept() -> None:
            for number in (0, 1):
                asked.append([])
                connection, _ = server.accept()
                connection.settimeout(10)
                thread = threading.Thread(target=serve, args=(connection, asked[-1], number == 0))
                thread.start()
                threads.append(thread)

        threads.append(threading.Thread(target=accept))
        threads[0].start()
        yield f"{host}:{port}", asked
    for thread in threads:
        thread.join(10)


def test_who_gets_no_answer_in_time_asks_again_on_another_connection() -> None:
    with silent_at_first() as (address, asked):
        with Admin(address, patience=Patience(request_ms=200)) as admin:
            [broker] = admin.cluster().brokers
        assert broker.id == 7
        assert asked == [[API_VERSIONS, METADATA], [API_VERSIONS, METADATA]]
