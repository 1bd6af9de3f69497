"""A run's results from Python and in a notebook."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from analysis import Results, load_run
from analysis.figures.pareto import pareto_picture
from analysis.figures.plots import parallel_figure, slice_figure
from analysis.figures.style import bare_svg
from analysis.frames import settings_frame, to_frame
from search.results.answer import answer_of, write_answer
from search.results.writing import write_tables
from tests.analysis.examples import OBJECTIVES, SM_DOMAINS, scattered_run
from tests.search.results.test_answer import sweep

NOTEBOOK = Path(__file__).parents[2] / "configs" / "notebooks" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve settings whose robust accuracy rises with s; two of them and the baseline are confirmed."""
    folder = tmp_path_factory.mktemp("machine") / "runs" / "quickstart"
    run, records = sweep(folder, 0.2)
    (folder / "sweep.yaml").write_text(run.config.to_yaml())
    answered = answer_of(run.config, run.folder, records)
    assert answered is not None
    write_answer(run, answered)
    write_tables(run, records)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_run(folder)


def test_records_are_tidy(results: Results) -> None:
    records = results.records
    assert list(results.objectives) == ["clean_accuracy", "robust_accuracy"]
    assert list(results.domains) == ["s", "m"]
    assert len(records) == 13 + 3
    assert set(records.loc[records["confirmed"], "number"]) == {"0", "11", "B0"}
    assert len(results.shown()) == 13
    assert len(results.trials) == 12 * 4 + 4 + 3 * 8
    assert results.trials["number"].is_unique


def test_the_front_has_confirmed_values_if_there_are_any(results: Results) -> None:
    front = results.front()
    best = front.iloc[0]
    assert (best["number"], best["confirmed"]) == ("11", True)
    assert best["probability"] > 0.5
    assert front["robust_accuracy"].is_monotonic_decreasing


def test_a_surface_is_a_table(results: Results) -> None:
    with pytest.raises(ValueError, match="got too few"):
        results.surface("robust_accuracy")  # all settings have the same m
    records = scattered_run()
    spread = Results("spread", settings_frame(records, records[:1], None), to_frame(records), OBJECTIVES, SM_DOMAINS)
    surface = spread.surface("robust_accuracy")
    assert list(surface.columns) == ["s", "m", "mean", "low", "high"]
    assert surface["s"].between(1, 2).all()
    assert (surface["low"] < surface["mean"]).all()
    assert surface["mean"].between(20, 60).all(), "in percent"
    with pytest.raises(ValueError, match="measure must be one of clean_accuracy, robust_accuracy"):
        spread.surface("speed")


def test_a_figure_renders_as_a_picture(results: Results) -> None:
    assert results.figure("pareto")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="figure must be one of pareto, surfaces, got front"):
        results.figure("front")


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder must be a run's folder with a sweep\.yaml"):
        load_run(tmp_path)
    (tmp_path / "sweep.yaml").touch()
    with pytest.raises(ValueError, match="folder must have results"):
        load_run(tmp_path)


def test_figures_take_a_plain_table() -> None:
    plain = pd.DataFrame(
        {
            "s": [1.0, 1.5, 2.0, 1.2],
            "m": [0.1, 0.05, 0.02, 0.07],
            "clean_accuracy": [0.97, 0.98, 0.96, 0.95],
            "robust_accuracy": [0.4, 0.3, 0.5, 0.2],
        }
    )
    picture = pareto_picture(plain, OBJECTIVES, SM_DOMAINS, title="plain")
    assert "#2" in picture.svg()
    for figure in (
        slice_figure(plain, list(OBJECTIVES), SM_DOMAINS),
        parallel_figure(plain, list(OBJECTIVES), SM_DOMAINS, ["2"]),
    ):
        assert "<svg" in bare_svg(figure)


def test_the_notebook_runs(folder: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # The fixture's settings all have the same m, so no surface can be fitted.
    notebook.cells = [cell for cell in notebook.cells if "surface" not in cell.source]
    NotebookClient(notebook, resources={"metadata": {"path": str(folder.parents[1])}}, timeout=120).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
