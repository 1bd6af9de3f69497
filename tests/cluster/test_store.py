"""A sweep over real Ray nodes that share no folder: its run is in an object store, and disks are lost with their hosts.

uv run pytest -m cluster -n 0 -s tests/cluster/test_store.py
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator

import pytest

from analysis.records import TrialRecord
from search.config import load
from search.study import Ledger, open_storage
from tests.cluster.lab import BIN, GATEWAY, PORT, REPOSITORY, Lab, lab, missing, wait_until
from tests.object_store import object_store

REASON = missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

QUICKSTART = REPOSITORY / "tests" / "quickstart.yaml"
S3, TRIALS, EPOCHS = "s3://bucket/sweeps", 8, 25
SETTINGS = [
    f"search.trials={TRIALS}",
    f"train.epochs={EPOCHS}",
    "search.concurrency=null",
    "audit=null",
    "data.validation_size=200",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Hosts, and an S3 server on this machine that they reach."""
    with lab() as made, object_store(GATEWAY) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield made


def test_nodes_and_head_are_lost_with_their_disks_and_the_sweep_is_resumed(made: Lab) -> None:
    output, url = made.root / "output.txt", f"sqlite:///{made.root}/ledger.db"
    settings = [*SETTINGS, f"storage.url={url}", f"tracking.uri=sqlite:///{made.root}/mlflow.db"]
    config = load(QUICKSTART, settings)

    def records() -> list[tuple[TrialRecord, list[dict[str, float]]]]:
        ledger = Ledger(open_storage(url, create=False), config, "read")
        try:
            return [(record, ledger.history(record.number)) for record in ledger.records()]
        finally:
            ledger.close()

    def busy(trials: int) -> bool:
        if f"[1/{TRIALS}]" not in output.read_text():  # the study exists by then
            return False
        return sum(record.state == "running" and 2 < record.epochs < EPOCHS - 5 for record, _ in records()) >= trials

    head, second, third = made.cluster(3)
    words = [word for setting in settings for word in ("--set", setting)]
    sweep = [str(BIN / "robustfront"), "sweep", str(QUICKSTART), *words, "--runs-dir", S3]
    driver = head.start(output, *sweep, "--address", f"{head.address}:{PORT}")
    wait_until(lambda: busy(3) or driver.poll() is not None, "three trials at a time")
    assert driver.poll() is None, output.read_text()
    killed_at = time.time()
    third.kill()
    shutil.rmtree(third.folder / "home")
    wait_until(lambda: "is gone" in output.read_text() or driver.poll() is not None, "the node's loss")
    wait_until(lambda: busy(2) or driver.poll() is not None, "two trials at a time")
    assert driver.poll() is None, output.read_text()
    for host in (head, second):
        host.kill()
        shutil.rmtree(host.folder / "home")
    driver.wait(timeout=60)

    head, _ = made.cluster(2)
    resume = [str(BIN / "robustfront"), "resume", f"{S3}/quickstart"]
    assert head.start(output, *resume, "--address", f"{head.address}:{PORT}").wait(timeout=600) == 0, output.read_text()
    print(output.read_text())
    assert "(raylet)" not in output.read_text()

    status = json.loads(made.host().run(str(BIN / "robustfront"), "status", f"{S3}/quickstart", "--json").stdout)
    assert (status["state"], status["trials"]["complete"], status["differences"]) == ("complete", TRIALS, [])
    finished = records()
    assert len(finished) == TRIALS + 2
    for record, epochs in finished:
        assert [epoch["epoch"] for epoch in epochs] == list(range(1, EPOCHS + 1)), record.number
    spanning = [(record, epochs) for record, epochs in finished if epochs[0]["time"] < killed_at < epochs[-1]["time"]]
    assert len(spanning) >= 3
    # A training that started again would have other times than those that the ledger recorded first.
    for record, epochs in spanning:
        assert record.train_seconds == pytest.approx(sum(epoch["seconds"] for epoch in epochs))
