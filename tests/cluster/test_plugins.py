"""A sweep with a user's own package on two nodes; only the driver's node has the package.

uv run pytest -m cluster -n 0 -s tests/cluster/test_plugins.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analysis.frames import read_frame
from tests.cluster.lab import BIN, PORT, lab, missing

REASON = missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

PLUGINS = Path(__file__).parents[1] / "plugins"


def test_a_node_without_the_package_gets_it_from_the_driver() -> None:
    with lab() as made:
        head, other = made.cluster(2)
        user = head.folder / "tmp" / "work"  # /tmp/work on the head alone: each host has its own /tmp
        user.mkdir()
        shutil.copytree(PLUGINS / "glyphs", user / "glyphs")
        shutil.copy(PLUGINS / "glyphs.yaml", user)
        assert not (other.folder / "tmp" / "work").exists()
        # Each worker records its host when it imports the data set.
        notes = made.shared / "nodes"
        notes.mkdir()
        module = user / "glyphs" / "data.py"
        note = f"\n\nimport os, pathlib\npathlib.Path({str(notes)!r}, os.uname().nodename).touch()\n"
        module.write_text(module.read_text() + note)
        runs = made.shared / "runs"
        sweep = f"{BIN / 'robustfront'} sweep glyphs.yaml --address {head.address}:{PORT} --runs-dir {runs}"
        settings = "--set search.trials=8 --set train.epochs=10"
        done = head.run("sh", "-c", f"cd /tmp/work && exec {sweep} {settings}", timeout=900)
        assert "glyphs: 8 settings" in done.stdout
        trials = read_frame(runs / "glyphs").set_index("number")
        assert (trials["state"] == "complete").all()
        assert {path.name for path in notes.iterdir()} == {head.name, other.name}, "both nodes ran the package"
