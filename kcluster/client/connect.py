"""From where a cluster is to a transport: by name over ZeroMQ, by address over TCP."""

from __future__ import annotations

from collections.abc import Sequence

from kcluster.client.control import ControlClient
from kcluster.client.driver import Transport
from kcluster.client.over_bus import BusTransport
from kcluster.client.over_tcp import TcpTransport
from kcluster.errors import UsageError
from kcluster.wire import bus


def over_bus(control: ControlClient) -> Transport:
    """To the brokers that this supervisor looks after. UsageError when none runs."""

    def processes() -> Sequence[bus.ProcessState]:
        return control.states()

    transport = BusTransport(processes)
    if not transport.brokers():
        transport.close()
        raise UsageError(
            f"no broker of cluster {control.name} is running",
            "all are stopped or killed",
            f"kcluster start-broker --all -c {control.name}",
            3,
        )
    return transport


def over_tcp(bootstrap: str) -> Transport:
    """To any cluster, from `host:port,host:port`."""
    return TcpTransport(parse_bootstrap(bootstrap))


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
