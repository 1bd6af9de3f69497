from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.pareto import pareto_picture
from analysis.figures.style import add_legend, coverage, legend_size, measure_label, new_figure, setting_label
from analysis.figures.surfaces import draw_surfaces
from analysis.frames import rows_of, to_frame
from tests.analysis.examples import MIXED_DOMAINS, OBJECTIVES, SM_DOMAINS, grid_run, mixed_run, scattered_run


@pytest.mark.parametrize(
    ("measure", "label"),
    [
        ("clean_accuracy", "Clean accuracy"),
        ("best_robust_accuracy", "Best robust accuracy, worst case"),
        ("robust_accuracy", "Robust accuracy, worst case"),
        ("robust_accuracy@1.5000001", "Robust accuracy, worst case within 1.5000001"),
        ("pgd50-ce/normalized", "pgd50-ce, normalized logits"),
        ("pgd50-ce/worst", "pgd50-ce, worst view"),
        ("train_seconds", "Train seconds"),
    ],
)
def test_measures_for_people(measure: str, label: str) -> None:
    assert measure_label(measure) == label


def test_settings_for_people_leave_out_what_they_do_not_have() -> None:
    rows = {row["number"]: row for row in rows_of(to_frame(mixed_run(trials=2)))}
    assert setting_label(rows["B0"], MIXED_DOMAINS) == (
        "cross-entropy train.learning_rate=0.001, model.width=1, train.augment=false"
    )
    assert setting_label(rows["B0"], ["s", "unheard.of"]) == "cross-entropy"
    assert setting_label({**rows["B1"], "defence": "mine"}, ["s"]) == "i-sce + mine s=1"


def test_pictures_say_how_many_replicates_their_numbers_rest_on(tmp_path: Path) -> None:
    assert coverage(to_frame(grid_run(replicates=3))) == ""
    frame = to_frame([*scattered_run(replicates=1)[:10], *scattered_run(replicates=3)[10:13]])
    assert coverage(frame) == "Means over 1 to 3 replicates: 3 of 13 over 3."
    pareto_picture(frame, OBJECTIVES, SM_DOMAINS, title="x").save(tmp_path / "pareto")
    draw_surfaces(frame, OBJECTIVES, SM_DOMAINS, tmp_path, title="x")
    for name in ("pareto.html", "surfaces.html"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert "Means over 1 to 3 replicates: 3 of 13 over 3." in page
        assert "means over 3 replicates" in page
        assert "means over 1 replicates" not in page


def test_what_is_not_shown_is_counted_by_state() -> None:
    assert coverage(to_frame(grid_run(levels=2))) == ""
    frame = to_frame(scattered_run()).assign(state="running")
    assert coverage(frame) == f"Not shown: {len(frame)} running."


@pytest.mark.parametrize(
    ("labels", "width", "columns"),
    [
        (["measured", "fit", "B0: cross-entropy", "B1: i-sce s=1, m=0"], 7.6, 4),
        (["measured", "fit", "B0: " + "x" * 100, "B1: " + "x" * 100], 7.6, 1),
        (["measured", "fit", "B0: " + "x" * 100, "B1: " + "x" * 100], 12.6, 2),
    ],
)
def test_long_labels_get_a_column_of_their_own(labels: list[str], width: float, columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label) for label in labels]
    assert legend_size(handles, width, 9)[0] == columns


def test_a_long_legend_makes_its_figure_higher_and_leaves_the_panels_as_they_are() -> None:
    """With eight baselines, the legend took half of the picture."""
    from matplotlib.lines import Line2D

    heights = []
    for entries in (1, 12):
        figure, (axes,) = new_figure(7.6, 5.2)
        add_legend(figure, [Line2D([], [], label=f"B{i}: " + "x" * 80) for i in range(entries)], 9)
        figure.draw_without_rendering()
        heights.append(axes.get_position().height * figure.get_figheight())
    assert heights[1] > 0.9 * heights[0]
