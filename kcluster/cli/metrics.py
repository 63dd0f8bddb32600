"""`kcluster metrics`: a Prometheus endpoint for a whole cluster."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from kcluster.cli import output
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName
from kcluster.errors import KclusterError, UsageError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kcluster.client.snapshot import ClusterSnapshot
    from kcluster.core.client.results import Group

app = typer.Typer()

PORT = 9404
"""Where the JMX exporter of a Kafka broker usually listens."""

SNAPSHOT_MS = 1_000
GROUPS_S = 5.0
"""Groups are asked for, not pushed."""


@app.command()
def metrics(
    cluster: ClusterName = DEFAULT_CLUSTER,
    port: Annotated[
        int,
        typer.Option("-p", "--port", min=0, max=65535, metavar="PORT", help="0 for a free one."),
    ] = PORT,
    host: Annotated[str, typer.Option(metavar="HOST", help="Where to listen.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print them, and leave.")] = False,
) -> None:
    """Serve Prometheus metrics of a cluster at /metrics, until it is down or Ctrl-C.

    \b
    kcluster metrics --once | grep lag     # what there is
    """
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server

    registry = CollectorRegistry()
    with Gathered(cluster) as gathered:
        registry.register(gathered)
        if once:
            output.data(generate_latest(registry).decode().rstrip())
            return
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(
                f"port {port} of {host} cannot be used",
                str(error.strerror),
                "kcluster metrics --port 0",
            ) from None
        try:
            output.data(f"http://{host}:{server.server_address[1]}/metrics")
            gathered.wait()
        finally:
            server.shutdown()
            thread.join()


def serve_beside(cluster: str, port: int) -> str:
    """Serve them in a process of its own, as long as the cluster runs; the address. UsageError
    when it cannot."""
    import subprocess

    command = ["metrics", "-c", cluster, "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "kcluster.cli.main", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None and server.stderr is not None
    with server.stdout, server.stderr:
        address = server.stdout.readline().strip()
        if not address:
            why = server.stderr.readline().strip().removeprefix("error: ")
            raise UsageError("metrics are not served", why, f"kcluster {' '.join(command)}")
    return address


class Gathered:
    """What was heard last, renewed by threads; a Prometheus collector."""

    def __init__(self, cluster: str) -> None:
        from kcluster.client.find import watch

        self._cluster = cluster
        self._watch = watch(cluster, interval_ms=SNAPSHOT_MS)
        self._snapshot: ClusterSnapshot = self._watch.look().snapshot
        self._groups: list[Group] = []
        self._ended = threading.Event()
        self._problem: KclusterError | None = None
        self._threads = [
            threading.Thread(target=self._follow, daemon=True),
            threading.Thread(target=self._ask_for_groups, daemon=True),
        ]

    def __enter__(self) -> Gathered:
        self._groups = self._described()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._watch.close()

    def wait(self) -> None:
        """Until the cluster is gone: raises what told so."""
        while not self._ended.wait(1.0):
            pass
        if self._problem is not None:
            raise self._problem

    def collect(self) -> Iterator[Metric]:
        from kcluster.client.metrics import families

        yield from families(self._snapshot, self._groups)

    def _follow(self) -> None:
        try:
            while not self._ended.is_set():
                self._snapshot = self._watch.look().snapshot
        except KclusterError as problem:
            self._problem = problem
            self._ended.set()

    def _ask_for_groups(self) -> None:
        while not self._ended.wait(GROUPS_S):
            self._groups = self._described()

    def _described(self) -> list[Group]:
        """What was known before, where they cannot be asked now."""
        from kcluster.cli.kafka import groups_of

        with contextlib.suppress(KclusterError), groups_of(self._cluster) as admin:
            return admin.describe_groups()
        return self._groups
