"""The application with a view that nobody feeds: what keys do, and what they must not do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import pytest

from kcluster.client.watch import Sight
from kcluster.tui.app import BINDINGS, LEAVE_RUNNING, STOP_CLUSTER, Top
from kcluster.tui.canvas import STYLES, Canvas
from kcluster.tui.view import View
from tests.tui import sights
from tests.tui.picturing import picture, text_of


def after(keys: Sequence[str], view: View | None = None) -> Top:
    """The application when these keys were pressed."""

    async def run() -> Top:
        app = Top(view or sights.view_of_a_death(), interval_ms=0)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
        return app

    return asyncio.run(run())


def test_every_binding_has_its_action() -> None:
    for binding in BINDINGS:
        assert hasattr(Top, f"action_{binding.action.partition('(')[0]}")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("keys", "wish"),
    [("qq", LEAVE_RUNNING), ("qs", STOP_CLUSTER), (["ctrl+c", "q"], LEAVE_RUNNING)],
)
def test_who_leaves_says_what_becomes_of_the_cluster(keys: Sequence[str], wish: str) -> None:
    assert after(keys).return_value == wish


def test_escape_answers_no_question() -> None:
    app = after(["q", "escape", "k", "escape"])
    assert app.return_value is None
    assert app.view.menu is None


def test_a_read_only_screen_breaks_nothing() -> None:
    view = sights.view_of_a_death()
    view.is_read_only = True
    app = after([*"kprscg"], view)
    assert app.view.menu is None
    assert not [event for event in app.view.story if event.type == "command"]
    assert "--read-only" in app.view.note
    assert after(["q"], view).return_value == LEAVE_RUNNING


def test_what_is_typed_into_the_filter_is_no_command() -> None:
    app = after(["slash", *"kq1"])
    assert (app.view.filter, app.view.menu, app.view.selected) == ("kq1", None, 1)
    app = after(["slash", *"kq", "backspace", "enter", "2"])
    assert (app.view.filter, app.view.selected) == ("k", 2)
    assert after(["slash", *"kq", "escape"]).view.filter == ""


def test_only_rows_that_changed_are_drawn_again() -> None:
    drawn: list[int] = []

    class Watched(Canvas):
        def render_line(self, y: int):  # type: ignore[no-untyped-def]
            drawn.append(y)
            return super().render_line(y)

    async def run() -> None:
        app = Top(sights.view_of_a_death(), interval_ms=0)
        app._canvas = Watched(app.draw)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            drawn.clear()
            app.view.selected = 0
            app.draw()
            await pilot.pause()

    asyncio.run(run())
    assert sorted(set(drawn)) == [*range(1, 10), 11], "the coordinator, the cards, the heads"


def test_it_follows_the_size_of_the_terminal() -> None:
    async def run() -> list[str]:
        app = Top(sights.view_of_a_death(), interval_ms=0)
        seen = []
        async with app.run_test(size=(120, 40)) as pilot:
            for size in ((80, 24), (50, 10), (200, 60)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
                seen.append(text_of(app))
        return seen

    small, tiny, wide = asyncio.run(run())
    assert small == picture(sights.view_of_a_death(), (80, 24))
    assert tiny.startswith("terminal too small\n50x10")
    assert wide == picture(sights.view_of_a_death(), (200, 60))


def test_a_supervisor_that_is_gone_is_said() -> None:
    view = sights.view_of_a_death()
    view.lose("the supervisor of cluster dev is silent; try: kcluster ls")
    text = picture(view, (80, 24))
    assert "NO ANSWER" in text.splitlines()[0]
    assert "orders-2" in text, "what was known stays"
    assert after(["q"], view).return_value == LEAVE_RUNNING, "there is nothing to stop"


def test_it_draws_before_anything_is_known() -> None:
    assert "asking the cluster" in picture(View("dev"), (80, 24))
    after(
        [*"123kprscgo?lGev", "enter", "up", "down", "tab", "space", "slash", "escape"], View("dev")
    )


def test_every_key_at_every_time_is_harmless() -> None:
    view = View("dev", is_read_only=True)
    view.take(Sight(sights.large(9, 200), []))
    keys = ["n", "N", "tab", "down", "e", "pagedown", "home", "end", "v", "tab", "?", "o", "space"]
    after(keys * 3, view)


@pytest.mark.parametrize("command", ["status", "up", "events", "--help"])
def test_textual_is_imported_by_the_screen_alone(command: str) -> None:
    code = (
        "import sys; from kcluster.cli.main import run; "
        f"run(['{command}', '--help']); sys.exit('textual' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


def test_a_screen_without_colours_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = picture(sights.view_of_a_death(), (80, 24))
    monkeypatch.setenv("NO_COLOR", "1")
    assert picture(sights.view_of_a_death(), (80, 24)) == coloured


def test_styles_are_the_terminals_own() -> None:
    assert not [style for style in STYLES.values() if "#" in style or "rgb" in style]
