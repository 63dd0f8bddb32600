"""Screenshots of `kcluster top`: a real cluster under load, one broker just killed.

    python examples/screenshots/make.py        # or: make screenshots

It starts a cluster of its own in a temporary directory, writes to it, kills broker 3 by the keys
of the screen, and takes the picture at two sizes. The cluster is gone at the end.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kcluster.tui.app import Top
from kcluster.tui.start import make_top

HERE = Path(__file__).parent
NAME = "dev"
SIZES = ((120, 40), (80, 24))
TOPICS = {
    "orders": ("-p", "3", "-r", "3", "-X", "segment.bytes=1048576"),
    "clicks": ("-p", "2", "-r", "3", "-X", "segment.bytes=1048576",
               "-X", "retention.bytes=3145728"),
    "audit": ("-p", "1", "-r", "2"),
}  # fmt: skip
SEEN_S = 60
FILLED_S = 20
DEAD_S = 5
"""From the kill to the picture."""
FROM_AFAR = re.compile(r',\s+url\("https:[^)]*\) format\("\w+"\)')
"""Fonts that a picture would fetch; without them it takes the reader's."""


def kcluster(*words: str) -> list[str]:
    return [sys.executable, "-m", "kcluster.cli.main", *words, "-c", NAME]


def fill(topic: str, rate: int, *, seconds: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        kcluster("load", "-t", topic, "--duration", f"{seconds}s", "--rate", str(rate),
                 "--size", "1000", "-q"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


async def take(app: Top) -> None:
    async with app.run_test(size=SIZES[0]) as pilot:

        async def until(is_true: Callable[[], bool], what: str) -> None:
            deadline = time.monotonic() + SEEN_S
            while not is_true():
                if time.monotonic() > deadline:
                    raise SystemExit(f"not seen in time: {what}")
                await pilot.pause(0.1)

        await until(lambda: app.view.snapshot is not None, "the cluster")
        await pilot.press("g")
        await until(lambda: app.view.load.phase == "running", "the load")
        await pilot.pause(FILLED_S)
        await pilot.press("3", "k", "9")
        await until(lambda: app.view.selected_state == "killed", "the death of broker 3")
        await pilot.pause(DEAD_S)
        await pilot.press("1")
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await pilot.pause(0.5)
            picture = app.export_screenshot(title=f"kcluster top ({width}x{height})")
            (HERE / f"top-{width}x{height}.svg").write_text(FROM_AFAR.sub("", picture))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kcluster-") as home:
        os.environ["KCLUSTER_HOME"] = home
        subprocess.run(kcluster("up", "-d", "--any-port", "-q"), check=True)
        loads: list[subprocess.Popen[bytes]] = []
        try:
            for topic, options in TOPICS.items():
                subprocess.run(kcluster("topic", "create", topic, *options), check=True)
            loads += [fill("orders", 500, seconds=600), fill("clicks", 200, seconds=600)]
            asyncio.run(take(make_top(NAME)))
        finally:
            for load in loads:
                load.kill()
                load.wait()
            subprocess.run(kcluster("down", "--force"), check=False)


if __name__ == "__main__":
    main()
