"""How a broker's data directory survived the end of the process before.

Told from two small files in it: the marker of a clean stop, and the boot id under which it last
ran. Within one boot the page cache keeps what a killed process wrote; across boots it may be lost.
"""

from __future__ import annotations

from pathlib import Path

from kcluster.processes.small_files import replace_file

CLEAN_MARKER = ".kafka_cleanshutdown"
"""Written by the broker's core when every byte before it is durable."""

BOOT_ID_FILE = ".kcluster_boot_id"


_LOSSY = "\nlossy"


def restart_kind(directory: Path, boot_id: str) -> str:
    """How the data directory survived: clean, crash or lossy. Called once for each start, under
    the directory's lock; the core takes the marker away before it writes anything else.

    Lossy stays lossy over further starts until `told`: a broker that ends before the controller
    has heard of it must not come back as one that may be trusted (invariant 11)."""
    boot_file = directory / BOOT_ID_FILE
    marker = directory / CLEAN_MARKER
    try:
        last = boot_file.read_text()
    except FileNotFoundError:
        last = ""
    if marker.exists() or not (last or any(entry.is_dir() for entry in directory.iterdir())):
        kind = "clean"
    else:
        kind = "crash" if last == boot_id else "lossy"
    now = boot_id + _LOSSY if kind == "lossy" else boot_id
    if last != now:
        # Durable before anything is written under this boot: else a power cut could make it
        # look like a process crash.
        replace_file(boot_file, now.encode(), durable=True)
    return kind


def told(directory: Path, boot_id: str) -> None:
    """The controller has it in its log that this directory came back lossy."""
    replace_file(directory / BOOT_ID_FILE, boot_id.encode(), durable=True)
