"""Ray on this machine, as a sweep starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from search.cluster.nodes import Node
from search.cluster.session import capacity, check_capacity, connected
from search.errors import SweepFailed, UserError
from tests.search.examples import small_config

GPU_NODE, CPU_NODE = Node("g", "10.0.0.1", 4, 2), Node("c", "10.0.0.2", 16, 0)

# Ray is imported where a sweep imports it: it reads its environment then, and would otherwise start every process anew
# through uv where an ancestor is `uv run`.
PROCESSES = """
import json, os, sys, tempfile, time
import psutil
from search.cluster.ray_patches import use_waiting_processes
from search.cluster.session import connected
from tests.search.examples import small_config

if __name__ == "__main__":
    with connected(small_config(search={"trials": 2, "concurrency": 1}), None), tempfile.TemporaryDirectory() as folder:
        from ray import tune

        class Look(tune.Trainable):
            def step(self):
                return {"process": os.getpid(), "ready": "torch" in sys.modules, "done": True}

        use_waiting_processes()
        idle = False
        while not idle:  # one has made itself known to Ray; others may be on their way, and be there first
            time.sleep(0.2)
            children = psutil.Process().children(recursive=True)
            idle = any(child.cmdline()[:1] == ["ray::IDLE"] for child in children)
        beforehand = {child.pid for child in children}
        trials = tune.Tuner(
            tune.with_resources(Look, {"cpu": 1}), run_config=tune.RunConfig(storage_path=folder, verbose=0)
        ).fit()
        [result] = [trial.metrics for trial in trials]
    print(json.dumps({"waited": result["process"] in beforehand, "ready": result["ready"]}))
"""


def test_trials_run_in_processes_that_have_been_made_ready_beforehand() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESSES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"waited": True, "ready": True}


def test_a_ray_that_does_not_come_up_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because of many things.")

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(SweepFailed, match=r"^Ray did not start on this machine \(The current node timed out"):
        connected(small_config(), None).__enter__()


@pytest.mark.parametrize(
    ("trial", "audit", "at_a_time"),
    [
        ({"cpus_per_trial": 1, "gpus_per_trial": 0.5}, {"cpus": 8, "gpus": 0}, 4),
        ({"cpus_per_trial": 16}, {"cpus": 1, "gpus": 2}, 1),
        ({"cpus_per_trial": 2, "gpus_per_trial": 1}, {}, 2),
    ],
)
def test_trials_and_audits_may_fit_different_nodes(
    trial: dict[str, Any], audit: dict[str, Any], at_a_time: int
) -> None:
    config = small_config(resources=trial, data={"validation_size": 500}, audit=audit)
    check_capacity(config, [GPU_NODE, CPU_NODE], "auto", trains=True)
    assert capacity(config, [GPU_NODE, CPU_NODE]) == at_a_time


@pytest.mark.parametrize(
    ("trial", "audit", "message"),
    [
        ({}, {"cpus": 17}, r"audit.cpus must be at most 16 \(the largest node has that many\), got 17; lower it"),
        ({}, {"gpus": 4}, r"audit.gpus must fit a node beside audit.cpus 1, got 4 \(there are nodes with 4 processors"),
        ({}, {"cpus": 8, "gpus": 1}, r"beside audit.cpus 8, got 1 \(.* and 2 GPUs, or 16 processors and 0 GPUs\)"),
        ({"cpus_per_trial": 8, "gpus_per_trial": 1}, {}, r"resources.gpus_per_trial must .* beside cpus_per_trial 8"),
    ],
)
def test_what_fits_no_node_is_one_line(trial: dict[str, Any], audit: dict[str, Any], message: str) -> None:
    config = small_config(resources=trial, data={"validation_size": 500}, audit=audit)
    with pytest.raises(UserError, match=message):
        check_capacity(config, [GPU_NODE, CPU_NODE], "auto", trains=True)


def test_audits_alone_need_no_room_for_trials() -> None:
    trial, audit = {"cpus_per_trial": 32, "gpus_per_trial": 8}, {"cpus": 1, "gpus": 0}
    config = small_config(resources=trial, data={"validation_size": 500}, audit=audit)
    check_capacity(config, [CPU_NODE], None, trains=False)
    with pytest.raises(UserError, match=r"^resources.cpus_per_trial"):
        check_capacity(config, [CPU_NODE], None, trains=True)


# Cycles with references of Ray's, such as Tune leaves, that the garbage collector would find while Ray is closed.
FREED = """
import gc, threading, time
from search.cluster.session import connected
from tests.search.examples import small_config

if __name__ == "__main__":
    with connected(small_config(search={"trials": 2, "concurrency": 1}), None) as connection:
        import ray

        references = [ray.put(0) for _ in range(4000)]
        connection.close()
        while any(thread.name == "ray-shutdown" for thread in threading.enumerate()):
            for _ in range(10):
                cycle = [references.pop() if references else None]
                cycle.append(cycle)
            time.sleep(0.001)
    print("alive", gc.isenabled())
"""


def test_what_tune_leaves_behind_may_become_garbage_while_ray_is_closed() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "alive True\n"), done.stderr


@pytest.mark.slow
def test_a_process_that_comes_free_does_not_end_one_that_is_starting() -> None:
    """Trials of a fifth of a second end all the while the others start; each of those gets there all the same."""
    script = "from tests.benchmarks.scale import run; print(len(run(trials=50, slots=3, seconds=0.2, start=4).workers))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3"
