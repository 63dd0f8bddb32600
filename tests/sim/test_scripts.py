"""Every script tells the story that is written in it, line for line.

`KCLUSTER_REWRITE=1` writes the output as it is now into the scripts; a person reads the diff.
"""

import os
from pathlib import Path

import pytest

from kcluster.sim.cores import make_broker, make_controller
from kcluster.sim.script import Script

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_story_is_as_written(path):
    before = path.read_text()
    after = Script(make_broker, make_controller).run(before)
    if os.environ.get("KCLUSTER_REWRITE"):
        path.write_text(after)
    else:
        assert after == before
