"""The screen as a person sees it: pictures of one fixed sight, to be read and compared.

Made anew with `GOLDEN=write pytest tests/tui/test_pictures.py`; a human reads the difference.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import msgspec
import pytest

from kcluster.client.watch import Sight
from kcluster.tui.lines import plain, width_of
from kcluster.tui.marks import ASCII
from kcluster.tui.picture import draw
from kcluster.tui.view import View
from tests.tui import sights
from tests.tui.picturing import GOLDEN, picture

FRAME_MS = 100


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs; GOLDEN=write writes it anew"


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 16)])
def test_a_cluster_whose_broker_was_killed(size: tuple[int, int]) -> None:
    assert_golden("killed-{}x{}".format(*size), picture(sights.view_of_a_death(), size))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("help", ["question_mark"]),
        ("kill", ["2", "k"]),
        ("faults", ["2", "c"]),
        ("leave", ["q"]),
        ("filtered", [*"/cli", "enter", "down"]),
        ("events", ["e", "v"]),
    ],
)
def test_what_keys_open(name: str, keys: Sequence[str]) -> None:
    assert_golden(name, picture(sights.view_of_a_death(), (100, 30), keys))


def test_a_cluster_without_topics_says_where_clients_connect() -> None:
    view = View("dev")
    empty = msgspec.structs.replace(sights.snapshot(), partitions=[])
    view.take(Sight(empty, []))
    text = picture(view, (100, 30))
    assert "no topics yet" in text
    assert f"bootstrap address for clients: {empty.bootstrap}" in text


def test_ascii_has_nothing_but_ascii() -> None:
    view = sights.view_of_a_death()
    view.marks = ASCII
    text = picture(view, (80, 24))
    assert text.isascii()
    assert_golden("ascii-80x24", text)


def test_too_small_a_terminal_is_told_so() -> None:
    text = picture(sights.view_of_a_death(), (59, 16))
    assert "terminal too small" in text
    assert "60x16" in text


@pytest.mark.parametrize("brokers", [1, 2, 4, 5, 9, 17, 64])
def test_every_row_fits_whatever_the_size_and_however_many_brokers(brokers: int) -> None:
    view = View("large")
    view.take(Sight(sights.large(brokers, 30), sights.events()))
    view.selected = brokers
    for width in (60, 79, 80, 99, 100, 119, 120, 200, 300):
        for height in (16, 20, 24, 30, 36, 40, 70):
            lines = draw(view, width, height)
            assert len(lines) == height
            assert {width_of(plain(line)) for line in lines} == {width}, (width, height)


def test_strange_names_break_no_row() -> None:
    view = View("宇宙\x1b[31m")
    snapshot = sights.snapshot()
    strange = [
        "日本語のとても長いトピック名前" * 4,
        "tab\tand\x07bell\x1b[2J",
        "\u202eright",
        "e\u0301" * 30,
    ]
    import msgspec

    partitions = [
        msgspec.structs.replace(partition, topic=name)
        for name, partition in zip(strange, snapshot.partitions, strict=False)
    ]
    told = [
        sights.event(1, 0, "warning", "Warned", f"{name}\n\r", topic=name, partition=0)
        for name in strange
    ]
    view.take(Sight(msgspec.structs.replace(snapshot, partitions=partitions), told))
    view.filter = ""
    for size in ((120, 40), (80, 24)):
        lines = draw(view, *size)
        assert {width_of(plain(line)) for line in lines} == {size[0]}
        assert not any(not each.isprintable() for line in lines for each in plain(line))
    text = picture(view, (80, 24))
    assert "…-0" in text, "a name that is cut shows it, and keeps its partition"


def test_nine_brokers_and_a_thousand_partitions_are_drawn_in_time() -> None:
    view = View("large")
    times = []
    for second in range(12):
        sight = Sight(sights.large(9, 1000, second=second), [])
        began = time.thread_time()
        view.take(sight)
        draw(view, 120, 40)
        times.append((time.thread_time() - began) * 1000)
    assert max(times) < FRAME_MS, times
