from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures import all as figures
from analysis.figures import surfaces as surface_figures
from analysis.figures.all import draw_hypervolume, draw_learning_curves, draw_pareto, left_out, replicates_note
from analysis.figures.surfaces import draw_surfaces
from analysis.hypervolume import hypervolume_trace, reference_point
from analysis.records import TrialRecord, to_frame
from tests.analysis.examples import ATTACKS, OBJECTIVES, grid_run, scattered_run

TITLE = "quickstart: LeNet-5 on mnist5k, L2 radius 1.5"


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (figures, surface_figures):
        monkeypatch.setattr(module, "DOTS_PER_INCH", 40)


def check(paths: list[Path]) -> str:
    """Every file is there and whole; returns the page's own words, without plotly's script."""
    words = ""
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
            assert content.rstrip().endswith(b"IEND\xaeB`\x82")
        else:
            page = content.decode()
            assert len(re.findall(r"plotly\.js v\d", page)) == 1, "the script is there once"
            assert not re.search(r"<script[^>]*\ssrc=", page), "nothing is loaded from elsewhere"
            words += page[page.rindex('class="plotly-graph-div"') :]
    return words


def test_surfaces_of_a_search_are_fits_that_say_so(tmp_path: Path) -> None:
    paths = draw_surfaces(to_frame(scattered_run()), ["s", "m"], tmp_path, title=TITLE)
    assert [path.name for path in paths] == [
        "surfaces.png",
        "surfaces.html",
        "surface-clean_accuracy.png",
        "surface-robust_accuracy.png",
        *(f"surface-{name.replace('/', '-')}.png" for name in ATTACKS),
    ]
    words = check(paths)
    assert "24 measured settings" in words
    assert "Gaussian-process fit" in words
    assert "Not shown: 1 pruned, 1 failed." in words
    assert "L2 radius 1.5" in words
    assert "B0: cross-entropy" in words
    for number in ("#0", "#23"):
        assert number in words
    for number in ("#24", "#25"):  # pruned and failed
        assert number not in words


def test_surfaces_of_a_grid_are_the_grid(tmp_path: Path) -> None:
    words = check(draw_surfaces(to_frame(grid_run(levels=3)), ["s", "m"], tmp_path, title=TITLE))
    assert "the exact grid of 9 settings, no fit" in words
    assert "Gaussian" not in words
    assert "standard deviations" not in words


def test_few_settings_are_dots_alone(tmp_path: Path) -> None:
    words = check(draw_surfaces(to_frame(scattered_run(trials=2)), ["s", "m"], tmp_path, title=TITLE))
    assert "too few" in words
    assert '"name":"fit"' not in words


def test_pareto_shows_every_complete_trial_and_the_baselines(tmp_path: Path) -> None:
    frame = to_frame(scattered_run(replicates=2))
    words = check(draw_pareto(frame, OBJECTIVES, ["s", "m"], tmp_path, title=TITLE))
    shown = set(re.findall(r"#(B?\d+)\\u003c", words)) | set(re.findall(r"#(B?\d+)</b>", words))
    assert shown == {str(i) for i in range(24)} | {"B0", "B1"}
    assert "Not shown: 1 pruned, 1 failed." in words
    assert "s=1, m=0.1" in words


def test_pareto_of_one_trial_without_intervals(tmp_path: Path) -> None:
    one = TrialRecord(
        number="0", loss="i-sce", parameters={"s": 1.0}, state="complete", objectives={"a": 0.5, "seconds": 3.0}
    )
    check(draw_pareto(to_frame([one]), {"a": "maximize", "seconds": "minimize"}, ["s"], tmp_path, title=TITLE))


def test_pareto_of_three_objectives_has_a_panel_for_each_pair(tmp_path: Path) -> None:
    records = [
        replace(record, objectives={**record.objectives, "train_seconds": 9.0 + i})
        if record.state == "complete"
        else record
        for i, record in enumerate(scattered_run())
    ]
    objectives = {**OBJECTIVES, "train_seconds": "minimize"}
    words = check(draw_pareto(to_frame(records), objectives, ["s", "m"], tmp_path, title=TITLE))  # type: ignore[arg-type]
    for axis in ("xaxis", "yaxis", "xaxis2", "yaxis2", "xaxis3", "yaxis3"):
        assert f'"{axis}":{{' in words
    assert "yaxis4" not in words
    assert "Pareto-optimal in all objectives together." in words
    assert '"shape":"vh"' not in words  # the front's boundary is no line of two of three objectives


@pytest.mark.parametrize("some", [True, False])
def test_pareto_marks_what_misses_a_constraint(some: bool, tmp_path: Path) -> None:
    records = [
        replace(record, constraints={"x": -1.0 if some and i % 2 else 1.0 + i})
        if record.state == "complete"
        else record
        for i, record in enumerate(scattered_run())
    ]
    words = check(draw_pareto(to_frame(records), OBJECTIVES, ["s", "m"], tmp_path, title=TITLE))
    assert "misses a constraint" in words
    assert ("No setting meets the constraints" in words) == (not some)


def test_hypervolume_and_learning_curves(tmp_path: Path) -> None:
    records = scattered_run(trials=6)
    reference = reference_point(OBJECTIVES)
    trace = hypervolume_trace(records, OBJECTIVES, reference)
    words = check(draw_hypervolume(trace, tmp_path, title=TITLE, reference=reference))
    assert "clean accuracy 0, robust accuracy 0" in words
    epochs = pd.DataFrame(
        [
            {"number": record.number, "epoch": epoch, "validation_loss": 1 / epoch, "validation_accuracy": 0.9}
            for record in records
            for epoch in range(1, 4)
        ]
    )
    words = check(draw_learning_curves(epochs, to_frame(records), ["s", "m"], tmp_path, title=TITLE))
    assert "6: i-sce s=1.2, m=0.05, pruned" in words


def test_titles_are_text_and_not_markup(tmp_path: Path) -> None:
    words = check(draw_pareto(to_frame(grid_run(levels=2)), OBJECTIVES, ["s", "m"], tmp_path, title="<b>a & b</b>"))
    assert "<b>a & b" not in words


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    frame = to_frame(scattered_run())
    nothing = frame[frame["state"] != "complete"]
    reference = reference_point(OBJECTIVES)
    trace = hypervolume_trace([], OBJECTIVES, reference)
    with pytest.raises(ValueError, match="two axes"):
        draw_surfaces(frame, ["s"], tmp_path, title=TITLE)
    with pytest.raises(ValueError, match="complete one"):
        draw_surfaces(nothing, ["s", "m"], tmp_path, title=TITLE)
    with pytest.raises(ValueError, match="complete one"):
        draw_pareto(nothing, OBJECTIVES, ["s", "m"], tmp_path, title=TITLE)
    with pytest.raises(ValueError, match="at least two"):
        draw_pareto(frame, {"clean_accuracy": "maximize"}, ["s", "m"], tmp_path, title=TITLE)
    with pytest.raises(ValueError, match="trace"):
        draw_hypervolume(trace, tmp_path, title=TITLE, reference=reference)
    with pytest.raises(ValueError, match="epochs"):
        draw_learning_curves(pd.DataFrame(), frame, ["s", "m"], tmp_path, title=TITLE)
    assert list(tmp_path.iterdir()) == []


def test_pictures_say_how_many_replicates_their_numbers_rest_on(tmp_path: Path) -> None:
    assert replicates_note(to_frame(scattered_run(replicates=3))) == ""
    frame = to_frame([*scattered_run(replicates=1)[:10], *scattered_run(replicates=3)[10:13]])
    assert replicates_note(frame) == "Means over 1 to 3 replicates: 3 of 13 over 3."
    for draw, name in ((draw_pareto, "pareto.html"), (draw_surfaces, "surfaces.html")):
        arguments = (OBJECTIVES, ["s", "m"]) if draw is draw_pareto else (["s", "m"],)
        draw(frame, *arguments, tmp_path, title="x")  # type: ignore[operator]
        page = (tmp_path / name).read_text()
        assert "Means over 1 to 3 replicates: 3 of 13 over 3." in page
        assert "means over 3 replicates" in page
        assert "means over 1 replicates" not in page


def test_left_out_counts_every_state() -> None:
    assert left_out(to_frame(grid_run(levels=2))) == ""
    frame = to_frame(scattered_run()).assign(state="running")
    assert left_out(frame) == f"Not shown: {len(frame)} running."


def test_the_accuracies_are_drawn_where_they_were_measured() -> None:
    """The page's dots are the table's numbers, in percent."""
    frame = to_frame(scattered_run())
    search = frame[(frame["kind"] == "search") & (frame["state"] == "complete")]
    panel = surface_figures._panel(frame, search.reset_index(drop=True), ["s", "m"], "robust_accuracy")
    np.testing.assert_allclose(panel.values, 100 * search["robust_accuracy"])
    np.testing.assert_allclose(panel.points, search[["s", "m"]])
    (first, second) = surface_figures._comparable([panel, panel])
    assert first.limits == second.limits
    assert first.limits[0] < panel.low.min()
    assert panel.high.max() < first.limits[1]


def test_importing_analysis_draws_and_fits_nothing() -> None:
    modules = ["records", "pareto", "hypervolume", "statistics", "surfaces", "figures", "surface_figures", "atomic"]
    heavy = ["matplotlib", "plotly", "sklearn", "scipy", "torch", "search", "trainables"]
    code = f"import sys, {', '.join('analysis.' + m for m in modules)}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
