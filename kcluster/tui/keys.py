"""The keys: the bindings, the help page and the last line are all made from this one table."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    keys: str
    """As the toolkit calls them, separated by commas."""
    action: str
    shown: str
    """As people call them."""
    brief: str
    """In the last line; empty for those that only the help page has."""
    text: str
    breaks: bool = False
    """It changes the cluster: not with --read-only."""


KEYS = (
    Key("1,2,3,4,5,6,7,8,9", "select", "1-9", "broker",
        "select a broker; n and N select the next and the one before"),
    Key("0", "select(0)", "0", "", "select the coordinator"),
    Key("n", "next_broker(1)", "n", "", ""),
    Key("N", "next_broker(-1)", "N", "", ""),
    Key("k", "kill", "k", "kill", "kill what is selected, with a signal", True),
    Key("p", "pause", "p", "pause", "pause it (SIGSTOP), or let it go on (SIGCONT)", True),
    Key("r", "restart", "r", "restart", "restart it, or start it when it does not run", True),
    Key("s", "stop", "s", "stop", "stop it gracefully: its leaderships move away first", True),
    Key("c", "faults", "c", "faults", "more ways to break things", True),
    Key("g", "load", "g", "load", "start or stop a load of checked records", True),
    Key("up,down,pageup,pagedown,home,end", "move", "↑ ↓", "", "move; page up, page down, too"),
    Key("slash", "filter", "/", "filter", "filter partitions by name; esc clears it"),
    Key("o", "order", "o", "order", "order partitions by lag, name or size"),
    Key("enter", "open", "enter", "detail",
        "segments of the partition: base offset, bytes, index, age; or all events"),
    Key("tab,shift+tab", "panel", "tab", "panel", "the other panel: partitions or events"),
    Key("e", "events", "e", "events", "all events, each for itself"),
    Key("v", "level", "v", "", "which events: all, the story of a failure, one kind"),
    Key("l", "log", "l", "log", "the log of the selected process"),
    Key("G", "groups", "G", "groups", "consumer groups, with the lag of each member"),
    Key("space", "freeze", "space", "freeze", "freeze the picture; nothing is lost meanwhile"),
    Key("question_mark", "help", "?", "help", "this page"),
    Key("escape", "back_out", "esc", "", "back; forget what was typed"),
    Key("q,ctrl+c", "leave", "q", "quit", "leave; asks whether the cluster shall run on"),
)  # fmt: skip

LEFT_OUT_FIRST = (
    "stop",
    "freeze",
    "groups",
    "log",
    "events",
    "panel",
    "order",
    "open",
    "filter",
    "load",
    "pause",
)
"""Of the last line, where it is narrow."""


def brief(width: int, *, is_read_only: bool) -> str:
    """As many as fit in one line, help and quit always."""
    shown = [key for key in KEYS if key.brief and not (is_read_only and key.breaks)]
    last = [key for key in shown if key.action in ("help", "leave")]
    rest = [key for key in shown if key not in last]
    for action in (*LEFT_OUT_FIRST, None):
        line = " " + "  ".join(f"{key.shown} {key.brief}" for key in rest + last)
        if len(line) <= width:
            break
        rest = [key for key in rest if key.action != action]
    return line


def bound(entry: Key, key: str) -> str:
    """The action of one of its keys, with the key as its argument where it has several."""
    if "," not in entry.keys or entry.action in ("panel", "leave"):
        return entry.action
    return f"{entry.action}({key})" if key.isdigit() else f"{entry.action}('{key}')"
