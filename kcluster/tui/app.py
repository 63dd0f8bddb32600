"""The application: keys in, pictures out. All that it shows is drawn elsewhere (`picture.py`)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from kcluster.client.watch import Sight
from kcluster.tui import actions, keys, pages
from kcluster.tui.canvas import Canvas
from kcluster.tui.feeds import LoadFeed, PageFeed, WatchFeed, carry_out
from kcluster.tui.lines import Line
from kcluster.tui.load_figures import LoadState
from kcluster.tui.picture import draw, page_height
from kcluster.tui.story import command
from kcluster.tui.view import Menu, Page, View

LEAVE_RUNNING, STOP_CLUSTER = "running", "stop"

BINDINGS: list[BindingType] = [
    Binding(key, keys.bound(entry, key), entry.text, priority=True)
    for entry in keys.KEYS
    for key in entry.keys.split(",")
]


class Top(App[str]):
    """Ends with LEAVE_RUNNING or STOP_CLUSTER."""

    BINDINGS: ClassVar[list[BindingType]] = BINDINGS
    ENABLE_COMMAND_PALETTE = False
    CSS = "Screen { background: ansi_default; overflow: hidden; }"

    class Seen(Message):
        def __init__(self, sight: Sight) -> None:
            super().__init__()
            self.sight = sight

    class Told(Message):
        """From a thread: to be done in the loop."""

        def __init__(self, do: Callable[[], object]) -> None:
            super().__init__()
            self.do = do

    def __init__(self, view: View, *, interval_ms: int = 250, after: int = -1) -> None:
        super().__init__(ansi_color=True)
        self.title = f"kcluster top: {view.name}"
        self.view = view
        self._interval_ms = interval_ms
        self._after = after
        self._watch: WatchFeed | None = None
        self._page_feed: PageFeed | None = None
        self._load_feed: LoadFeed | None = None
        self._canvas = Canvas(self.draw)

    # --- living ---------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield self._canvas

    def on_mount(self) -> None:
        if self._interval_ms:
            self._watch = WatchFeed(
                self.view.name, self._interval_ms,
                lambda sight: self.post_message(self.Seen(sight)),
                lambda problem: self.do_soon(lambda: self._lose(problem)), after=self._after,
            )  # fmt: skip
            self._watch.start()
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                # Or the terminal would be left as the screen has it.
                loop.add_signal_handler(number, self.action_leave_running)
        self.draw()

    def on_unmount(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        if self._load_feed is not None and self.view.load.is_on:
            self._load_feed.kill()
        self._close_page()

    def do_soon(self, do: Callable[[], object]) -> None:
        """In the loop, from any thread; then draw."""
        self.post_message(self.Told(do))

    def on_top_seen(self, message: Seen) -> None:
        self.view.take(message.sight)
        if not self.view.is_frozen:
            self._refresh_page()
            self.draw()

    def on_top_told(self, message: Told) -> None:
        message.do()
        self.draw()

    def _lose(self, problem: str) -> None:
        self.view.lose(problem)

    def draw(self) -> None:
        width, height = self._canvas.size
        if height:
            self._canvas.show(draw(self.view, width, height))

    # --- keys -----------------------------------------------------------------------------

    async def on_event(self, event: events.Event) -> None:
        """While something is typed or asked, its keys are not those of the table."""
        if isinstance(event, events.Key) and self._answers(event):
            self.draw()
            return
        await super().on_event(event)

    def _answers(self, event: events.Key) -> bool:
        view = self.view
        view.say("")
        if view.menu is not None:
            menu, view.menu = view.menu, None
            for choice in menu.choices:
                if event.character == choice.key:
                    self.call_later(self.run_action, choice.action)
            return True
        if not view.is_typing:
            return False
        match event.key:
            case "escape":
                view.filter, view.is_typing = "", False
            case "enter" | "tab":
                view.is_typing = False
            case "backspace":
                view.filter = view.filter[:-1]
            case "ctrl+u":
                view.filter = ""
            case _ if event.character and event.character.isprintable():
                view.filter += event.character
            case _:
                return False
        return True

    async def run_action(self, *args: object, **kwargs: object) -> bool:
        done = await super().run_action(*args, **kwargs)  # type: ignore[arg-type]
        self.draw()
        return done

    def action_select(self, id: int) -> None:
        if not self.view.select(id):
            self.view.say(f"there is no broker {id}", "warn")
        elif self.view.page is not None and self.view.page.kind == "log":
            self._open(*pages.log(self.view))

    def action_next_broker(self, by: int) -> None:
        snapshot = self.view.snapshot
        if snapshot is not None:
            ids = [0, *(broker.id for broker in snapshot.brokers)]
            self.view.select(ids[(ids.index(self.view.selected) + by) % len(ids)])

    def action_move(self, key: str) -> None:
        height = page_height(self.view, *self._canvas.size)
        by = {
            "up": -1, "down": 1, "pageup": -height, "pagedown": height, "home": -10**6,
            "end": 10**6,
        }[key]  # fmt: skip
        if self.view.page is not None:
            self.view.page.move(by, height)
        elif self.view.panel == "partitions":
            self.view.move(by)
        else:
            self.action_events()

    def action_filter(self) -> None:
        self._close_page()
        self.view.is_typing = True

    def action_order(self) -> None:
        self.view.reorder()

    def action_level(self) -> None:
        self.view.next_level()
        self._refresh_page()

    def action_panel(self) -> None:
        self.view.panel = "events" if self.view.panel == "partitions" else "partitions"

    def action_freeze(self) -> None:
        self.view.freeze()

    def action_back_out(self) -> None:
        if self.view.page is not None:
            self._close_page()
        else:
            self.view.filter = ""

    # --- breaking and mending -------------------------------------------------------------

    def _may_break(self) -> bool:
        if self.view.is_read_only:
            self.view.say("this screen only looks: it was started with --read-only", "warn")
        return not self.view.is_read_only and self.view.snapshot is not None

    def _ask(self, menu: Menu) -> None:
        self.view.menu = menu

    def _do(self, action: actions.Action) -> None:
        view = self.view
        view.tell(command(view.next_seq(), action.command, action.broker))
        view.say(f"{action.doing}: {action.command}")

        def ended(problem: str) -> None:
            def tell() -> None:
                if problem:
                    view.tell(command(view.next_seq(), f"failed: {problem}", action.broker))
                view.say(problem or action.done, "bad" if problem else "good")

            self.do_soon(tell)

        carry_out(view.name, action, ended)

    def action_kill(self) -> None:
        if self._may_break():
            self._ask(actions.kill_menu(self.view))

    def action_kill_with(self, name: str) -> None:
        self._do(actions.kill(self.view, self.view.selected, name))

    def action_pause(self) -> None:
        if self._may_break():
            self._do(actions.pause_or_resume(self.view))

    def action_restart(self) -> None:
        if self._may_break():
            self._do(actions.restart_or_start(self.view))

    def action_stop(self) -> None:
        if not self._may_break():
            return
        if self.view.selected == 0:
            self.view.say("the coordinator is not stopped gracefully: kill it, it can", "warn")
        else:
            self._do(actions.stop(self.view, self.view.selected))

    def action_faults(self) -> None:
        if self._may_break():
            self._ask(actions.faults_menu(self.view))

    def action_fault(self, what: str, id: int) -> None:
        self._do(actions.fault(self.view, what, id))

    def action_load(self) -> None:
        state = self.view.load
        if state.phase == "ending":
            self.view.say("the load is reading every replica; its verdict comes", "warn")
        elif state.is_on and self._load_feed is not None:
            state.phase = "ending"
            self._load_feed.finish()
        elif self._may_break():
            self._start_load()

    def _start_load(self) -> None:
        view = self.view
        state = view.load = LoadState("starting", command=actions.load_command(view))
        view.tell(command(view.next_seq(), state.command))
        self._load_feed = LoadFeed(
            view.name,
            lambda told: self.do_soon(lambda: state.take(told)),
            lambda problem: self.do_soon(lambda: state.fail(problem)),
        )
        self._load_feed.start()

    # --- pages ----------------------------------------------------------------------------

    def _open(self, page: Page, ask: Callable[[], list[Line]] | None = None) -> None:
        self._close_page()
        self.view.page = page
        if ask is not None:

            def tell(rows: list[Line]) -> None:
                if self.view.page is page and not self.view.is_frozen:
                    page.rows = rows

            self._page_feed = PageFeed(ask, lambda rows: self.do_soon(lambda: tell(rows)))
            self._page_feed.start()

    def _close_page(self) -> None:
        self.view.page = None
        if self._page_feed is not None:
            self._page_feed.stop()
            self._page_feed = None

    def _refresh_page(self) -> None:
        """Of those that show what the view knows anyway."""
        page = self.view.page
        if page is not None and page.kind == "events":
            pages.fill_events(self.view, page, self.size.width)

    def action_open(self) -> None:
        if self.view.page is not None:
            self._close_page()
        elif self.view.panel == "events":
            self.action_events()
        else:
            partition = self.view.partition()
            if partition is not None:
                self._open(*pages.segments(self.view, partition))

    def action_events(self) -> None:
        self._toggle("events", lambda: self._open(pages.events(self.view)))
        self._refresh_page()

    def action_log(self) -> None:
        self._toggle("log", lambda: self._open(*pages.log(self.view)))

    def action_groups(self) -> None:
        self._toggle("groups", lambda: self._open(*pages.groups(self.view)))

    def action_help(self) -> None:
        self._toggle("help", lambda: self._open(pages.help_page(self.view)))

    def _toggle(self, kind: str, open: Callable[[], None]) -> None:
        if self.view.page is not None and self.view.page.kind == kind:
            self._close_page()
        else:
            open()

    # --- leaving --------------------------------------------------------------------------

    def action_leave(self) -> None:
        if self.view.is_read_only or self.view.problem or self.view.snapshot is None:
            self.exit(LEAVE_RUNNING)
        else:
            self._ask(actions.leave_menu())

    def action_leave_running(self) -> None:
        self.exit(LEAVE_RUNNING)

    def action_stop_cluster(self) -> None:
        self.exit(STOP_CLUSTER)
