"""The model behind the screen: what it makes of sights, and what keys do to it."""

from __future__ import annotations

import msgspec
import pytest

from kcluster.chaos import report
from kcluster.client.snapshot import BrokerStatus, ClusterSnapshot, PartitionStatus
from kcluster.client.watch import Sight
from kcluster.core.client.results import Group, GroupMember, GroupOffset
from kcluster.tui import actions
from kcluster.tui.history import Traffic
from kcluster.tui.keys import KEYS, brief
from kcluster.tui.lines import plain
from kcluster.tui.load_figures import Figures, LoadState, Report
from kcluster.tui.marks import UNICODE
from kcluster.tui.matrix import segments
from kcluster.tui.pages import group_rows
from kcluster.tui.story import command, folded
from kcluster.tui.view import View, worst_lag
from kcluster.wire.events import ClusterEvent
from kcluster.wire.telling import Counters
from kcluster.wire.telling import Traffic as Bytes
from tests.tui import sights


def sighted(snapshot: ClusterSnapshot | None = None) -> View:
    view = View("dev")
    view.take(Sight(snapshot or sights.snapshot(), []))
    return view


def names(view: View) -> list[str]:
    return [f"{row.topic}-{row.partition}" for row in view.partitions()]


# --- rates --------------------------------------------------------------------------------


def told(second: float, bytes_in: int, *, incarnation: int = 1, state: str = "running",
         cpu_ms: int = 0) -> tuple[BrokerStatus, int]:  # fmt: skip
    runs = state == "running"
    counters = Counters(Bytes(bytes_in)) if runs else None
    status = BrokerStatus(
        1, 7 if runs else None, state, "", 0, "", incarnation=incarnation, counters=counters,
        cpu_ms=cpu_ms,
    )  # fmt: skip
    return status, 1_000_000 + int(second * 1000)


def test_a_rate_is_what_came_in_a_second() -> None:
    traffic = Traffic()
    for second, bytes_in in ((0, 5_000), (0.25, 5_100), (0.5, 5_200), (1, 6_000), (3, 8_000)):
        traffic.take(*told(second, bytes_in))
    assert list(traffic.bytes_in) == [1_000, 1_000]


def test_what_was_written_before_the_screen_opened_is_no_rate() -> None:
    traffic = Traffic()
    traffic.take(*told(0, 10**9))
    traffic.take(*told(1, 10**9))
    assert traffic.rate_in == 0


def test_a_broker_that_comes_back_counts_from_nothing() -> None:
    traffic = Traffic()
    traffic.take(*told(0, 5_000))
    traffic.take(*told(1, 0, state="killed"))
    traffic.take(*told(2, 700, incarnation=2))
    assert list(traffic.bytes_in) == [0, 700]
    assert list(traffic.is_alive) == [False, True]


def test_cpu_is_the_share_of_one_core_over_the_last_seconds() -> None:
    traffic = Traffic()
    for second in range(8):
        traffic.take(*told(second, 0, cpu_ms=60 * second))
    assert traffic.cpu == pytest.approx(0.06)
    traffic.take(*told(9, 0, state="killed"))
    assert traffic.cpu is None


# --- partitions ---------------------------------------------------------------------------


def test_the_worst_lag_comes_first() -> None:
    assert names(sighted())[:4] == ["orders-2", "orders-0", "orders-1", "orders-3"]


def test_a_partition_without_a_leader_comes_before_all() -> None:
    snapshot = sights.snapshot()
    partitions = [
        msgspec.structs.replace(each, leader=-1) if each.topic == "audit" else each
        for each in snapshot.partitions
    ]
    view = sighted(msgspec.structs.replace(snapshot, partitions=partitions))
    assert names(view)[0] == "audit-0"


def test_what_one_in_sync_lacks_for_a_moment_moves_no_row() -> None:
    found: PartitionStatus = sights.partition("clicks", 0, is_third_down=True)
    assert worst_lag(found) == 31
    behind = [
        msgspec.structs.replace(replica, role="in-sync", lag=99) if replica.broker != 1 else replica
        for replica in found.replicas
    ]
    assert worst_lag(msgspec.structs.replace(found, replicas=behind)) == 0


def test_the_filter_takes_all_words_of_the_name() -> None:
    view = sighted()
    view.filter = "ORD 2"
    assert names(view) == ["orders-2"]


def test_the_cursor_stays_on_its_partition_when_rows_change_places() -> None:
    view = sighted()
    view.move(3)
    chosen = view.partition()
    view.order = "name"
    assert view.partition() == chosen
    view.move(-100)
    assert view.cursor == ("__consumer_offsets", 0)
    view.move(100)
    assert view.cursor == ("orders", 3)


def test_a_topic_that_is_deleted_leaves_the_list() -> None:
    view = sighted()
    names(view)
    rest = [each for each in sights.snapshot().partitions if each.topic != "orders"]
    view.take(Sight(msgspec.structs.replace(sights.snapshot(), partitions=rest), []))
    assert "orders-2" not in names(view)


def test_segments_that_do_not_fit_are_left_out_on_the_side_of_the_old() -> None:
    replica = sights.partition("orders", 0, is_third_down=False).replicas[0]
    assert plain(segments(replica, 4 << 20, 8, UNICODE)) == "████▅   "
    assert plain(segments(replica, 4 << 20, 4, UNICODE)) == "…██▅"
    cut = sights.partition("clicks", 0, is_third_down=False).replicas[0]
    assert plain(segments(cut, 1 << 20, 6, UNICODE)) == "·██▅  "


# --- freezing -----------------------------------------------------------------------------


def test_a_frozen_picture_stands_still_and_loses_nothing() -> None:
    view = sighted(sights.snapshot(is_third_down=False))
    view.freeze()
    for event in sights.events():
        view.take(Sight(sights.snapshot(), [event]))
    assert view.snapshot is not None
    assert view.snapshot.health == "ok"
    assert not view.story
    view.freeze()
    assert view.snapshot.health == "degraded"
    assert list(view.story) == sights.events()


def test_who_tells_nothing_any_more_is_said_and_forgotten_when_it_does_again() -> None:
    view = sighted()
    view.lose("the supervisor is silent")
    assert view.snapshot is not None
    assert view.problem
    view.take(Sight(sights.snapshot(), []))
    assert not view.problem


# --- events -------------------------------------------------------------------------------


def test_many_isrs_that_shrink_at_once_are_one_line() -> None:
    lines = folded(sights.events(), 10)
    assert [(event.type, more) for event, more in lines] == [
        ("chaos", 0), ("process", 0), ("election", 0), ("isr", 7), ("segment", 0),
        ("retention", 0),
    ]  # fmt: skip


def test_groups_that_are_loaded_at_once_are_one_line_and_push_nothing_else_away() -> None:
    """With groups in many partitions, nobody saw what he had done himself."""
    done = command(1, "kcluster kill-broker 1", 1, at_ms=1_000)
    loaded = [
        ClusterEvent(2 + n, 1_010 + n, 0, 2, 1, "group", "GroupsLoaded", f"3 groups of {n}")
        for n in range(12)
    ]
    stable = [
        ClusterEvent(20 + n, 1_030 + n, 0, 2, 1, "group", "GroupStable", f"g-{n} stable")
        for n in range(2)
    ]
    lines = folded([done, *loaded, *stable], 8)
    assert [(event.event, more) for event, more in lines] == [
        ("Command", 0), ("GroupsLoaded", 11), ("GroupStable", 0), ("GroupStable", 0),
    ]  # fmt: skip


def test_the_last_lines_are_kept_when_there_is_no_room() -> None:
    assert [event.type for event, _ in folded(sights.events(), 2)] == ["segment", "retention"]


# --- actions ------------------------------------------------------------------------------


def test_each_action_says_the_command_that_would_do_it() -> None:
    view = sighted()
    view.select(2)
    assert actions.kill(view, 2).command == "kcluster kill-broker 2"
    assert actions.kill(view, 2, "TERM").command == "kcluster kill-broker 2 --signal TERM"
    assert actions.kill(view, 0).command == "kcluster kill-broker --coordinator"
    assert actions.pause(view, 2, 5_000).command == "kcluster pause-broker 2 --for 5s"
    assert actions.pause_or_resume(view).command == "kcluster pause-broker 2"
    assert actions.restart_or_start(view).command == "kcluster restart-broker 2"
    view.select(3)
    assert actions.restart_or_start(view).command == "kcluster start-broker 3"
    view.name = "test"
    assert actions.stop(view, 3).command == "kcluster stop-broker 3 -c test"


def test_every_command_that_is_shown_is_one() -> None:
    from typer.main import get_command

    from kcluster.cli.main import make_app

    known = set(get_command(make_app()).commands)  # type: ignore[attr-defined]
    view = sighted()
    made = [actions.kill(view, 1), actions.pause(view, 1), actions.resume(view, 1),
            actions.start(view, 1), actions.restart(view, 1), actions.stop(view, 1),
            actions.add_broker(view), actions.elect_leaders(view)]  # fmt: skip
    shown = [action.command for action in made] + [actions.load_command(view)]
    assert {line.split()[1] for line in shown} <= known


def test_a_broker_that_is_not_there_is_not_selected() -> None:
    view = sighted()
    assert view.select(0)
    assert not view.select(4)
    assert view.selected == 0


# --- keys ---------------------------------------------------------------------------------


def test_no_key_is_bound_twice() -> None:
    keys = [key for entry in KEYS for key in entry.keys.split(",")]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_last_line_always_has_help_and_quit(width: int) -> None:
    for is_read_only in (False, True):
        line = brief(width, is_read_only=is_read_only)
        assert len(line) <= width
        assert line.endswith("? help  q quit")
        assert ("k kill" in line) != is_read_only


# --- the load -----------------------------------------------------------------------------


def told_by_load(seconds: float, acknowledged: int) -> Figures:
    return Figures(seconds, acknowledged, 0, 0, 3.1, 18.0, 214.0)


def test_the_rate_of_the_load_is_what_was_acknowledged_since_the_figures_before() -> None:
    state = LoadState("starting")
    state.take(told_by_load(1.0, 500))
    assert state.phase == "running"
    state.take(told_by_load(1.5, 800))
    assert state.rate == 600


def test_a_load_that_ends_stays_so_while_figures_still_come() -> None:
    state = LoadState("ending")
    state.take(told_by_load(1.0, 500))
    assert state.phase == "ending"
    assert state.is_on
    state.fail("error: no broker")
    assert not state.is_on


def test_what_is_read_of_a_load_is_what_the_load_writes() -> None:
    for own, theirs in ((Figures, report.Figures), (Report, report.Report)):
        written = {field.name: field.type for field in msgspec.structs.fields(theirs)}
        for field in msgspec.structs.fields(own):
            assert written[field.name] == field.type


def test_a_note_makes_room_for_the_keys_again() -> None:
    view = sighted(sights.snapshot(second=0))
    view.say("broker 2: SIGKILL sent", "good")
    view.take(Sight(sights.snapshot(second=5), []))
    assert view.note
    view.take(Sight(sights.snapshot(second=7), []))
    assert not view.note


# --- groups -------------------------------------------------------------------------------


def test_a_group_shows_how_far_behind_each_member_is_the_worst_partition_first() -> None:
    members = [GroupMember(f"app-{end}", None, "app", "::1", []) for end in ("aaaaaa", "bbbbbb")]
    offsets = [
        GroupOffset("orders", 0, 5, 0, 10, 5, "app-aaaaaa", "::1", "app"),
        GroupOffset("orders", 1, 1, 0, 10, 9, "app-aaaaaa", "::1", "app"),
        GroupOffset("orders", 2, None, 0, 10, None, None, None, None),
    ]
    group = Group("billing", "Stable", "consumer", "range", 2, members, offsets)
    texts = [" ".join(plain(row).split()) for row in group_rows([group])]
    assert texts == [
        "billing Stable range coordinator 2 members 2 lag 14",
        "app …aaaaaa ::1 lag 14 orders-1 9, orders-0 5",
        "app …bbbbbb ::1 lag 0",
        "nobody reads lag 0 orders-2 -",
        "",
    ]
