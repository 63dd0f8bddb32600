"""From where a cluster is to a transport: by name over ZeroMQ, by address over TCP.

reach("localhost:19092")      any cluster that speaks Kafka's protocol
reach(cluster="dev")          one that this user started
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kcluster.client.control import ControlClient
from kcluster.client.driver import Transport
from kcluster.client.find import EXIT_NOT_RUNNING, connect
from kcluster.client.over_bus import BusTransport
from kcluster.client.over_tcp import TcpTransport
from kcluster.errors import UsageError
from kcluster.wire import bus

Where = str | Sequence[str] | Transport
"""Addresses, or a way that is open already."""


def reach(where: Where | None = None, cluster: str | None = None) -> Transport:
    """UsageError when nobody is there, or not exactly one of the two is given."""
    if (where is None) == (cluster is None):
        raise UsageError(
            "a client wants either addresses or the name of a cluster",
            "both are given" if where is not None else "neither is given",
            'Producer("localhost:19092") or Producer(cluster="dev")',
            2,
        )
    if cluster is not None:
        return by_name(cluster)
    if isinstance(where, str):
        return over_tcp(where)
    if isinstance(where, Transport):
        return where
    assert where is not None
    return over_tcp(",".join(where))


def by_name(cluster: str) -> Transport:
    """To the brokers of a cluster that a supervisor of this user looks after."""
    control = connect(cluster)
    try:
        return over_bus(control, control.close)
    except BaseException:
        control.close()
        raise


def over_bus(control: ControlClient, on_close: Callable[[], None] = lambda: None) -> Transport:
    """To the brokers that this supervisor looks after. UsageError when none runs."""

    def processes() -> Sequence[bus.ProcessState]:
        return control.states()

    transport = BusTransport(processes, on_close)
    if not transport.brokers():
        transport.close()
        raise UsageError(
            f"no broker of cluster {control.name} is running",
            "all are stopped or killed",
            f"kcluster start-broker --all -c {control.name}",
            EXIT_NOT_RUNNING,
        )
    return transport


def over_tcp(bootstrap: str) -> Transport:
    """To any cluster, from `host:port,host:port`. UsageError when nobody answers at any."""
    transport = TcpTransport(parse_bootstrap(bootstrap))
    if not transport.reach():
        transport.close()
        raise UsageError(
            f"nothing answers at {bootstrap}",
            "no process takes connections there",
            "kcluster status, or kcluster up",
            EXIT_NOT_RUNNING,
        )
    return transport


def parse_bootstrap(text: str) -> list[tuple[str, int]]:
    """`host:port,host:port`. Raises UsageError on anything else."""
    addresses = []
    for item in text.split(","):
        host, colon, port = item.strip().rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                f"{item.strip()!r} is not an address",
                "a bootstrap address is host:port, several are separated by commas",
                "--bootstrap 127.0.0.1:19092",
                2,
            )
        addresses.append((host.strip("[]"), int(port)))
    return addresses
