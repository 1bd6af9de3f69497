"""Ray on this machine, as a sweep starts it."""

from __future__ import annotations

import json
import subprocess
import sys

PROCESSES = """
import json, os, sys, tempfile, time
import psutil
from ray import tune
from search.cluster import connected, use_waiting_processes
from search.config import available_cpus
from tests.search.examples import small_config

class Look(tune.Trainable):
    def step(self):
        return {"process": os.getpid(), "ready": "torch" in sys.modules, "done": True}

if __name__ == "__main__":
    with connected(small_config(search={"trials": 2, "concurrency": 1}), None), tempfile.TemporaryDirectory() as folder:
        use_waiting_processes()
        waiting = set()
        while len(waiting) < available_cpus():  # they make themselves known to Ray one by one
            time.sleep(0.2)
            children = psutil.Process().children(recursive=True)
            waiting = {child.pid for child in children if child.cmdline()[:1] == ["ray::IDLE"]}
        trials = tune.Tuner(
            tune.with_resources(Look, {"cpu": 1}), run_config=tune.RunConfig(storage_path=folder, verbose=0)
        ).fit()
        [result] = [trial.metrics for trial in trials]
    print(json.dumps({"waited": result["process"] in waiting, "ready": result["ready"]}))
"""


def test_trials_run_in_processes_that_have_been_made_ready_beforehand() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESSES], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"waited": True, "ready": True}
