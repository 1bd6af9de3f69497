"""Committed tables with their texts and figures, and the command's messages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis import reproduction
from analysis.figures.reproduction import SOURCE
from search.cli.main import run
from search.config.experiments import Library
from search.errors import DONE, WRONG_INPUT
from search.sweep.reproduce import Reproduction, left, read_table, rewrite, table_path, write_summary
from trainables import files

ROOT = Path(__file__).parents[3]
EXPERIMENTS = ROOT / "configs" / "experiments"
RESULTS = EXPERIMENTS / "results"
TABLES = sorted(path for path in RESULTS.glob("*.csv") if not path.stem.endswith("-points"))


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.read(EXPERIMENTS)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_committed_text_matches_its_table_and_its_claims(path: Path, library: Library) -> None:
    table = read_table(path)
    name, profile = table["experiment"].iloc[0], table["profile"].iloc[0]
    assert path == table_path(RESULTS, name, profile)
    document = library.experiments[name].model_dump(mode="json")
    suffixes = {"table": [], "embedding": [".png", ".html"]}.get(document["form"], [".png"])
    names = [path.with_suffix(suffix).name for suffix in suffixes]
    written = path.with_suffix(".md").read_text(encoding="utf-8")
    assert written == reproduction.text(name, document, table, names)
    assert written.count(", in the paper* |") == len(document["printed"])


def test_the_committed_summary_matches_the_tables(library: Library, tmp_path: Path) -> None:
    for path in TABLES:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    summary = write_summary(library, tmp_path)
    assert summary.read_bytes() == (RESULTS / summary.name).read_bytes()


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_committed_table_covers_every_claim_and_names_versions_and_hardware(path: Path, library: Library) -> None:
    table = read_table(path)
    experiment = library.experiments[table["experiment"].iloc[0]]
    for claim in experiment.claims:
        rows = table[(table["claim"] == claim.name) & (table["panel"] == claim.panel)]
        evaluations = 2 if claim.attack not in (None, "worst") else 1
        assert len(rows) == evaluations * max(1, len(claim.others)), claim.name
    assert (table.loc[table["kind"] != "claim", "seeds"] >= 5).all()
    assert not table[["network", "data", "versions", "hardware"]].isna().any(axis=None)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_figures_are_drawn_from_a_committed_table(path: Path, library: Library, tmp_path: Path) -> None:
    for each in path.parent.glob(f"{path.stem}*.csv"):
        (tmp_path / each.name).write_bytes(each.read_bytes())
    name = pd.read_csv(path)["experiment"].iloc[0]
    written = rewrite(Reproduction(library, [name], "quick", "reproduce", tmp_path), tmp_path)
    pictures = [file for file in written if file.suffix == ".png"]
    assert len(pictures) == (0 if library.experiments[name].form == "table" else 1)
    for committed in (path.with_suffix(".png"),) if pictures else ():
        with Image.open(committed) as image:
            assert image.info[SOURCE] == files.sha256(path), "draw it again: robustfront reproduce NAME --from-table"


def test_all_units_are_left_if_nothing_has_been_run(library: Library, tmp_path: Path) -> None:
    job = Reproduction(library, ["table-1"], "quick", "reproduce", tmp_path)
    assert left(job) == {("digits", "adversarial-training"): 5, ("digits", "i-sce"): 5}


def test_the_list_shows_the_pools_that_each_experiment_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(["reproduce", "--list"]) == DONE
    text = capsys.readouterr().out
    assert "digits: 50 networks (shared)" in text
    assert "digits-radii: 35 networks  " in text
    assert all(f" {name} " in text for name in ("figure-3", "figure-12", "table-3"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["figure-2"], "NAME must be one of figure-3, "),
        ([], "NAME must be given, got none; choose one of `robustfront reproduce --list`"),
        (["table-1", "--set", "train.epochs=1"], "--results must be given with --set, got none"),
        (["table-1", "--from-table", "--results", "elsewhere"], "NAME must have a table for --from-table, got table-1"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    assert run(["reproduce", *words]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert error.startswith(f"robustfront: {line}")
    assert error.count("\n") == 1


def test_a_folder_without_experiments_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "--list"]) == WRONG_INPUT
    assert "must be a folder of experiments" in capsys.readouterr().err


@pytest.mark.slow
def test_an_experiment_runs_to_its_table_and_a_second_time_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    monkeypatch.chdir(ROOT)
    settings = ("train.replicates=2", "train.epochs=1", "data.train_size=300", "robustness.images=10")
    overrides = [word for setting in settings for word in ("--set", setting)]
    words = ["table-1", "--runs-dir", str(tmp_path), "--results", str(tmp_path / "results"), "--quiet", *overrides]
    assert run(["reproduce", *words]) == DONE
    path = table_path(tmp_path / "results", "table-1", "quick")
    first, table = path.read_bytes(), read_table(path)
    assert set(table["method"]) == {"I-SCE", "AT"}
    document = library.experiments["table-1"].model_dump(mode="json")
    assert path.with_suffix(".md").read_text(encoding="utf-8") == reproduction.text("table-1", document, table, [])
    outcomes = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/outcomes/*.npz")}
    assert len(outcomes) == 4
    assert run(["reproduce", *words]) == DONE
    assert path.read_bytes() == first
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/outcomes/*.npz")} == outcomes
    job = Reproduction(library, ["table-1"], "quick", "reproduce", tmp_path, settings)
    assert set(left(job).values()) == {0}
