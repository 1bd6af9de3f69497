"""Chosen settings on the test split: what is evaluated, what is written down, and what the tables say of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainables.robustness.evaluate
from analysis.export import ResultsOnTest, flattered
from analysis.records import TrialRecord
from search.cli.main import DONE, INTERRUPTED, WRONG_INPUT, run
from search.config import SweepConfig
from search.evaluation.test_split import RESULTS_FILE, ordinal
from search.results.metrics import unit_results
from search.results.tables import front_table
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from search.study import Lease, Ledger, open_ledger, open_storage
from tests.search.examples import small_config
from tests.search.report.examples import cards_of, sentence_of
from trainables.data.partition import digests, test_images
from trainables.data.partition.test_images import read_test
from trainables.data.partition.test_openings import OPENINGS_FILE, read_openings
from trainables.data.splits import load_splits, to_device
from trainables.robustness.evaluate import evaluate
from trainables.training.checkpoint import load_trained
from trainables.trial import CandidateResult, run_candidate

TEST_IMAGES = 40


def searched(config: SweepConfig, folder: Path) -> Path:
    """A run to its end, each trial trained and attacked in this process: all but Ray."""
    run = Run.plan(config, folder)
    run.create(prepare_dataset(config.data))
    with closing(Ledger(open_storage(run.storage_url), config, "new")) as ledger:
        splits = load_splits(config.data)
        while (task := ledger.ask()) is not None:
            *epochs, result = run_candidate(
                config.problem,
                task.candidate,
                replicates=[task.seed],
                checkpoints=run.folder / "checkpoints" / task.number,
                splits=splits,
            )
            for epoch in epochs:
                ledger.report(task.number, {"epoch": epoch.epoch, "seconds": epoch.seconds})
            assert isinstance(result, CandidateResult)
            (unit,) = unit_results(result, [task.seed], task.role)
            ledger.finish(task.number, unit.to_json())
    return run.folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three settings and the baselines, with two seeds of each."""
    config = small_config(
        data={"test_size": TEST_IMAGES},
        train={"learning_rate": 0.003, "replicates": 2},
        search={"trials": 6, "sampler": "random"},
    )
    return searched(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def tested(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("tested") / "small")
    assert run(["pareto", str(folder), "--test", "--output", str(folder / "shown.txt")]) == DONE
    return folder


def test_the_report_shows_what_was_found(tested: Path) -> None:
    assert run(["report", str(tested)]) == DONE
    card = cards_of((tested / "report.html").read_text(encoding="utf-8"))["test"]
    assert sentence_of(card).startswith("The test images were used once.")
    units = [entry["number"] for entry in json.loads((tested / RESULTS_FILE).read_text())]
    assert card.count('<th scope="row"') == sum(not number.startswith("R") for number in units) > 2


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "small")


def entries(folder: Path, *words: str) -> list[dict[str, Any]]:
    assert run(["pareto", str(folder), *words, "--format", "json", "--output", str(folder / "front.json")]) == DONE
    front: list[dict[str, Any]] = json.loads((folder / "front.json").read_text(encoding="utf-8"))
    return front


def by_hand(folder: Path, number: str) -> tuple[float, float]:
    """Clean and robust accuracy of a trial's model on the test images, without any of the commands."""
    config = Run.open(str(folder), folder.parent).config
    models = load_trained(folder / "checkpoints" / number, config.problem, load_splits(config.data))
    test = to_device(read_test(config.data), "cpu")
    outcomes = evaluate([models[0].model], test, config.robustness, [models[0].seed])
    return float(outcomes.clean_accuracy()[0]), float(outcomes.robust_accuracy()[0])


def test_the_front_and_the_baselines_are_evaluated_with_every_seed(tested: Path) -> None:
    front = entries(tested)
    assert front
    for entry in front:
        with closing(open_ledger(Run.open(str(tested), tested.parent))) as ledger:
            extension = next(record.number for record in ledger.records() if record.extends == str(entry["number"]))
        clean, robust = np.mean([by_hand(tested, number) for number in (str(entry["number"]), extension)], axis=0)
        assert (entry["test_clean_accuracy"], entry["test_robust_accuracy"]) == pytest.approx((clean, robust))
        low, high = entry["test_clean_accuracy_interval"]
        assert low <= entry["test_clean_accuracy"] <= high
        assert entry["test_openings"] == 1
    (opening,) = read_openings(tested)
    assert opening["command"] == f"robustfront pareto {tested} --test --output {tested / 'shown.txt'}"
    evaluated = [Path(model["checkpoint"]).parts[1] for model in opening["models"]]
    assert {"B0", "B1", *(str(entry["number"]) for entry in front)} <= set(evaluated)
    assert len(evaluated) == 2 * (len(front) + 2)
    assert all(model["setting"]["loss"] in ("i-sce", "cross-entropy") for model in opening["models"])
    assert {model["setting"]["defence"] for model in opening["models"]} == {"none"}
    assert opening["robustness"]["images"] == 20


def test_the_table_and_csv_show_validation_and_test_together(tested: Path) -> None:
    table = (tested / "shown.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in table.splitlines()]
    rows = [line for line in lines if line[:1] == ["test"]]
    front = entries(tested)
    assert len(rows) == len(front) + 2
    assert f"{100 * front[0]['test_clean_accuracy']:.1f}" in rows[0][1]
    assert "opened once so far" in table
    assert run(["pareto", str(tested), "--format", "csv", "--output", str(tested / "front.csv")]) == DONE
    with (tested / "front.csv").open(encoding="utf-8") as file:
        (row, *_) = csv.DictReader(file)
    assert float(row["test_robust_accuracy"]) == front[0]["test_robust_accuracy"]
    assert float(row["test_clean_accuracy_low"]) == front[0]["test_clean_accuracy_interval"][0]


def replace_read_test(monkeypatch: pytest.MonkeyPatch, read: Callable[..., Any]) -> None:
    """Replaces what reads test images, for an evaluation and for a digest."""
    monkeypatch.setattr(test_images, "read_test", read)
    monkeypatch.setattr(digests, "read_test", read)


@pytest.mark.parametrize("words", [["pareto", ".", "--test"], ["evaluate", "checkpoints/B0", "--split", "test"]])
def test_the_opening_is_on_disk_before_a_test_image_is_read_or_hashed(
    copied: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    openings_at_reads = []

    def read(*arguments: Any) -> Any:
        openings_at_reads.append(len(read_openings(copied)))
        return read_test(*arguments)

    replace_read_test(monkeypatch, read)
    monkeypatch.chdir(copied)
    assert run(words) == DONE
    assert openings_at_reads
    assert set(openings_at_reads) == {1}


def test_other_test_images_than_before_the_training_are_refused_once_the_opening_is_recorded(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"]["test_sha256"] = "0" * 64
    (copied / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert run(["pareto", str(copied), "--test"]) == WRONG_INPUT
    assert "data must be that of the training for the test split, got another test_sha256" in capsys.readouterr().err
    assert len(read_openings(copied)) == 1
    assert not (copied / RESULTS_FILE).exists()


def test_what_is_stored_is_shown_and_tested_again_without_opening(
    tested: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_read_test(monkeypatch, lambda *_: pytest.fail("test images were read"))
    first = entries(tested)
    assert entries(tested, "--test") == first
    assert "have been evaluated on the test split" in capsys.readouterr().err
    assert len(read_openings(tested)) == 1


def test_other_attacks_or_another_checkpoint_make_a_number_stale(tested: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tested, tmp_path / "small")
    stored = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    changed = folder / "checkpoints" / "B0" / "epoch-00001.pt"
    shutil.copy(changed, changed.with_name("epoch-00002.pt"))
    with changed.with_name("epoch-00002.pt").open("ab") as file:
        file.write(b"\0")
    entries(folder, "--test")
    (_, second) = read_openings(folder)
    assert [model["checkpoint"] for model in second["models"]] == ["checkpoints/B0/epoch-00002.pt"]
    assert len(json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))) == len(stored)
    text = (folder / "sweep.yaml").read_text(encoding="utf-8")
    assert "images: 20" in text
    (folder / "sweep.yaml").write_text(text.replace("images: 20", "images: 19"), encoding="utf-8")
    (entry, *_) = entries(folder)
    assert entry["test_openings"] == 2
    assert "test_clean_accuracy" not in entry


def test_what_is_cut_off_goes_on_where_it_was(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def cut_off(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(trainables.robustness.evaluate, "evaluate", cut_off)
    assert run(["pareto", str(copied), "--test"]) == INTERRUPTED
    assert "continue with" in capsys.readouterr().err
    assert len(json.loads((copied / RESULTS_FILE).read_text(encoding="utf-8"))) == 2
    entries(copied, "--test")
    (first, second) = read_openings(copied)
    assert second["models"] == first["models"][2:]


def test_evaluate_on_the_test_split_is_counted_too(
    tested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(tested, tmp_path / "small")
    assert run(["evaluate", "small/B0", "--split", "test", "--runs-dir", str(tmp_path)]) == DONE
    assert "The test split is opened for the 2nd time" in capsys.readouterr().out
    document = json.loads((folder / "evaluations" / "B0-test" / "evaluation.json").read_text(encoding="utf-8"))
    assert (document["split"], document["openings"], document["images"]) == ("test", 2, 20)
    rows = {(row["measure"], row["epsilon"]): row["accuracy"] for row in document["accuracies"]}
    assert rows["robust_accuracy", 1.5] == pytest.approx(by_hand(folder, "B0")[1])
    opening = read_openings(folder)[-1]
    assert opening["models"][0]["setting"] == {"loss": "cross-entropy", "defence": "none"}
    assert opening["command"].startswith("robustfront evaluate small/B0 --split test")
    assert entries(folder)[0]["test_openings"] == 2


def test_a_single_training_keeps_its_openings_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(small_config(data={"test_size": 10}).to_yaml(), encoding="utf-8")
    words = ["train", str(config), "--param", "s=1.0", "--param", "m=0.1", "--output", str(tmp_path / "model")]
    assert run(words) == DONE
    assert run(["evaluate", str(tmp_path / "model"), "--split", "test"]) == DONE
    assert "opened for the 1st time" in capsys.readouterr().out
    (opening,) = read_openings(tmp_path / "model")
    assert opening["models"][0]["setting"] == {"loss": "i-sce", "defence": "none", "s": 1.0, "m": 0.1}
    document = json.loads((tmp_path / "model" / "evaluation-test" / "evaluation.json").read_text(encoding="utf-8"))
    assert document["images"] == 10, "all test images, where there are fewer"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "data.seed=1"], "data.seed must be that of the training (0) for the test split, got 1"),
        (["--set", "data.test_size=41"], "data.test_size must be that of the training (40) for the test split, got 41"),
        (["--set", "data.test_size=0"], "data.test_size must be at least 1, got 0"),
        (["--set", "train.epochs=2"], "CHECKPOINT must be of a finished training (2 epochs) for the test split"),
        (["--set", "model=cnn8"], "CHECKPOINT: model and loss must be those saved in"),
    ],
)
def test_evaluate_refuses_in_one_line_and_opens_nothing(
    copied: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(copied / "checkpoints" / "0"), "--split", "test", *words]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not read_openings(copied)


def drop_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints" / "B1")


def break_checkpoint(folder: Path) -> None:
    (folder / "checkpoints" / "B1" / "epoch-00001.pt").write_bytes(b"broken")


def swap_checkpoint(folder: Path) -> None:
    (number,) = (path.parent.name for path in folder.glob("checkpoints/R0/epoch-00001.pt"))
    shutil.copy(folder / "checkpoints" / number / "epoch-00001.pt", folder / "checkpoints" / "B1")


def change_data(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def block_openings(folder: Path) -> None:
    (folder / OPENINGS_FILE).mkdir()


def spoil_results(folder: Path) -> None:
    (folder / RESULTS_FILE).write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_checkpoint, "the checkpoints of trial B1 must exist for --test, got none in"),
        (break_checkpoint, "trial B1: the checkpoint must be readable"),
        (swap_checkpoint, "trial B1: the checkpoint must be of the seeds"),
        (change_data, "data must be that of the training for the test split, got another sha256"),
        (block_openings, "must be writable before the test split is opened"),
        (spoil_results, "must be as --test wrote it"),
    ],
)
def test_it_refuses_in_one_line_and_opens_nothing(
    copied: Path, change: Any, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_read_test(monkeypatch, lambda *_: pytest.fail("test images were read"))
    change(copied)
    assert run(["pareto", str(copied), "--test"]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (copied / OPENINGS_FILE).is_file()


def test_a_running_or_empty_search_is_not_tested(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Run.open(str(copied), copied.parent)
    with closing(open_ledger(opened)) as ledger:
        lease = Lease(ledger.engine, opened.name)
        try:
            assert run(["pareto", str(copied), "--test"]) == WRONG_INPUT
        finally:
            lease.release()
    assert "RUN must not be running for --test" in capsys.readouterr().err
    empty = Run.plan(small_config(name="empty"), tmp_path)
    empty.create(prepare_dataset(empty.config.data))
    Ledger(open_storage(empty.storage_url), empty.config, "new").close()
    assert run(["pareto", str(empty.folder), "--test"]) == WRONG_INPUT
    assert "RUN must have a finished setting for --test, got empty with none" in capsys.readouterr().err


def measured(clean: float, robust: float, images: int) -> TrialRecord:
    return TrialRecord(
        number="3",
        loss="i-sce",
        parameters={"s": 1.5, "m": 0.05},
        state="complete",
        objectives={"clean_accuracy": clean, "robust_accuracy": robust},
        replicates=({"clean_accuracy": clean, "robust_accuracy": robust},),
        images={"clean_accuracy": images, "robust_accuracy": images},
    )


def test_a_fall_beyond_chance_is_marked_and_a_smaller_one_or_a_rise_is_not(tmp_path: Path) -> None:
    record = measured(0.98, 0.5, 500)
    assert flattered(record, measured(0.97, 0.4, 500)) == ["robust_accuracy"]
    assert flattered(record, measured(0.99, 0.6, 500)) == []
    assert flattered(record, measured(0.98, 0.4, 50)) == [], "fifty images say little"
    opened = Run(tmp_path, small_config())
    on_test = ResultsOnTest({"3": measured(0.97, 0.4, 500)}, openings=3)
    table = front_table(opened, [record], [record], on_test)
    assert [str(cell) for cell in table.columns[-1]._cells] == ["50.0 (45.6 to 54.4)", "40.0* (35.8 to 44.4)"]
    assert "opened 3 times so far" in str(table.caption)
    assert "*: below validation by more than chance; selection flatters" in str(table.caption)
    calm = front_table(opened, [record], [record], replace(on_test, trials={"3": record}))
    assert "*" not in str(calm.caption)


def test_ordinals() -> None:
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "112th",
    ]
