from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.figures import Drawn
from analysis.figures.pareto import pareto_picture
from analysis.figures.style import complete
from analysis.figures.surfaces import draw_surfaces, panel_of
from analysis.frames import to_frame
from analysis.gaussian_process import values_at
from analysis.surfaces import Slice
from tests.analysis.examples import (
    ATTACKS,
    MIXED_DOMAINS,
    OBJECTIVES,
    SM_DOMAINS,
    SM_RANGES,
    grid_run,
    mixed_run,
    scattered_run,
)
from tests.analysis.figures.pages import TITLE, check
from trainables.settings.space import Choices, Domain, Range


def test_surfaces_of_a_search_are_fits_that_say_so(tmp_path: Path) -> None:
    paths = draw_surfaces(to_frame(scattered_run()), OBJECTIVES, SM_DOMAINS, tmp_path, title=TITLE).files
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
    words = check(draw_surfaces(to_frame(grid_run(levels=3)), OBJECTIVES, SM_DOMAINS, tmp_path, title=TITLE).files)
    assert "the exact grid of 9 settings, no fit" in words
    assert "Gaussian" not in words
    assert "standard deviations" not in words


def test_few_settings_are_dots_alone(tmp_path: Path) -> None:
    words = check(draw_surfaces(to_frame(scattered_run(trials=2)), OBJECTIVES, SM_DOMAINS, tmp_path, title=TITLE).files)
    assert "too few" in words
    assert '"name":"fit"' not in words


def test_of_many_parameters_the_two_most_important_are_drawn(tmp_path: Path) -> None:
    drawn = draw_surfaces(to_frame(mixed_run()), OBJECTIVES, MIXED_DOMAINS, tmp_path, title=TITLE)
    words = check(drawn.files)
    assert "\n" not in drawn.note
    assert drawn.note in html.unescape(words)
    assert "s and train.learning_rate matter most" in drawn.note
    assert "defence.name=adversarial-training" in drawn.note
    assert "Hollow dots: another category." in words
    assert '"xaxis":{"title":{"text":"s"},"type":"linear"}' in words
    assert '"yaxis":{"title":{"text":"train.learning_rate"},"type":"log",' in words
    assert "i-sce + adversarial-training s=" in words


@pytest.mark.parametrize(
    ("domains", "line"),
    [
        ({}, "No surfaces: they need two numeric parameters, the space has 0."),
        ({"s": Range(low=1, high=2)}, "No surfaces: they need two numeric parameters, the space has 1."),
        (
            {"s": Range(low=1, high=2), "name": Choices(choices=("a", "b"))},
            "No surfaces: they need two numeric parameters, the space has 1.",
        ),
    ],
)
def test_with_fewer_than_two_numeric_parameters_there_is_a_line_and_no_error(
    domains: dict[str, Domain], line: str, tmp_path: Path
) -> None:
    """Such a sweep failed at its very end, after all computation."""
    records = [
        replace(record, parameters={name: record.parameters["s"] if name == "s" else "a" for name in domains})
        for record in scattered_run()
        if not record.is_baseline
    ]
    assert draw_surfaces(to_frame(records), OBJECTIVES, domains, tmp_path, title=TITLE) == Drawn(note=line)
    assert list(tmp_path.iterdir()) == []
    check(pareto_picture(to_frame(records), OBJECTIVES, domains, title=TITLE).save(tmp_path / "pareto"))


def test_without_a_complete_trial_there_is_a_line(tmp_path: Path) -> None:
    frame = to_frame(scattered_run())
    nothing = frame[frame["state"] != "complete"]
    for empty in (nothing, to_frame([])):
        drawn = draw_surfaces(empty, OBJECTIVES, SM_DOMAINS, tmp_path, title=TITLE)
        assert drawn == Drawn(note="No surfaces: no trial that has every parameter is complete.")
    assert list(tmp_path.iterdir()) == []


def test_trials_without_every_parameter_are_no_dots(tmp_path: Path) -> None:
    records = scattered_run()
    records[3] = replace(records[3], parameters={"s": 1.5})
    words = check(draw_surfaces(to_frame(records), OBJECTIVES, SM_DOMAINS, tmp_path, title=TITLE).files)
    assert "23 measured settings" in words


def test_a_further_radius_has_a_picture_of_its_own(tmp_path: Path) -> None:
    name = "robust_accuracy@1.5000001"
    records = [
        replace(record, accuracies={**record.accuracies, name: record.objectives["robust_accuracy"] / 2})
        for record in grid_run(levels=3)
    ]
    drawn = draw_surfaces(to_frame(records), OBJECTIVES, SM_DOMAINS, tmp_path, title=TITLE)
    assert f"surface-{name}.png" in [path.name for path in drawn.files]
    assert "Robust accuracy, worst case within 1.5000001" in check(drawn.files)


def test_the_accuracies_are_drawn_where_they_were_measured() -> None:
    """The page's dots are the table's numbers, in percent."""
    frame = to_frame(scattered_run())
    search = complete(frame, "search")
    panel = panel_of(frame, search, SM_DOMAINS, Slice(SM_RANGES, {}), "robust_accuracy")
    np.testing.assert_allclose(panel.values, 100 * search["robust_accuracy"])
    np.testing.assert_allclose(panel.points, search[["s", "m"]])
    assert panel.typical.all()
    first, second = panel.beside([panel, panel]), panel.beside([panel])
    assert first.limits == second.limits
    assert first.limits[0] < panel.low.min()
    assert panel.high.max() < first.limits[1]


def test_axes_show_the_parameter_and_not_its_logarithm() -> None:
    frame = to_frame(mixed_run())
    search = complete(frame, "search")
    rate = Range(low=1e-4, high=1e-1, log=True)
    drawn = Slice({"train.learning_rate": rate, "s": SM_RANGES["s"]}, {"defence.name": "none"})
    panel = panel_of(frame, search, MIXED_DOMAINS, drawn, "robust_accuracy")
    np.testing.assert_allclose(values_at(panel.points[:, 0], rate), search["train.learning_rate"])
    assert list(panel.typical) == list(search["defence.name"] == "none")
