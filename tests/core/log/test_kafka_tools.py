"""Apache's own DumpLogSegments reads every file that we write, and finds nothing to say."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from kcluster.config import LogConfig
from kcluster.core.log.partition_log import Restart
from kcluster.wire.compression import Compression
from kcluster.wire.records import Record, batches, build_batch
from tests.core.log.bench import DIRECTORY, WALL_MS, Bench, batch
from tests.core.log.compacting import Writer, compact, compacted_config, records_in

COMPLAINTS = (
    "Mismatches",
    "mismatch",
    "out of order",
    "Non-consecutive",
    "corrupt",
    "could not be",
)


def jars() -> str:
    folder = os.environ.get("KCLUSTER_KAFKA_JARS") or str(Path.home() / ".cache/kafka-peer/libs")
    if not shutil.which("java") or not list(Path(folder).glob("kafka_*.jar")):
        pytest.skip(f"needs java and Apache Kafka's jars in {folder} (KCLUSTER_KAFKA_JARS)")
    return f"{folder}/*"


def dump(files: list[Path], *options: str) -> str:
    done = subprocess.run(
        ["java", "-cp", jars(), "org.apache.kafka.tools.DumpLogSegments", *options,
         "--files", ",".join(map(str, files))],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr + done.stdout
    return done.stdout


def filled() -> Bench:
    bench = Bench(LogConfig(segment_bytes=20_000, index_interval_bytes=1000, retention_ms=-1))
    for n in range(150):
        if n % 50 == 49:
            bench.log.assign_epoch(bench.turn, n // 50 + 1, bench.log.log_end_offset)
        if n % 3 == 0:
            data = batch(4, size=100, timestamp=WALL_MS + n * 7 % 90, producer_id=n % 2 + 1,
                         producer_epoch=3, base_sequence=n // 6 * 4)  # fmt: skip
        elif n % 3 == 1:
            records = [Record(b"v" * 300, b"k", timestamp=WALL_MS + n) for _ in range(5)]
            data = build_batch(records, compression=Compression.ZSTD)
        else:
            data = batch(1, size=700, timestamp=WALL_MS + n)
        bench.produce(data, n // 50 + (n % 50 == 49))
        bench.commit()
    return bench


def export(bench: Bench, folder: Path) -> list[Path]:
    for path, file in bench.disk.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(file.data)
    found = sorted((folder / DIRECTORY).iterdir())
    return [path for path in found if path.suffix in (".log", ".index", ".timeindex", ".snapshot")]


@pytest.mark.java
@pytest.mark.parametrize("story", ["running", "shut down", "cut and gone on", "crashed"])
def test_dump_log_segments_has_no_complaint_about_our_files(story: str, tmp_path: Path) -> None:
    jars()
    bench = filled()
    if story == "running":
        bench.log.checkpoint(bench.turn)
        bench.commit()
        bench.produce(batch(2, size=3000), 9)
    elif story == "shut down":
        bench.shut_down()
    elif story == "cut and gone on":
        bench.log.checkpoint(bench.turn)
        bench.log.truncate_to(bench.turn, bench.log.log_end_offset // 2)
        bench.produce(batch(3), 9)
        bench.log.checkpoint(bench.turn)
    else:
        bench.disk.files[bench.log.chain.active.path].data += b"\0\0\0\0torn"
        bench.reopen(Restart.CRASH)
        bench.shut_down()
    bench.commit()
    files = export(bench, tmp_path)
    assert {path.suffix for path in files} == {".log", ".index", ".timeindex", ".snapshot"}
    output = dump(files, "--deep-iteration")
    for complaint in COMPLAINTS:
        assert complaint not in output, output[output.index(complaint) - 500 :]
    records = [line for line in output.splitlines() if line.startswith("| offset:")]
    assert len(records) == bench.log.log_end_offset
    assert "producerId: 1 producerEpoch: 3" in output
    checked = dump([p for p in files if "index" in p.suffix], "--index-sanity-check")
    assert checked.count("passed sanity check") == sum("index" in p.suffix for p in files)


@pytest.mark.java
def test_dump_log_segments_reads_a_compacted_log(tmp_path: Path) -> None:
    jars()
    bench = Bench(compacted_config(segment_bytes=6000, delete_retention_ms=60_000))
    writer = Writer(bench, Random(3), keys=25)
    for _ in range(4):
        writer.fill(120)
        assert compact(bench) is not None
    bench.shut_down()
    bench.commit()
    files = export(bench, tmp_path)
    output = dump(files, "--deep-iteration")
    for complaint in COMPLAINTS:
        # Offsets of records are not consecutive in any compacted log.
        if complaint != "Non-consecutive":
            assert complaint not in output, output[output.index(complaint) - 500 :]
    kept = list(records_in(bench))
    lines = [line for line in output.splitlines() if line.startswith("| offset:")]
    assert [int(line.split()[2]) for line in lines] == [record.offset for record in kept]
    headers = [line for line in output.splitlines() if line.startswith("baseOffset:")]
    found = [(h.base_offset, h.last_offset, h.record_count) for _, h in batches(bench.content())]
    told = [tuple(int(line.split()[at]) for at in (1, 3, 5)) for line in headers]
    assert told == found
    assert any(count == 0 for _, _, count in found)
    assert "deleteHorizonMs: OptionalLong[" in output
    assert all("isvalid: true" in line for line in headers)
    checked = dump([p for p in files if "index" in p.suffix], "--index-sanity-check")
    assert checked.count("passed sanity check") == sum("index" in p.suffix for p in files)
