"""Where the value of an option comes from that is not given, and what a wrong file is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kcluster.cli import ahead, defaults, main, up

Requests = list[dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in; its kcluster.toml is written by the test."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("KCLUSTER_HOME", str(tmp_path / "home"))
    return place


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """What `up` would have asked its supervisor."""
    requests: Requests = []

    class Recorded:
        def __init__(
            self,
            request: dict[str, Any],
            topics: list[tuple[str, int, int]],
            *,
            has_screen: bool,
            metrics_port: int | None,
        ) -> None:
            assert not has_screen and metrics_port is None
            requests.append(request | {"topics": topics})

        def run(self, launch: object) -> int:
            return 0

    monkeypatch.setattr(ahead, "launch", lambda: None)
    monkeypatch.setattr(ahead, "take", lambda: None)
    monkeypatch.setattr(up, "_Up", Recorded)
    return requests


def user(config_home: Path, text: str) -> None:
    place = config_home / "kcluster" / "config.toml"
    place.parent.mkdir(parents=True)
    place.write_text(text)


def test_the_stronger_place_wins(
    project: Path, config_home: Path, asked: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brokers(*words: str) -> Any:
        assert main.run(["up", *words]) == 0
        return asked[-1]["brokers"]

    assert brokers() is None
    user(config_home, "[up]\nbrokers = 2\ntimeout = '40s'\n")
    assert brokers() == 2
    (project / "kcluster.toml").write_text("[up]\nbrokers = 3\n")
    assert brokers() == 3
    assert asked[-1]["timeout_ms"] == 40_000
    monkeypatch.setenv("KCLUSTER_UP_BROKERS", "4")
    assert brokers() == 4
    assert brokers("-n", "5") == 5


def test_every_kind_of_option_can_be_set(project: Path, asked: Requests) -> None:
    (project / "kcluster.toml").write_text(
        """
        cluster = "staging"
        [up]
        any-port = true
        detach = true
        restart = "no"
        topic = ["orders:2", "clicks"]
        timeout = 5
        [up.options]
        "log.retention.ms" = 60000
        num.partitions = 2
        auto.create.topics.enable = false
        """
    )
    assert main.run(["up", "-X", "num.partitions=7", "-X", "log.segment.bytes=1048576"]) == 0
    [request] = asked
    assert (request["name"], request["is_any_port"], request["is_detached"]) == (
        "staging", True, True,
    )  # fmt: skip
    assert (request["restart"], request["timeout_ms"]) == ("no", 5000)
    assert request["topics"] == [("orders", 2, -1), ("clicks", -1, -1)]
    assert request["options"] == {
        "log.retention.ms": "60000", "num.partitions": "7",
        "auto.create.topics.enable": "false", "log.segment.bytes": "1048576",
    }  # fmt: skip
    assert main.run(["up", "-c", "mine"]) == 0
    assert asked[-1]["name"] == "mine"


def test_a_named_file_takes_the_place_of_the_projects(
    project: Path, config_home: Path, asked: Requests
) -> None:
    user(config_home, "[up]\ntransport = 'tcp'\nbrokers = 2\n")
    (project / "kcluster.toml").write_text("this is not even TOML")
    (project / "five.toml").write_text("cluster = 'five'\n[up]\nbrokers = 5\n[up.options]\n"
                                       "num.partitions = 2\n")  # fmt: skip
    for words in (["-f", "five.toml"], ["--file=five.toml"], ["-df", "five.toml"]):
        assert main.run(["up", *words]) == 0
        request = asked[-1]
        assert (request["name"], request["brokers"], request["transport"]) == ("five", 5, "tcp")
        assert request["options"] == {"num.partitions": "2"}
    assert main.run(["up", "-f", "five.toml", "-n", "7", "-X", "num.partitions=3"]) == 0
    assert (asked[-1]["brokers"], asked[-1]["options"]) == (7, {"num.partitions": "3"})


def test_the_cluster_at_the_top_is_that_of_every_command(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "kcluster.toml").write_text("cluster = 'staging'\n")
    for words in (["status"], ["topic", "ls"], ["segments"], ["logs"]):
        assert main.run(words) == 3
        assert "no cluster staging" in capsys.readouterr().err
    monkeypatch.setenv("KCLUSTER_CLUSTER", "other")
    assert main.run(["status"]) == 3
    assert "no cluster other" in capsys.readouterr().err


def test_a_command_in_a_group_has_a_table_in_a_table(project: Path) -> None:
    (project / "kcluster.toml").write_text("[topic.create]\npartitions = 6\n[group.ls]\n")
    import typer

    root: Any = typer.main.get_command(main.make_app("topic"))
    values = defaults.read(defaults.files())
    assert defaults.default_map(root, "topic", values)["topic"]["create"] == {"partitions": "6"}


WRONG: list[tuple[str, str, str, str]] = [
    ("[upp]\nbrokers = 3", "ls", "unknown key upp.brokers", "near to it are up"),
    ("clutser = 'x'", "ls", "unknown key clutser", "near to it is cluster"),
    ("up = 3", "ls", "unknown key up", ""),
    ("[up]\nbroker = 3", "up", "unknown key up.broker", "brokers"),
    ("[up.option]\na = 1", "up", "unknown key up.option.a", "near to it are options"),
    ("[up]\noptions = 1", "up", "unknown key up.options", "options"),
    ("[topic.creat]\nx = 1", "topic ls", "unknown key topic.creat.x", "near to it is create"),
    ("[topic]\nx = 1", "topic ls", "unknown key topic.x", "known are create"),
    ("[status]\nbrokers = 1", "status", "unknown key status.brokers", "known are cluster"),
    ("[up]\nbrokers = 'many'", "up", "up.brokers = many", "is not a valid int"),
    ("[up]\nbrokers = 0", "up", "up.brokers = 0", "1<=x<=64"),
    ("[up]\ndetach = 'yes'", "up", "up.detach = yes", "true or false"),
    ("[up]\ntopic = 'orders'", "up", "up.topic = orders", "it takes a list"),
    ("[up]\nport = [1]", "up", "up.port", "it takes one value"),
    ("[status]\noutput = 'xml'", "status", "status.output = xml", "json"),
    ("[up", "ls", "is no TOML", "Expected"),
]


@pytest.mark.parametrize(("text", "line", "what", "why"), WRONG)
def test_a_wrong_file_is_named_with_key_and_remedy(
    text: str, line: str, what: str, why: str,
    project: Path, asked: Requests, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (project / "kcluster.toml").write_text(text)
    assert main.run(line.split()) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("error: kcluster.toml") and what in first
    assert why in second
    assert third.startswith("try: kcluster config ")
    assert not asked


@pytest.mark.parametrize(("command", "key"), [("up", "fresh = true"), ("purge", "confirm = 'dev'")])
def test_what_deletes_is_said_by_hand(
    command: str,
    key: str,
    project: Path,
    asked: Requests,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KCLUSTER_UP_FRESH", "1")
    assert main.run(["up"]) == 0
    assert asked.pop()["is_fresh"] is False
    (project / "kcluster.toml").write_text(f"[{command}]\n{key}\n")
    assert main.run([command]) == 2
    assert "can only be given as a flag" in capsys.readouterr().err
    assert not asked


def test_what_is_wrong_for_one_command_leaves_the_others_alone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "kcluster.toml").write_text("[up]\nbroker = 3")
    assert main.run(["version"]) == 0
    assert main.run(["up", "--help"]) == 0
    assert main.run(["config", "path"]) == 0
    assert main.run(["config", "show"]) == 2
    assert "unknown key up.broker" in capsys.readouterr().err


def test_what_is_set_is_shown_with_its_source(
    project: Path,
    config_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    user(config_home, "[up]\nbrokers = 2\nport = 20000\n")
    (project / "kcluster.toml").write_text("[up]\nbrokers = 3\n[up.options]\nnum.partitions = 2\n")
    monkeypatch.setenv("KCLUSTER_CLUSTER", "staging")
    monkeypatch.setenv("KCLUSTER_STATUS_OUTPUT", "wide")
    assert main.run(["config", "show", "-o", "json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert {one["key"]: (one["value"], Path(one["from"]).name) for one in values} == {
        "cluster": ("staging", "KCLUSTER_CLUSTER"),
        "status.output": ("wide", "KCLUSTER_STATUS_OUTPUT"),
        "up.brokers": (3, "kcluster.toml"),
        "up.options.num.partitions": (2, "kcluster.toml"),
        "up.port": (20000, "config.toml"),
    }
    assert main.run(["config", "path"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["OF", "FILE", "STATE"]
    assert first.split()[::2] == ["project", "read"] and second.split()[::2] == ["user", "read"]


def test_without_a_file_none_is_parsed_and_up_starts_its_supervisor_first(
    project: Path, config_home: Path
) -> None:
    code = """
import sys
from kcluster.cli import ahead, main
def launch():
    early = [m for m in ('typer', 'tomllib', 'kcluster.cli.defaults') if m in sys.modules]
    print('launched before', early)
ahead.launch = launch
main.run(['up', '--restart', 'sometimes'])
print([m for m in ('tomllib', 'platformdirs') if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["launched before []", "[]"]
