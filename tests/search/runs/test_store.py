"""Runs in an object store: an S3 server on loopback, and machines that share nothing but it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import search.runs.store
from search.cluster.nodes import expected, marker_beside
from search.errors import Halted, UserError
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from search.runs.store import Store
from search.study import open_ledger
from search.worker.tasks import examine
from tests.object_store import bucket, object_store
from tests.search.examples import small_config
from tests.search.sweep.test_driver import QUICKSTART, SMALL, arguments
from trainables.training.checkpoint import KEPT, PATTERN

PATIENCE = 240  # seconds
KEPT_FILES = (
    "sweep.yaml",
    "manifest.json",
    "trials.csv",
    "pareto.yaml",
    "figures/pareto.png",
    "outcomes/0.npz",
    "evaluations/1/evaluation.json",
)
S3, CACHE = "s3://bucket/sweeps", "ROBUSTFRONT_CACHE"


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with object_store("127.0.0.1") as variables:
        yield variables


@pytest.fixture(params=["s3", "file"])
def store(
    request: pytest.FixtureRequest, server: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """An empty store, from a machine without a copy."""
    monkeypatch.setattr(search.runs.store, "_AWAY_SECONDS", 1.0)
    monkeypatch.setenv(CACHE, str(tmp_path / "here"))
    if request.param == "file":
        return Store(f"file://{tmp_path}/sweeps")
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    bucket(server).objects.all().delete()
    return Store(S3)


@contextmanager
def elsewhere(tmp_path: Path) -> Iterator[None]:
    """On a second machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path / "there"))
        yield


def write(store: Store, path: str, text: str) -> None:
    file = store.copy / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_what_one_machine_writes_another_reads(store: Store, tmp_path: Path) -> None:
    store.check()
    write(store, "run/trials.csv", "old")
    write(store, "run/checkpoints/7/epoch-00001.pt", "weights")
    write(store, "run/.trials.csv.123.tmp", "half")
    store.push("run")
    with elsewhere(tmp_path):
        store.pull("run", without=["checkpoints"])
        assert [file.name for file in (store.copy / "run").rglob("*") if file.is_file()] == ["trials.csv"]
        store.pull("run/checkpoints/7")
        assert (store.copy / "run/checkpoints/7/epoch-00001.pt").read_text() == "weights"
        time.sleep(1.1)  # S3 counts seconds
        write(store, "run/trials.csv", "new")
        store.push("run/trials.csv")
    store.pull("run")
    assert (store.copy / "run/trials.csv").read_text() == "new"
    assert store.read("run/trials.csv") == b"new"
    assert store.read("run/none.csv") is None


def test_what_is_the_same_does_not_travel(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, "run/a", "a")
    store.push("run")
    travelled: list[str] = []
    monkeypatch.setattr(Store, "_write", lambda _, path, *__: travelled.append(path))
    monkeypatch.setattr(Store, "_read", lambda _, path: travelled.append(path))
    store.push("run")
    store.pull("run")
    assert travelled == []


def test_what_has_not_come_to_the_store_yet_is_not_overwritten(store: Store) -> None:
    write(store, "run/a", "old")
    store.push("run")
    time.sleep(1.1)
    write(store, "run/a", "new")
    store.pull("run")
    assert (store.copy / "run/a").read_text() == "new"


def test_the_last_checkpoints_stay_whoever_wrote_them(store: Store) -> None:
    for epoch in (3, 4, 8, 9):
        write(store, f"run/checkpoints/7/epoch-{epoch:05d}.pt", str(epoch))
    write(store, "run/checkpoints/7/owner", "1")
    store.push("run/checkpoints/7")
    store.thin("run/checkpoints/7", f"*/{PATTERN}", KEPT)
    assert [store.read(f"run/checkpoints/7/epoch-{epoch:05d}.pt") for epoch in (3, 4, 8, 9)] == [None, None, b"8", b"9"]
    assert store.read("run/checkpoints/7/owner") == b"1"


@pytest.mark.parametrize("url", ["s3://nobucket/sweeps", "s4://bucket/sweeps", "file:///proc/sweeps"])
def test_a_store_that_cannot_be_written_to_is_told_in_one_line(
    url: str, server: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"--runs-dir must be .* got {url} .*; check the URL") as told:
        Store(url).check()
    assert "\n" not in str(told.value)


def test_a_store_that_is_away_is_waited_for_and_then_halts_the_sweep(store: Store, tmp_path: Path) -> None:
    if store.url.startswith("file"):
        (tmp_path / "sweeps").write_text("no folder any more")
    else:
        os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        store = Store(S3)
    began = time.monotonic()
    with pytest.raises(Halted, match=f"{store.url} does not answer"):
        store.read("run/a")
    assert time.monotonic() - began > search.runs.store._AWAY_SECONDS / 2


def test_a_ledger_on_a_disk_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match=r"storage\.url must be set .* got none: .*; give a database server"):
        Run.plan(small_config(), store.copy)


def test_every_node_must_reach_the_drivers_store(store: Store, tmp_path: Path) -> None:
    config = small_config()
    with marker_beside(store.copy / config.name) as marker:
        wanted = expected(config, prepare_dataset(config.data, test=False)["sha256"], marker, store)
        with elsewhere(tmp_path):
            assert examine(wanted).problems == ()
    [problem] = examine(wanted).problems  # the marker is gone
    assert problem == f"its {store.url} is not the driver's"


@pytest.mark.slow
def test_a_sweep_whose_machine_is_lost_goes_on_from_the_store(
    server: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first machine is killed in the middle of a trial and never seen again; ledger and store are what is left."""
    variables = {**os.environ, **server, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    settings = (
        *SMALL,
        "train.epochs=8",
        "search.trials=2",
        "data.train_size=2000",
        f"storage.url=sqlite:///{tmp_path}/study.db",
    )

    def on(machine: str) -> dict[str, str]:
        return variables | {CACHE: str(tmp_path / machine)}

    def robustfront(machine: str, *words: str) -> str:
        done = subprocess.run(
            arguments(*words), cwd=tmp_path, env=on(machine), capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    kept = bucket(server)
    kept.objects.all().delete()
    driver = subprocess.Popen(
        arguments("sweep", str(QUICKSTART), "--runs-dir", S3, settings=settings),
        cwd=tmp_path,
        env=on("lost"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not any(re.search(r"/0/epoch-0000[3-6]", found.key) for found in kept.objects.all()):
            assert driver.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    (tmp_path / "lost").rename(tmp_path / "gone")

    robustfront("other", "resume", f"{S3}/quickstart")
    told = json.loads(robustfront("third", "status", f"{S3}/quickstart", "--json"))
    assert (told["state"], told["trials"]["complete"], told["differences"]) == ("complete", 2, [])
    found = robustfront("third", "evaluate", f"{S3}/quickstart/1", "--attack", "pgd", "--epsilon", "1.0")
    assert "evaluations/1" in found
    keys = {found.key for found in kept.objects.all()}
    assert {f"sweeps/quickstart/{name}" for name in KEPT_FILES} <= keys

    for name, value in on("fourth").items():
        monkeypatch.setenv(name, value)
    # A training that had begun anew would have taken other times than those that the ledger was told at first.
    with closing(open_ledger(Run.open(f"{S3}/quickstart", tmp_path))) as ledger:
        for record in ledger.records():
            assert record.train_seconds == pytest.approx(
                sum(epoch["seconds"] for epoch in ledger.history(record.number))
            )
            folder = f"sweeps/quickstart/checkpoints/{record.number}/"
            names = {key.removeprefix(folder) for key in keys if key.startswith(folder)} - {""}  # pyarrow's mark of it
            assert names == {"epoch-00007.pt", "epoch-00008.pt", "owner"}
