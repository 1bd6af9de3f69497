"""The user's own modules reach Ray's workers, on this machine and on a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FACTORY = """
def blobs(count=90):
    import numpy as np
    return {"train": (np.zeros((count, 4, 4, 1), np.uint8), np.arange(count) % 3)}
"""
# The folder of the modules is on this process's path alone: it is neither the working folder nor the environment's.
DRIVER = """
import importlib, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
name, clustered = sys.argv[2], sys.argv[3] == "cluster"
if clustered:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # as the nodes that this process starts

def look(name, expected):
    module = importlib.import_module(name.partition(":")[0])
    from search.runs.provenance import source_digest
    from search.worker.tasks import examine
    return module.__file__, source_digest([name]), examine(expected).problems

if __name__ == "__main__":
    from search.cluster.nodes import expected
    from search.cluster.session import connected
    from search.runs.dataset import prepare_dataset
    from tests.search.examples import small_config

    config = small_config(data={"name": name, "train_size": 60, "validation_size": 20})
    marker = Path("marker")
    marker.write_text("here")
    if clustered:
        import ray
        from ray.cluster_utils import Cluster
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        address = cluster.address
    else:
        address = None
    with connected(config, address):
        import ray
        driver = expected(config, prepare_dataset(config.data)["sha256"], marker.absolute())
        file, digest, problems = ray.get(ray.remote(look).remote(name, driver))
    print(json.dumps({"file": file, "same": digest == driver.source, "problems": problems}))
"""


def looked(folder: Path, name: str, kind: str) -> Any:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    driver = elsewhere / "driver.py"
    driver.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{DRIVER}")
    done = subprocess.run(
        [sys.executable, str(driver), str(folder), name, kind],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("own_package.sub.sets:blobs", "cluster"),
        ("own_module:blobs", "local"),
        pytest.param("own_package.sub.sets:blobs", "local", marks=pytest.mark.slow),
        pytest.param("own_module:blobs", "cluster", marks=pytest.mark.slow),
    ],
)
def test_workers_import_the_users_modules_and_agree_on_their_source(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "code" / (name.partition(":")[0].replace(".", "/") + ".py")
    path.parent.mkdir(parents=True)
    path.write_text(FACTORY)
    found = looked(tmp_path / "code", name, kind)
    assert found["same"]
    assert found["problems"] == []
    assert found["file"].startswith(str(tmp_path)) == (kind == "local")
