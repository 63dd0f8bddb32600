"""`kcluster dump-segment`: what a file of a replica holds, damaged or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from kcluster.cli import output
from kcluster.cli.options import Format, OutputFormat
from kcluster.errors import UsageError

if TYPE_CHECKING:
    from kcluster.client.dump import Entry
    from kcluster.client.dump_log import Batch, Flaw

app = typer.Typer()

EXIT_DAMAGED = 11

BATCH_LINE = "{:>10} {:>21} {:>6} {:>5} {:>14} {:>17} {:<6} {:<23} {:>8} {}"
BATCH_COLUMNS = ("POSITION", "OFFSETS", "COUNT", "EPOCH", "PRODUCER:EPOCH", "SEQUENCES", "CODEC",
                 "LAST TIMESTAMP", "BYTES", "CRC")  # fmt: skip


@app.command("dump-segment")
def dump_segment(
    file: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Of a replica.")],
    records: Annotated[
        bool, typer.Option("--records", "-r", help="Of a log: keys and values, too.")
    ] = False,
    output_format: OutputFormat = Format.TABLE,
) -> int:
    """Show what a file of a log holds: batches, indexes, checkpoints, snapshots.

    Files are known by their names: those of a partition, the checkpoints of a broker, the metadata
    log of the coordinator. Exit code 11: something is damaged; it is said where it begins.

    \b
    kcluster segments orders-0 -o wide         # where the files are
    kcluster dump-segment --records 00000000000000000000.log
    """
    from kcluster.client.dump import dump, kind_of

    for path in file:
        _check(path, kind_of(path.name))
    is_damaged = False
    shown: list[dict[str, Any]] = []
    for path in file:
        try:
            entries = dump(path, with_records=records)
            if output_format is Format.JSON:
                found = _as_values(path, kind_of(path.name), entries)
                shown.append(found)
                is_damaged |= bool(found["damage"])
                continue
            if len(file) > 1:
                output.line(f"{path}  ({kind_of(path.name)})")
            flaws: list[Flaw] = []
            for line in _lines(entries, flaws, is_wide=output_format is Format.WIDE):
                output.line(line)
            is_damaged |= bool(flaws)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(
                f"cannot read {path}", error.strerror or str(error), "kcluster segments -o wide"
            ) from error
    if output_format is Format.JSON:
        output.json({"schema": 1, "files": shown})
    return EXIT_DAMAGED if is_damaged else 0


def _check(path: Path, kind: str) -> None:
    from kcluster.client.dump import NAMES

    if not path.exists():
        raise UsageError(f"there is no file {path}", "segments lists those of every replica",
                         "kcluster segments -o wide", 2)  # fmt: skip
    if not path.is_file():
        raise UsageError(
            f"{path} is no file",
            "it is a directory" if path.is_dir() else "it is something else",
            f"kcluster dump-segment {path}/*.log" if path.is_dir() else "kcluster segments -o wide",
            2,
        )
    if not kind:
        raise UsageError(
            f"{path.name} is not the name of a file of a log",
            f"known are {', '.join(NAMES)}",
            "kcluster segments -o wide",
            2,
        )


def _as_values(path: Path, kind: str, entries: Iterator[Entry]) -> dict[str, Any]:
    from kcluster.client.dump_log import Flaw, Remark

    found: dict[str, Any] = {
        "file": str(path), "kind": kind, "bytes": path.stat().st_size,
        "entries": [], "damage": [], "remarks": [],
    }  # fmt: skip
    for entry in entries:
        if isinstance(entry, Flaw):
            found["damage"].append(entry)
        elif isinstance(entry, Remark):
            found["remarks"].append(entry.remark)
        else:
            found["entries"].append(entry)
    return found


# --- for people -----------------------------------------------------------------------------


def _lines(entries: Iterator[Entry], flaws: list[Flaw], *, is_wide: bool) -> Iterator[str]:
    """As they come, since there may be many; what is damaged is added to `flaws` as well."""
    from kcluster.client.dump import Fact
    from kcluster.client.dump_log import Batch, Flaw, Remark

    headed: type | None = None
    for entry in entries:
        match entry:
            case Flaw():
                flaws.append(entry)
                yield f"✗ byte {entry.position}: {entry.damage}"
            case Remark():
                yield f"! {entry.remark}"
            case Batch():
                if headed is not Batch:
                    yield BATCH_LINE.format(*BATCH_COLUMNS).rstrip()
                yield from _batch_lines(entry, is_wide=is_wide)
            case Fact():
                yield f"{entry.name}: {_plain(entry.value)}"
            case _:
                names = entry.__struct_fields__
                if headed is not type(entry):
                    yield _columns([name.upper().replace("_", " ") for name in names])
                values = [getattr(entry, name) for name in names]
                if "timestamp" in names:
                    at = names.index("timestamp")
                    values[at] = output.moment(values[at])
                yield _columns(values)
        headed = type(entry) if not isinstance(entry, Flaw | Remark) else headed


def _columns(values: list[Any]) -> str:
    return "  ".join(f"{value!s:>20}" for value in values)


def _batch_lines(batch: Batch, *, is_wide: bool) -> Iterator[str]:
    has_producer = batch.producer_id >= 0
    flags = [
        word
        for word, is_so in (
            ("control", batch.is_control),
            ("transactional", batch.is_transactional),
            ("log-append-time", batch.is_log_append_time),
        )
        if is_so
    ]
    crc = "ok" if batch.is_crc_ok else "WRONG"
    if is_wide:
        crc += f" {batch.crc:08x}  from {output.moment(batch.base_timestamp)}"
    line = BATCH_LINE.format(
        batch.position,
        f"{batch.base_offset}-{batch.last_offset}",
        batch.count,
        batch.leader_epoch,
        f"{batch.producer_id}:{batch.producer_epoch}" if has_producer else "-",
        f"{batch.base_sequence}-{batch.last_sequence}" if has_producer else "-",
        batch.codec,
        output.moment(batch.max_timestamp) if batch.max_timestamp >= 0 else "-",
        batch.size,
        " ".join([crc, *flags]),
    )
    yield line
    for record in batch.records or []:
        yield _record_line(record)


def _record_line(record: dict[str, Any]) -> str:
    words = [f"{record['offset']:>12}"]
    if record["timestamp"] >= 0:
        words.append(str(output.moment(record["timestamp"])))
    for name, value in record.items():
        if name not in ("offset", "timestamp"):
            words.append(f"{name}={_plain(value)}")
    return "           | " + " ".join(words)


def _plain(value: Any) -> str:
    """On one line, and without what a terminal would obey."""
    if isinstance(value, dict | list):
        value = msgspec.json.encode(value).decode()
    text = "null" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
