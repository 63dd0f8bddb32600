"""Text of a known width: cut where it has to be, and never wider than it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcluster.tui.lines import (
    Row,
    box,
    clean,
    cut,
    fit,
    left,
    plain,
    right,
    to_width,
    width_of,
)
from kcluster.tui.marks import UNICODE, to_ascii


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("orders", 6, "orders"),
        ("orders", 5, "orde…"),
        ("orders", 1, "…"),
        ("orders", 0, ""),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
    ],
)
def test_what_is_cut_shows_it(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown


@given(st.text(max_size=30), st.integers(0, 40))
def test_text_is_exactly_as_wide_as_asked(text: str, width: int) -> None:
    text = clean(text)
    assert width_of(left(text, width)) == width
    assert width_of(right(text, width)) == width
    assert width_of(to_ascii(text)) == width_of(text)
    assert width_of(plain(fit(((text, ""), (text, "dim")), width))) == width


@given(st.text(max_size=20), st.integers(0, 30))
def test_two_parts_of_a_line_are_as_wide_as_the_whole(text: str, at: int) -> None:
    line = ((clean(text), ""), ("abc", "dim"))
    parts = to_width(line, at), to_width(line, at, is_rest=True)
    whole = width_of(plain(line))
    assert width_of(plain(parts[0])) == min(at, whole)
    assert sum(width_of(plain(part)) for part in parts) == whole


def test_control_characters_are_shown_as_something_else() -> None:
    assert clean("a\x1b[2Jb\n\u202e") == "a�[2Jb��"
    assert clean("orders") == "orders"


def test_a_box_is_as_large_as_asked_whatever_is_in_it() -> None:
    rows = [(("too long for this box " * 3, ""),), (), (("x", ""),)]
    for height in (2, 3, 5, 9):
        lines = box("a title that is too long", rows, 20, height, UNICODE, hint="no room")
        assert len(lines) == height
        assert {width_of(plain(line)) for line in lines} == {20}


def test_a_row_is_filled_and_cut() -> None:
    row = Row().add("ab", "bad").gap(4).add("cd")
    assert plain(row.line(8)) == "ab  cd  "
    assert plain(row.line(5)) == "ab  …"
    assert row.line(2)[0] == ("ab", "bad")
