"""What shells are offered while a command line is typed; they are never shown an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kcluster.cli import main
from kcluster.cli.completion import SCRIPTS, Shell
from kcluster.processes.workdir import Workdir


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clusters that have ended; "dev" has brokers 1 and 2 and topics orders and clicks."""
    monkeypatch.setenv("KCLUSTER_HOME", str(tmp_path))
    monkeypatch.delenv("KCLUSTER_CLUSTER", raising=False)
    for name, seats in (("dev", 2), ("other", 1)):
        workdir = Workdir.claim(name)
        workdir.take_seats(seats, None)
        workdir.save()
        workdir.release()
    for place in ("broker-1/orders-0", "broker-2/orders-1", "broker-2/click-log-0",
                  "broker-1/__consumer_offsets-0", "broker-1/logs"):  # fmt: skip
        (tmp_path / "dev" / place).mkdir(parents=True)
    return tmp_path


CASES: list[tuple[list[str], list[str]]] = [
    (["kill-"], ["kill-broker"]),
    (["topic", "de"], ["describe", "delete"]),
    (["kill-broker", ""], ["1", "2"]),
    (["kill-broker", "-c", "other", ""], ["1"]),
    (["kill-broker", "--cluster=other", ""], ["1"]),
    (["kill-broker", "--signal", ""], ["KILL", "TERM", "INT"]),
    (["kill-broker", "--wait", "e"], ["elected"]),
    (["kill-broker", "--coordinator", "--ran"], ["--random"]),
    (["kill-broker", "--leader-of", "ord"], ["orders-0", "orders-1"]),
    (["status", "-c", ""], ["dev", "other"]),
    (["status", "--cluster=o"], ["--cluster=other"]),
    (["status", "--cluster", "=", "o"], ["other"]),
    (["status", "-o", "w"], ["wide"]),
    (["status", ""], []),
    (["events", ""], ["click-log", "orders"]),
    (["events", "orders-"], ["orders-0", "orders-1"]),
    (["events", "orders", ""], []),
    (["topic", "describe", "c"], ["click-log"]),
    (["topic", "create", ""], []),
    (["consume", "orders", "__"], ["__consumer_offsets"]),
    (["logs", "coord"], ["coordinator"]),
    (["dump-segment", ""], []),
    (["completion", ""], ["bash", "zsh", "fish"]),
    (["no-such-command", ""], []),
    (["status", "-c", "../etc", "-o", "j"], ["json"]),
    (["kill-broker", "-c", "../etc", ""], []),
]


@pytest.mark.parametrize(("words", "offered"), CASES)
def test_what_fits_is_offered(
    words: list[str], offered: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["__complete", *words]) == 0
    captured = capsys.readouterr()
    assert [line.partition("\t")[0] for line in captured.out.splitlines()] == offered
    assert captured.err == ""


def test_commands_are_offered_without_a_single_import(home: Path) -> None:
    code = (
        "import sys; from kcluster.cli import main; main.run(['__complete', '']);"
        "print([m for m in ('typer', 'rich', 'zmq') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *commands, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert set(commands) >= {name for names in main.MODULES.values() for name in names}


@pytest.mark.parametrize("shell", Shell)
def test_each_shell_reads_its_script(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert script == SCRIPTS[shell] + "\n"
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(home: Path) -> None:
    script = f"""
kcluster() {{ {sys.executable} -m kcluster.cli.main "$@"; }}
{SCRIPTS[Shell.BASH]}
COMP_WORDS=(kcluster kill-broker --leader-of orders-)
COMP_CWORD=3
_kcluster
echo "${{COMPREPLY[*]}}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["orders-0", "orders-1"]
