"""What Ray really places on nodes, compared with what we expect, on the nodes of `ray.cluster_utils`.

uv run pytest -m cluster -n 0 tests/cluster/test_scheduling.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.records import kind_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# This runs in its own process: Ray reads its environment when it is imported, and ends with its process.
PLACEMENT = """
import time
import ray
from ray.cluster_utils import Cluster
from search.cluster.session import capacity
from search.cluster.nodes import Nodes, alive, expected, check_nodes
from search.runs.dataset import prepare_dataset
from search.worker.tasks import examine
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
        actors = [Busy.options(num_cpus=cpus, num_gpus=gpus).remote() for _ in range(fit + 3)]
        ready, _ = ray.wait([actor.node.remote() for actor in actors], num_returns=fit + 1, timeout=20)
        print("=", cpus, gpus, fit, len(ready), flush=True)
        del actors, ready
        while ray.available_resources().get("CPU", 0) < 9 or ray.available_resources().get("GPU", 0) < 2:
            time.sleep(0.2)

    messages, changes = [], []
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "marker"
        marker.write_text("here")
        config = small_config()
        requirements = expected(config, prepare_dataset(config.data, test=False)["sha256"], marker)
        print("=", len(check_nodes(requirements, examine)), flush=True)
        nodes = Nodes(requirements, examine, messages.append, lambda: changes.append(len(alive())))
        late = cluster.add_node(num_cpus=3)
        deadline = time.monotonic() + 120
        while not any("has joined" in line for line in messages) and time.monotonic() < deadline:
            nodes.turn()
            time.sleep(0.2)
        cluster.remove_node(late, allow_graceful=False)
        while not any("is gone" in line for line in messages) and time.monotonic() < deadline:
            nodes.turn()
            time.sleep(0.2)
    print("=", changes, flush=True)
    for line in messages:
        print("=", line, flush=True)
"""

# A whole sweep whose trials and audits only record where they run. The GPUs exist only in Ray's count.
SWEEP = """
import json
import sys
from pathlib import Path
import ray
from ray import tune
from ray.cluster_utils import Cluster
from rich.console import Console
import search.worker.tasks
import search.worker.trial
from search.sweep.driver import start
from tests.benchmarks.growth import reports
from tests.search.examples import small_config

def note(folder, kind, number, cuda):
    place = Path(folder) / kind
    place.mkdir(parents=True, exist_ok=True)
    context = ray.get_runtime_context()
    gpus = context.get_assigned_resources().get("GPU", 0)
    (place / number).write_text(json.dumps([context.get_node_id(), gpus, cuda]))

class Trial(tune.Trainable):
    def setup(self, config, folder, owner, cuda, **_):
        self._folder, self._owner, self._cuda = folder, owner, cuda
        self.reset_config(config)

    def reset_config(self, new_config):
        note(self._folder, "trials", new_config["units"][0]["number"], self._cuda)
        self._reports = iter(reports(new_config, self._owner))
        return True

    def step(self):
        return next(self._reports)

def audit_trial(checkpoint, profile, threads, cuda):
    note(Path(checkpoint).parents[1], "audits", Path(checkpoint).name, cuda)
    return {"verdict": "sound", "profile": profile, "images": 500, "accuracy": 0.1}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2, "include_dashboard": False})
    cpu_node = cluster.add_node(num_cpus=4, num_gpus=0)
    search.worker.trial.SettingTrial, search.worker.tasks.audit_trial = Trial, audit_trial
    config = small_config(
        data={"validation_size": 500},
        search={"trials": 6},
        resources=json.loads(sys.argv[2]),
        audit=json.loads(sys.argv[3]),
    )
    run, _ = start(config, Path(sys.argv[1]), cluster.address, Console(), quiet=True)
    for kind in ("trials", "audits"):
        for path in sorted((run.folder / kind).iterdir()):
            node, gpus, cuda = json.loads(path.read_text())
            print("=", kind, path.name, "cpu node" if node == cpu_node.node_id else "head", gpus, cuda, flush=True)
"""


def output_of(script: str, *arguments: str) -> list[str]:
    """The lines that a script marks as its own; Ray prints others."""
    # The clusters of these tests have no token: one in the home folder is for another cluster. Under `uv run`, Ray
    # would start each worker with uv; a sweep's workers use the driver's environment.
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=500, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("= ") for line in done.stdout.splitlines() if line.startswith("= ")]


def test_nodes_offer_their_resources_and_come_and_go() -> None:
    *placed, examined, changes, joined, gone = output_of(PLACEMENT)
    assert placed == ["1 0.0 9 9", "2 0.0 4 4", "1 0.4 4 4", "1 0.25 8 8", "3 1.0 2 2"]
    assert examined == "2"
    assert changes == "[3, 2]"
    assert joined.endswith("(3 processors, 0 GPUs) has joined")
    assert gone.endswith("(3 processors, 0 GPUs) is gone; its trials continue on other nodes")


@pytest.mark.parametrize(
    ("trial", "audit", "trials_at", "audits_at"),
    [
        ({"cpus_per_trial": 1, "gpus_per_trial": 0.5}, {"cpus": 3, "gpus": 0}, "head 0.5 True", "cpu node 0 False"),
        ({"cpus_per_trial": 4}, {"cpus": 1, "gpus": 1}, "cpu node 0 False", "head 1.0 True"),
    ],
    ids=["trials on GPUs", "audits on GPUs"],
)
def test_trials_and_audits_run_where_their_processors_and_gpus_are(
    trial: dict[str, float], audit: dict[str, float], trials_at: str, audits_at: str, tmp_path: Path
) -> None:
    lines = [line.split(maxsplit=2) for line in output_of(SWEEP, str(tmp_path), json.dumps(trial), json.dumps(audit))]
    where = {kind: {number: place for label, number, place in lines if label == kind} for kind in ("trials", "audits")}
    assert set(where["trials"]) == {"B0", "B1", *map(str, range(6))}
    assert set(where["trials"].values()) == {trials_at}
    assert {number for number in where["audits"] if kind_of(number) == "baseline"} == {"B0", "B1"}
    assert any(kind_of(number) == "search" for number in where["audits"])
    assert set(where["audits"].values()) == {audits_at}
