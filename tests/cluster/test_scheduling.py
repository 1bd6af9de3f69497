"""What Ray really places on nodes, against what we reckon with: on the nodes of `ray.cluster_utils`.

uv run pytest -m cluster -n 0 tests/cluster/test_scheduling.py
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# In a process of its own: Ray reads its environment when it is imported, and ends with its process.
PLACED = """
import time
import ray
from ray.cluster_utils import Cluster
from search.cluster import capacity
from search.nodes import Nodes, alive, expected, check_nodes
from search.dataset import prepare_dataset
from tests.search.examples import small_config
from pathlib import Path
import tempfile

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=8, num_gpus=2)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)

    @ray.remote
    class Busy:
        def node(self):
            return ray.get_runtime_context().get_node_id()

    for cpus, gpus in ((1, 0.0), (2, 0.0), (1, 0.4), (1, 0.25), (3, 1.0)):
        config = small_config(resources={"cpus_per_trial": cpus, "gpus_per_trial": gpus})
        fit = capacity(config, alive())
        busy = [Busy.options(num_cpus=cpus, num_gpus=gpus).remote() for _ in range(fit + 3)]
        ready, _ = ray.wait([one.node.remote() for one in busy], num_returns=fit + 1, timeout=20)
        print("=", cpus, gpus, fit, len(ready), flush=True)
        del busy, ready
        while ray.available_resources().get("CPU", 0) < 9 or ray.available_resources().get("GPU", 0) < 2:
            time.sleep(0.2)

    said, changes = [], []
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "marker"
        marker.write_text("here")
        config = small_config()
        wanted = expected(config.data, prepare_dataset(config.data)["sha256"], marker)
        print("=", len(check_nodes(wanted)), flush=True)
        nodes = Nodes(wanted, said.append, lambda: changes.append(len(alive())))
        late = cluster.add_node(num_cpus=3)
        deadline = time.monotonic() + 120
        while not any("has joined" in line for line in said) and time.monotonic() < deadline:
            nodes.turn()
            time.sleep(0.2)
        cluster.remove_node(late, allow_graceful=False)
        while not any("is gone" in line for line in said) and time.monotonic() < deadline:
            nodes.turn()
            time.sleep(0.2)
    print("=", changes, flush=True)
    for line in said:
        print("=", line, flush=True)
"""


def test_nodes_hold_what_we_reckon_with_and_come_and_go() -> None:
    done = subprocess.run([sys.executable, "-c", PLACED], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    ours = [line.removeprefix("= ") for line in done.stdout.splitlines() if line.startswith("= ")]  # Ray prints others
    *placed, examined, changes, joined, gone = ours
    assert placed == ["1 0.0 9 9", "2 0.0 4 4", "1 0.4 4 4", "1 0.25 8 8", "3 1.0 2 2"]
    assert examined == "2"
    assert changes == "[3, 2]"
    assert joined.endswith("(3 processors, 0 GPUs) has joined")
    assert gone.endswith("(3 processors, 0 GPUs) is gone: its trials go on elsewhere")
