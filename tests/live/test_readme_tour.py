"""The tour of the README, line by line, as somebody new would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.conftest import LiveCluster

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

README = Path(__file__).parents[2] / "README.md"


def tour() -> list[str]:
    """The lines of the block behind the mark, without what they say of themselves."""
    block = README.read_text("utf-8").split("<!-- runs -->")[1].strip("\n").split("\n\n")[0]
    return [re.sub(r" +#.*", "", line).strip() for line in block.splitlines()]


def test_the_tour_runs_as_it_is_written(live_home: Path, tmp_path: Path) -> None:
    name = "tour"
    command = tmp_path / "kcluster"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kcluster.cli.main "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "KCLUSTER_CLUSTER": name,
        "KCLUSTER_UP_ANY_PORT": "1",
    }
    lines = tour()
    assert len(lines) > 8
    said = {}
    try:
        for line in lines:
            done = subprocess.run(
                line, shell=True, env=environment, capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            said[line.split()[1]] = done.stdout
    finally:
        subprocess.run(
            [command, "down", "--force"], env=environment, capture_output=True, check=False
        )
    assert "leader" in said["why"]
    assert "recovered" in said["kill-broker"]


def test_the_python_of_the_readme_runs(
    cluster: LiveCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    topic = cluster.topic()
    exec(block.replace('"dev"', f'"{cluster.name}"').replace('"orders"', f'"{topic}"'), {})
    assert capsys.readouterr().out == "b'customer-7' b'one more'\n"
