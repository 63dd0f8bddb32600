"""Wrong use, told without a cluster: exit code, three lines, and the next step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kcluster.cli import ahead, main, output
from kcluster.cli.options import broker_ids, milliseconds, settings
from kcluster.errors import UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KCLUSTER_HOME", str(tmp_path / "home"))
    # Nothing here gets as far as to need a supervisor.
    monkeypatch.setattr(ahead, "launch", lambda: None)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("line", "exit_code", "says"),
    [
        ("status", 3, "there is no cluster dev"),
        ("down -c other", 3, "try: kcluster up -c other"),
        ("kill-broker 2", 3, "kcluster up"),
        ("kill-broker two", 2, "is not a broker id"),
        ("purge", 3, "there is no cluster dev"),
        ("restart --rolling", 3, "there is no cluster dev"),
        ("elect-leaders orders", 3, "there is no cluster dev"),
        ("topic offsets orders", 3, "there is no cluster dev"),
        ("topic offsets orders --at end", 2, "try: --at @-5m"),
        ("topic trim orders", 2, "--before"),
        ("topic trim orders --before start", 2, "try: --before end"),
        ("topic trim orders --before whenever", 2, "is no place"),
        ("topic config orders -X retention.ms", 2, "is not key=value"),
        ("logs", 3, "there is no cluster dev"),
        ("up -X no.such.config=1", 2, "unknown broker config no.such.config"),
        ("up -X num.partitions=none", 2, "must be a number"),
        ("up -X num.io.threads=8", 2, "one thread and one loop"),
        ("up -X num.partitions", 2, "is not key=value"),
        ("up --restart sometimes", 2, "no, on-failure or always"),
        ("up --brokers 0", 2, "0"),
        ("up --topic orders:many", 2, "NAME[:PARTITIONS[:REPLICAS]]"),
        ("up --timeout soon", 2, "is not a time"),
        ("kill-broker --signal HUP 1", 2, "KILL, TERM or INT"),
        ("kill-broker --wait sometime 1", 2, "none, detected, elected, recovered"),
        ("kill-broker", 2, "try: kcluster kill-broker 2"),
        ("kill-broker --random --times 0", 2, "times"),
        ("kill-broker --random --interval soon", 2, "is not a time"),
        ("why orders-0", 3, "there is no cluster dev"),
        ("why orders", 2, "is not TOPIC-PARTITION"),
        ("why orders-0 --since noon", 2, "is not a time"),
        ("consume orders -g g -p 0", 2, "-g and -p exclude each other"),
        ("group reset g", 2, "either --to or --shift"),
        ("group reset g --to latest --shift 1", 2, "either --to or --shift"),
        ("group ls", 3, "there is no cluster dev"),
        ("groups", 3, "there is no cluster dev"),
        ("load", 3, "there is no cluster dev"),
        ("load -g g --readers 0", 2, "--group wants readers"),
        ("load --duration soon", 2, "is not a time"),
        ("load --acks 2", 2, "acks"),
        ("load -b nowhere", 2, "host:port"),
        ("segments", 3, "there is no cluster dev"),
        ("dump-segment", 2, "Missing argument"),
        ("dump-segment nowhere.log", 2, "there is no file"),
        ("dump-segment .", 2, "it is a directory"),
        ("dump-segment README.md", 2, "known are *.log"),
        ("env", 3, "there is no cluster dev"),
        ("env --shell tcsh", 2, "tcsh"),
        ("doctor -c ../etc", 2, "invalid cluster name"),
        ("no-such-command", 2, "no-such-command"),
        ("status --no-such-option", 2, "kcluster status --help"),
        ("status -c ../etc", 2, "invalid cluster name"),
    ],
)
def test_wrong_use_says_what_and_what_next(
    line: str, exit_code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(line.split()) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert says in captured.err
    assert len(captured.err.splitlines()) == 3
    assert "Traceback" not in captured.err


def test_an_error_is_what_why_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(UsageError("port 19093 is in use", "broker 2 needs it", "kcluster up --any-port"))
    assert capsys.readouterr().err.splitlines() == [
        "error: port 19093 is in use",
        "broker 2 needs it",
        "try: kcluster up --any-port",
    ]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    for commands in main.MODULES.values():
        for command in commands:
            assert f"  {command} " in text


@pytest.mark.parametrize("command", [word for words in main.MODULES.values() for word in words])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    assert "Usage: kcluster " + command in capsys.readouterr().out


def test_times_are_read_with_their_units() -> None:
    assert [milliseconds(text) for text in ("500ms", "5s", "2m", "1h", "1.5", "0")] == [
        500, 5000, 120_000, 3_600_000, 1500, 0,
    ]  # fmt: skip
    for text in ("", "s", "-1s", "nan", "inf", "5 minutes"):
        with pytest.raises(UsageError):
            milliseconds(text)


def test_broker_ids_are_read_in_many_ways() -> None:
    assert broker_ids(["1", "broker-2", "3,4", "1"]) == [1, 2, 3, 4]
    with pytest.raises(UsageError):
        broker_ids(["two"])


def test_a_setting_may_hold_an_equals_sign() -> None:
    assert settings(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


def test_a_table_off_a_terminal_is_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["NAME", "SIZE"], [["x" * 300, None], ["running", 7]], numbers=["SIZE"])
    text = capsys.readouterr().out
    assert "x" * 300 in text
    assert "\x1b" not in text
    assert text.splitlines()[1].split()[1] == "-"


def test_servers_import_nothing_that_only_a_face_needs() -> None:
    code = (
        "import sys; import kcluster.processes.__main__, kcluster.processes.front,"
        " kcluster.processes.broker, kcluster.processes.coordinator;"
        "print([m for m in ('typer', 'rich', 'textual', 'psutil', 'ssl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plain_command_draws_without_rich() -> None:
    code = (
        "import sys; from kcluster.cli import main; main.run(['version']);"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
