"""Node's client libraries, by npm, in the exact versions of `tests/live/members/package.json`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "live" / "members"
INSTALL_S = 300


def folder() -> Path:
    """Where the member programs lie beside their `node_modules`: KCLUSTER_NODE_MEMBERS, or one in
    the user's cache for each list of versions. Skips, aloud, without Node or npm."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    package = (SOURCES / "package.json").read_bytes()
    given = os.environ.get("KCLUSTER_NODE_MEMBERS")
    name = f"node-members-{hashlib.sha256(package).hexdigest()[:12]}"
    place = Path(given) if given else Path.home() / ".cache" / "kcluster-tests" / name
    done = place / ".done"
    if not done.exists():
        if shutil.which("npm") is None:
            pytest.skip(f"{place} lacks node_modules, and npm is not installed")
        place.mkdir(parents=True, exist_ok=True)
        (place / "package.json").write_bytes(package)
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run(["npm", "install", *quiet], cwd=place, check=True, timeout=INSTALL_S)
        done.touch()
    for program in SOURCES.glob("*.mjs"):
        shutil.copy(program, place)
    return place
