"""The real application, run without a terminal, as text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kcluster.tui.app import Top
from kcluster.tui.view import View

GOLDEN = Path(__file__).parent / "golden"


def text_of(app: Top) -> str:
    """What stands on its screen."""
    width, height = app.size
    lines = app.screen._compositor.render_strips(app.size)
    text = "\n".join("".join(s.text for s in line).rstrip() for line in lines[:height])
    assert all(strip.cell_length == width for strip in lines), "a row is too wide or too narrow"
    return text + "\n"


def picture(view: View, size: tuple[int, int], keys: Sequence[str] = ()) -> str:
    """After these keys, with no cluster behind it."""

    async def run() -> str:
        app = Top(view, interval_ms=0)
        async with app.run_test(size=size) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            return text_of(app)

    return asyncio.run(run())
