"""``robustfront import``: other people's studies as runs, for pareto, surfaces and report."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis import load_run
from search.cli.main import run
from tests.search.imports.examples import mlflow_experiment, ray_study

NAMES = ["--clean", "values_0", "--robust", "values_1"]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """MLflow sends nothing, and neither library logs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield


def study(folder: Path, name: str = "theirs", directions: Any = ("maximize", "maximize")) -> tuple[str, optuna.Study]:
    url = f"sqlite:///{folder / 'theirs.db'}"
    sampler = optuna.samplers.RandomSampler(seed=0)
    return url, optuna.create_study(storage=url, study_name=name, directions=list(directions), sampler=sampler)


def front_of(capsys: pytest.CaptureFixture[str], name: str, runs: Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["pareto", name, "--format", "json", "--runs-dir", str(runs)]) == 0
    entries: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return entries


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the imported run ``theirs``: of every kind of parameter and state."""
    folder = tmp_path_factory.mktemp("optuna")
    url, theirs = study(folder)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        depth = trial.suggest_int("epochs", 1, 9)
        trial.suggest_categorical("activation", ["relu", None])
        trial.suggest_int("seed", 0, 0)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 5:
            raise RuntimeError
        if trial.number == 6:
            trial.set_constraint("memory", 1.0)
        return 0.9 - lr, 0.2 + depth / 50

    theirs.optimize(objective, n_trials=8, catch=(RuntimeError,))
    theirs.ask()
    assert run(["import", "optuna", url, "theirs", *NAMES, "--runs-dir", str(folder / "runs")]) == 0
    return folder / "runs"


def test_a_study_becomes_a_run(runs: Path) -> None:
    results = load_run(runs / "theirs")
    assert list(results.objectives) == ["clean_accuracy", "robust_accuracy"]
    assert {name: str(domain) for name, domain in results.domains.items()} == {
        "lr": "[0.0001, 0.1]",
        "params.epochs": "[1, 9]",
        "activation": "{relu, None}",
    }
    states = dict(zip(results.trials["number"], results.trials["state"], strict=True))
    assert states == dict.fromkeys("01247", "complete") | {
        "6": "complete",
        "3": "pruned",
        "5": "failed",
        "8": "running",
    }
    first = results.trials.set_index("number").loc["0"]
    assert first["clean_accuracy"] == pytest.approx(0.9 - first["lr"])
    assert first["robust_accuracy"] == pytest.approx(0.2 + first["params.epochs"] / 50)


def test_its_front_surfaces_and_report(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = front_of(capsys, "theirs", runs)
    assert entries
    assert all("command" not in entry and entry["origin"] == f"theirs/{entry['number']}" for entry in entries)
    clean, robust = ([entry[name] for entry in entries] for name in ("clean_accuracy", "robust_accuracy"))
    assert clean == sorted(clean, reverse=True)
    assert robust == sorted(robust)
    assert run(["surfaces", "theirs", "--runs-dir", str(runs)]) == 0
    assert (runs / "theirs" / "figures" / "surfaces.png").stat().st_size > 10_000
    (runs / "theirs" / "report.html").unlink()
    assert run(["report", "theirs", "--runs-dir", str(runs)]) == 0
    page = (runs / "theirs" / "report.html").read_text(encoding="utf-8")
    assert "could not be made" not in page
    assert "worst case" not in page, "nobody knows what someone else's robust accuracy is the worst of"
    for text in (
        "imported from the Optuna study theirs",
        "No setting can be recommended from one seed each",
        "The study has constraints, which are ignored",
        "The parameter epochs is called params.epochs",
        "the study&#39;s own",
    ):
        assert text in page
    assert "robustfront train sweep.yaml" not in page
    assert "robustfront resume" not in page


def test_it_is_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "--json", "--runs-dir", str(runs)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["state"], row["finished"]) == ("theirs", "imported", 6)
    assert set(row["best"]) == {"clean_accuracy", "robust_accuracy"}


@pytest.mark.parametrize(
    "command",
    [
        "resume theirs",
        "audit theirs",
        "export theirs --to x",
        "evaluate theirs/0",
        "pareto theirs --test",
        "status theirs",
    ],
)
def test_commands_that_need_networks_say_that_there_are_none(
    runs: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run([*command.split(), "--runs-dir", str(runs)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "imported from the Optuna study theirs and has none" in line


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(["import", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_is_no_study_of_two_objectives_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _ = study(tmp_path, "one", ["maximize"])
    study(tmp_path, "three", ["maximize"] * 3)
    study(tmp_path, "errors", ["minimize", "maximize"])[1].optimize(lambda _: (0.1, 0.5), n_trials=1)
    study(tmp_path, "empty")
    study(tmp_path, "fixed")[1].optimize(lambda _: (0.1, 0.5), n_trials=2)
    out = ["--runs-dir", str(tmp_path / "runs")]
    assert "must have two objectives, got 1 (values_0)" in refused(capsys, "optuna", url, "one", *out)
    assert "must have two objectives, got 3" in refused(capsys, "optuna", url, "three", *out)
    assert "must be maximized, got values_0" in refused(capsys, "optuna", url, "errors", *NAMES, *out)
    assert "must have a complete trial" in refused(capsys, "optuna", url, "empty", *out)
    assert "must have a parameter that changes" in refused(capsys, "optuna", url, "fixed", *out)
    assert "got no-such" in (line := refused(capsys, "optuna", url, "no-such", *out))
    assert "one, three, errors, empty, fixed" in line
    assert "must have the metric auc" in refused(capsys, "optuna", url, "errors", "--clean", "auc", *out)
    missing = tmp_path / "missing.db"
    for kind in ("optuna", "mlflow"):
        assert "existing database" in refused(capsys, kind, f"sqlite:///{missing}", "x", *out)
    assert not missing.exists()
    assert not (tmp_path / "runs").exists()
    theirs = f"sqlite:///{runs.parent / 'theirs.db'}"
    again = refused(capsys, "optuna", theirs, "theirs", *NAMES, "--runs-dir", str(runs))
    assert "name must be new" in again


@pytest.mark.parametrize(
    ("kind", "address"),
    [("optuna", "postgresql://me:hidden@127.0.0.1:9/db"), ("mlflow", "http://me:hidden@127.0.0.1:9")],
)
def test_passwords_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, address: str) -> None:
    line = refused(capsys, kind, address, "x", "--runs-dir", str(tmp_path))
    assert "127.0.0.1:9" in line
    assert "hidden" not in line


def test_percentages_and_minimized_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, theirs = study(tmp_path, "costs", ["maximize", "minimize"])
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        theirs.set_metric_names(["top/acc", "cost"])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 1)
        return 50 + 40 * x, x * x

    theirs.optimize(objective, n_trials=5)
    theirs.enqueue_trial({"x": 0.5})
    theirs.enqueue_trial({"x": 0.5})
    theirs.optimize(objective, n_trials=2)
    arguments = ["optuna", url, "costs", "--clean", "top/acc", "--runs-dir", str(tmp_path / "runs")]
    assert "must lie in [0, 1]" in refused(capsys, *arguments)
    assert run(["import", *arguments, "--percent", "--smallest-effect", "cost=0.1"]) == 0
    assert "the same searched values and there is no parameter seed: 6." in capsys.readouterr().out
    results = load_run(tmp_path / "runs" / "costs")
    assert dict(results.objectives) == {"clean_accuracy": "maximize", "cost": "minimize"}
    assert len(results.front()) == 6, "accuracy and cost both rise with x"
    assert results.trials["clean_accuracy"].between(0.5, 0.9).all()
    page = (tmp_path / "runs" / "costs" / "report.html").read_text(encoding="utf-8")
    assert "could not be made" not in page


def test_objectives_without_a_known_effect_are_not_judged(tmp_path: Path) -> None:
    url, theirs = study(tmp_path)
    theirs.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=4)
    before = (tmp_path / "theirs.db").read_bytes()
    assert run(["import", "optuna", url, "theirs", "--runs-dir", str(tmp_path), "--name", "own-names"]) == 0
    assert (tmp_path / "theirs.db").read_bytes() == before, "a study is only read"
    page = (tmp_path / "own-names" / "report.html").read_text(encoding="utf-8")
    assert "could not be made" not in page
    assert "it is not known which differences in values 0, values 1 are of interest" in page


def test_a_study_in_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "theirs.log"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    theirs = optuna.create_study(storage=storage, study_name="theirs", directions=["maximize"] * 2)
    theirs.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=4)
    before, out = journal.read_bytes(), ["--runs-dir", str(tmp_path / "runs")]
    assert run(["import", "optuna", str(journal), "theirs", *NAMES, *out]) == 0
    assert journal.read_bytes() == before, "a study is only read"
    entries = front_of(capsys, "theirs", tmp_path / "runs")
    assert {entry["clean_accuracy"] for entry in entries} == {trial.values[0] for trial in theirs.best_trials}
    other = tmp_path / "other.db"
    for content in (b"SQLite format 3\x00\xff\n", b"{}\n"):
        other.write_bytes(content)
        assert "must be an Optuna journal" in refused(capsys, "optuna", str(other), "theirs", *out)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    return mlflow_experiment(tmp_path_factory.mktemp("mlflow"))


def test_runs_of_an_experiment_are_seeds_of_its_settings(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = ["--clean", "eval/val_acc", "--robust", "eval/adv_acc"]
    where, before = ["--runs-dir", str(tmp_path)], Path(experiment.removeprefix("sqlite:///")).read_bytes()
    assert run(["import", "mlflow", experiment, "hyperparameter-tuning", *metrics, *where]) == 0
    assert Path(experiment.removeprefix("sqlite:///")).read_bytes() == before, "an experiment is only read"
    out = capsys.readouterr().out
    assert "Left out: the runs that are parents of others (1)." in out
    assert "not searched: optimizer = adam" in out
    results = load_run(tmp_path / "hyperparameter-tuning")
    assert {name: str(domain) for name, domain in results.domains.items()} == {
        "lr": "[0.0001, 0.01]",
        "dropout": "[0, 0.4]",
    }
    settings = results.records.set_index("number")
    assert list(settings["state"]) == ["complete"] * 4 + ["failed"]
    assert list(settings["seeds"][:4]) == ["0 1"] * 4
    assert settings.loc["0", "clean_accuracy"] == pytest.approx(0.75), "the last step's mean over both seeds"
    page = (tmp_path / "hyperparameter-tuning" / "report.html").read_text(encoding="utf-8")
    assert "could not be made" not in page
    assert "2 seeds; 95 % intervals, for another seed" in page
    assert re.search(r"Clean accuracy.{1,80}eval/val_acc|clean_accuracy, maximized</dt><dd>eval/val_acc", page)


def test_objectives_of_an_experiment_must_be_named(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = ["mlflow", experiment, "hyperparameter-tuning", "--runs-dir", str(tmp_path), "--name", "mine"]
    assert "(eval/val_acc, eval/adv_acc, loss)" in refused(capsys, *mine)
    assert "--objective must be" in refused(capsys, *mine, "--objective", "loss=less")
    assert "hyperparameter-tuning" in refused(capsys, "mlflow", experiment, "tuning", "--runs-dir", str(tmp_path))
    chosen = ["--objective", "loss=minimize", "--objective", "eval/adv_acc=maximize"]
    assert run(["import", *mine, *chosen]) == 0
    assert dict(load_run(tmp_path / "mine").objectives) == {"loss": "minimize", "eval_adv_acc": "maximize"}


def test_another_programs_database_is_left_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = runs.parent / "theirs.db"
    before = database.read_bytes()
    assert "MLflow's experiments" in refused(capsys, "mlflow", f"sqlite:///{database}", "theirs")
    assert database.read_bytes() == before


@pytest.mark.slow
def test_a_study_of_ray_tune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(os.environ, "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    url = ray_study(tmp_path)
    assert run(["import", "optuna", url, "theirs", *NAMES, "--runs-dir", str(tmp_path / "runs")]) == 0
    results = load_run(tmp_path / "runs" / "theirs")
    assert set(results.domains) == {"lr", "dropout", "activation"}
    assert list(results.trials["state"]) == ["complete"] * 12
    assert len(front_of(capsys, "theirs", tmp_path / "runs")) == len(results.front()) > 1
