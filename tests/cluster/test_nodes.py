"""A sweep over real Ray nodes, each on its own host: nodes die and join, the network is cut, and the head is lost.

uv run pytest -m cluster -n 0 -s tests/cluster/test_nodes.py
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from analysis.records import TrialRecord
from search.errors import UserError
from search.runs.folder import Run
from search.study import Ledger, open_storage
from tests.cluster.lab import BIN, PORT, REPOSITORY, Host, Lab, lab, missing, wait_until

REASON = missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

TRIALS, EPOCHS = 24, 30
SETTINGS = (
    f"search.trials={TRIALS}",
    f"train.epochs={EPOCHS}",
    "search.concurrency=null",  # as many as the nodes have room for
    "audit=null",
    "data.validation_size=200",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
)


@pytest.fixture
def hosts() -> Iterator[tuple[Lab, list[Host]]]:
    """Three hosts, and Ray with one processor on each."""
    with lab() as made:
        yield made, made.cluster(3)


class Sweep:
    """A sweep whose driver runs on the head and whose folder all hosts share."""

    def __init__(self, made: Lab, head: Host) -> None:
        self.head, self.runs, self.output = head, made.shared / "runs", made.root / "output.txt"
        self.address = f"{head.address}:{PORT}"

    def command(self, *arguments: str) -> list[str]:
        return [str(BIN / "robustfront"), *arguments, "--runs-dir", str(self.runs)]

    def start(self) -> subprocess.Popen[str]:
        settings = (word for setting in SETTINGS for word in ("--set", setting))
        quickstart = str(REPOSITORY / "tests" / "quickstart.yaml")
        return self.head.start(self.output, *self.command("sweep", quickstart, *settings, "--address", self.address))

    def resume(self) -> subprocess.Popen[str]:
        return self.head.start(self.output, *self.command("resume", "quickstart", "--address", self.address))

    def records(self) -> list[tuple[TrialRecord, list[dict[str, Any]]]]:
        """Every trial, with its epochs."""
        run = Run.open("quickstart", self.runs)
        ledger = Ledger(open_storage(run.storage_url, create=False), run.config, "read")
        try:
            return [(record, ledger.history(record.number)) for record in ledger.records()]
        finally:
            ledger.close()

    def busy(self, trials: int) -> bool:
        """Whether at least this many trials are in the middle of their training."""
        try:
            records = self.records()
        except UserError:  # not started yet
            return False
        return sum(record.state == "running" and 2 < record.epochs < EPOCHS - 5 for record, _ in records) >= trials

    def ended(self) -> int:
        return sum(record.state == "complete" for record, _ in self.records())

    def says(self, text: str) -> bool:
        return text in self.output.read_text()


def test_nodes_die_and_join_the_network_is_cut_and_the_head_is_lost(hosts: tuple[Lab, list[Host]]) -> None:
    made, (head, second, third) = hosts
    sweep = Sweep(made, head)
    driver = sweep.start()
    wait_until(lambda: sweep.busy(3) or driver.poll() is not None, "three trials at a time")
    assert driver.poll() is None, sweep.output.read_text()

    killed_at = time.time()
    third.kill()
    _wait(driver, sweep, f"node {third.address}", "is gone")
    fourth = made.host()
    fourth.ray(head)
    _wait(driver, sweep, f"node {fourth.address}", "has joined")
    wait_until(lambda: sweep.busy(3) or driver.poll() is not None, "three trials at a time again")

    second.plug(connected=False)
    time.sleep(60)
    second.plug(connected=True)
    _wait(driver, sweep, f"node {second.address}", "is gone")
    before = sweep.ended()
    wait_until(lambda: sweep.ended() > before or driver.poll() is not None, "another trial")
    assert driver.poll() is None, sweep.output.read_text()

    wait_until(lambda: sweep.busy(2) or driver.poll() is not None, "two trials at a time")
    for host in (head, second, fourth):
        host.kill()
    driver.wait(timeout=60)
    unfinished = sweep.ended()
    assert unfinished < TRIALS + 2, "the sweep ended before the head was lost"
    head.ray()
    for host in (second, fourth):
        host.ray(head)
    resumed = sweep.resume()
    assert resumed.wait(timeout=900) == 0, sweep.output.read_text()
    print(sweep.output.read_text())

    status = json.loads(head.run(*sweep.command("status", "quickstart", "--json")).stdout)
    assert status["differences"] == []  # ledger, trials.csv and MLflow, row by row
    assert status["state"] == "complete"
    assert status["trials"] == {"complete": TRIALS, "pruned": 0, "failed": 0, "running": 0, "budget": TRIALS}
    records = sweep.records()
    assert len(records) == TRIALS + 2
    for record, epochs in records:
        assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS + 1)), record.number
    spanning = [record for record, epochs in records if epochs[0]["time"] < killed_at < epochs[-1]["time"]]
    assert len(spanning) >= 3
    moved = next(record for record in spanning if record.kind == "search")
    _check_against_undisturbed(head, sweep, moved)


def _wait(driver: subprocess.Popen[str], sweep: Sweep, *texts: str) -> None:
    wait_until(lambda: all(map(sweep.says, texts)) or driver.poll() is not None, " ".join(texts))
    assert driver.poll() is None, sweep.output.read_text()


def _check_against_undisturbed(head: Host, sweep: Sweep, record: TrialRecord) -> None:
    """A trial that moved to another node has the same numbers as an undisturbed one."""
    chosen = (word for name, value in record.parameters.items() for word in ("--param", f"{name}={value!r}"))
    config = str(sweep.runs / "quickstart" / "sweep.yaml")
    output = head.folder / "again"
    head.run(*sweep.command("train", config, *chosen, "--output", str(output)), timeout=300)
    (unit,) = json.loads((output / "result.json").read_text())["units"]
    assert {name: unit["scores"][name]["value"] for name in record.objectives} == dict(record.objectives)


def test_a_local_folder_is_refused_before_anything_starts(hosts: tuple[Lab, list[Host]]) -> None:
    _, (head, second, _) = hosts
    quickstart = str(REPOSITORY / "tests" / "quickstart.yaml")
    refused = head.run(
        *(
            str(BIN / "robustfront"),
            "sweep",
            quickstart,
            "--address",
            f"{head.address}:{PORT}",
            "--runs-dir",
            "/tmp/runs",
        ),
        check=False,
    )
    assert refused.returncode == 2
    assert f"node {second.address}: it does not have /tmp" in refused.stderr
    assert "give --runs-dir a folder that all nodes share" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (head.folder / "tmp" / "runs").exists()


def test_a_machine_without_the_token_is_refused(hosts: tuple[Lab, list[Host]]) -> None:
    _, (head, second, _) = hosts
    code = f"import ray; ray.init('{head.address}:{PORT}'); print(ray.nodes())"
    environment = second.environment | {"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "f" * 64}
    tried = subprocess.run(
        second.command(str(BIN / "python"), "-c", code), env=environment, capture_output=True, text=True, timeout=120
    )
    assert tried.returncode != 0
    assert "NodeID" not in tried.stdout
