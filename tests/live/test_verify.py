"""`kcluster verify` on real files: quiet on what is whole, exact on what is not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kcluster.client.connect import over_tcp
from kcluster.client.producer import Producer
from kcluster.processes.workdir import locate
from kcluster.wire.records import HEADER_BYTES
from tests.live import damage
from tests.live.conftest import LiveCluster

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "1048576"}
VALUE = b"v" * 10_000


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kcluster.cli.main", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def verify(name: str) -> tuple[int, dict[str, object]]:
    code, text = run("verify", "-c", name, "-o", "json")
    return code, json.loads(text)


def write(bootstrap: str, topic: str, count: int, *, keys: int = 0) -> None:
    with Producer(over_tcp(bootstrap)) as producer:
        for number in range(count):
            key = b"%d" % (number % keys) if keys else None
            producer.send(topic, VALUE + b"%d" % number, key, partition=0)
        assert producer.flush(30)


@pytest.fixture
def stopped(live_home: Path) -> object:
    """A cluster with a plain and a compacted topic, ended in good order; its name."""
    name = "verify-stopped"
    code, _ = run("up", "-c", name, "-d", "--any-port", "-q")
    assert code == 0
    try:
        for topic, options in (("plain", []), ("compacted", ["cleanup.policy=compact"])):
            configs = [word for option in options for word in ("-X", option)]
            assert run("topic", "create", topic, "-c", name, *configs)[0] == 0
        bootstrap = json.loads(run("status", "-c", name, "-o", "json")[1])["bootstrap"]
        write(bootstrap, "plain", 300)
        write(bootstrap, "compacted", 100, keys=7)
        assert run("down", "-c", name)[0] == 0
        yield name
    finally:
        run("purge", "-c", name, "--confirm", name)


def patch_both_copies(path: Path) -> None:
    """Another value with a CRC that fits: only the other replicas can tell."""
    from kcluster.wire.records import crc_of

    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[8:12], "big") + 12
    data[HEADER_BYTES + 100] ^= 1
    data[17:21] = crc_of(data, 0, size).to_bytes(4, "big")
    path.write_bytes(data)


CASES: list[tuple[str, Callable[[Path], None], str]] = [
    ("broker-2/plain-0/00000000000000000000.log", damage.flip(0.5), "CRC of the batch"),
    ("broker-1/plain-0/00000000000000000000.log", damage.cut(0.5), "was committed to"),
    ("broker-3/plain-0/00000000000000000000.index", damage.flip(0.9999), "no batch begins"),
    ("broker-3/plain-0/leader-epoch-checkpoint", damage.flip(0.5), "leader-epoch-checkpoint"),
    ("broker-3/compacted-0/00000000000000000000.log", patch_both_copies, "differs from broker"),
    ("broker-2/plain-0/00000000000000000000.log", patch_both_copies, "differs from broker"),
    ("broker-1/replication-offset-checkpoint", damage.flip(0.6), "an offset checkpoint"),
    ("coordinator/__cluster_metadata-0", damage.flip(0.1), "metadata log"),
]


def test_a_stopped_cluster_is_whole_until_one_file_is_not(stopped: str) -> None:
    code, report = verify(stopped)
    assert code == 0, report
    assert report["batches"] > 0 and report["replicas"] == 6 and report["damage"] == []
    for name, spoil, said in CASES:
        path = locate(stopped) / name
        if path.is_dir():
            path = next(path.glob("*.log"))
        whole = path.read_bytes()
        spoil(path)
        if name.startswith("coordinator"):
            code, text = run("verify", "-c", stopped, "-o", "json")
            assert (code, text) == (11, "")
        else:
            code, report = verify(stopped)
            found = report["damage"]
            assert code == 11 and found, name
            assert all(one["broker"] == int(name[7]) or "differs" in one["what"] for one in found)
            assert any(one["file"].startswith(name.split("/")[0]) for one in found), found
            assert any(said in one["what"] for one in found), found
        path.write_bytes(whole)
    assert verify(stopped)[0] == 0


def test_a_moving_tail_is_no_damage(live_home: Path) -> None:
    cluster = LiveCluster("verify-moving", options={"log.cleaner.backoff.ms": "100"})
    try:
        plain = cluster.topic("plain", configs={"segment.bytes": "1048576"})
        compacted = cluster.topic(
            "compacted", configs=COMPACTED | {"min.cleanable.dirty.ratio": "0.01"}
        )
        ended = threading.Event()

        def load() -> None:
            with Producer(over_tcp(cluster.bootstrap)) as producer:
                number = 0
                while not ended.is_set():
                    producer.send(plain, VALUE, partition=0)
                    producer.send(compacted, VALUE + b"%d" % number, b"%d" % (number % 50))
                    number += 1
                    producer.poll(2)  # a load that leaves time to look
                assert producer.flush(60)

        writing = threading.Thread(target=load)
        writing.start()
        try:
            for _ in range(3):
                code, report = verify(cluster.name)
                assert code == 0, report
            assert report["is_running"] and report["batches"] > 0
        finally:
            ended.set()
            writing.join()
        code, report = verify(cluster.name)
        assert code == 0, report
        path = cluster.directory / f"broker-2/{plain}-0/00000000000000000000.log"
        damage.flip(0.5)(path)
        code, report = verify(cluster.name)
        assert code == 11
        [found] = report["damage"]
        assert (found["topic"], found["broker"], found["file"]) == (
            plain, 2, f"broker-2/{plain}-0/00000000000000000000.log",
        )  # fmt: skip
        size = path.stat().st_size
        assert 0 < size // 2 - found["position"] < 200_000
    finally:
        cluster.close()
