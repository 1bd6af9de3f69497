from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.figures.pareto import Chosen, pareto_picture
from analysis.frames import to_frame
from analysis.records import TrialRecord
from tests.analysis.examples import (
    MIXED_DOMAINS,
    OBJECTIVES,
    SM_DOMAINS,
    grid_run,
    many_baselines,
    mixed_run,
    scattered_run,
)
from tests.analysis.figures.pages import TITLE, check


def test_pareto_shows_every_complete_trial_and_the_baselines(tmp_path: Path) -> None:
    frame = to_frame(scattered_run(replicates=2))
    words = check(pareto_picture(frame, OBJECTIVES, SM_DOMAINS, title=TITLE).save(tmp_path / "pareto"))
    shown = set(re.findall(r"#(B?\d+)\\u003c", words)) | set(re.findall(r"#(B?\d+)</b>", words))
    assert shown == {str(i) for i in range(24)} | {"B0", "B1"}
    assert "Not shown: 1 pruned, 1 failed." in words
    assert "s=1, m=0.1" in words


def test_pareto_of_one_trial_without_intervals(tmp_path: Path) -> None:
    record = TrialRecord(
        number="0", loss="i-sce", parameters={"s": 1.0}, state="complete", objectives={"a": 0.5, "seconds": 3.0}
    )
    check(
        pareto_picture(
            to_frame([record]), {"a": "maximize", "seconds": "minimize"}, {"s": SM_DOMAINS["s"]}, title=TITLE
        ).save(tmp_path / "pareto")
    )


def test_pareto_of_three_objectives_has_a_panel_for_each_pair(tmp_path: Path) -> None:
    records = [
        replace(record, objectives={**record.objectives, "train_seconds": 9.0 + i})
        if record.state == "complete"
        else record
        for i, record in enumerate(scattered_run())
    ]
    objectives = {**OBJECTIVES, "train_seconds": "minimize"}
    words = check(pareto_picture(to_frame(records), objectives, SM_DOMAINS, title=TITLE).save(tmp_path / "pareto"))  # type: ignore[arg-type]
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
    words = check(pareto_picture(to_frame(records), OBJECTIVES, SM_DOMAINS, title=TITLE).save(tmp_path / "pareto"))
    assert "misses a constraint" in words
    assert ("No setting meets the constraints" in words) == (not some)


def test_titles_are_text_and_not_markup(tmp_path: Path) -> None:
    words = check(
        pareto_picture(to_frame(grid_run(levels=2)), OBJECTIVES, SM_DOMAINS, title="<b>a & b</b>").save(
            tmp_path / "pareto"
        )
    )
    assert "<b>a & b" not in words


def test_pareto_names_settings_of_mixed_parameters(tmp_path: Path) -> None:
    records = mixed_run()
    words = check(pareto_picture(to_frame(records), OBJECTIVES, MIXED_DOMAINS, title=TITLE).save(tmp_path / "pareto"))
    for text in ("defence.name=adversarial-training", "train.augment=true", "model.width=3", "train.learning_rate=0.0"):
        assert text in words
    assert "B0: cross-entropy train.learning_rate=0.001, model.width=1, train.augment=false" in words


def test_what_has_no_front_is_refused() -> None:
    frame = to_frame(scattered_run())
    with pytest.raises(ValueError, match="complete one"):
        pareto_picture(frame[frame["state"] != "complete"], OBJECTIVES, SM_DOMAINS, title=TITLE)
    with pytest.raises(ValueError, match="at least two"):
        pareto_picture(frame, {"clean_accuracy": "maximize"}, SM_DOMAINS, title=TITLE)


def test_many_baselines_look_different(tmp_path: Path) -> None:
    """With more than four, two had the same colour and marker."""
    drawn = pareto_picture(to_frame(many_baselines()), OBJECTIVES, SM_DOMAINS, title=TITLE).save(tmp_path / "pareto")
    looks = re.findall(r'"marker":\{"color":"(#\w+)","line":[^}]*\},"size":12,"symbol":"([\w-]+)"\}', check(drawn))
    assert len(looks) == len(set(looks)) == 10  # the front and nine baselines


def test_a_confirmed_setting_is_joined_to_where_the_search_saw_it(tmp_path: Path) -> None:
    records = [record for record in grid_run(levels=2) if record.state == "complete"]
    searched = to_frame(records[:1])
    moved = {name: value + 0.02 for name, value in records[0].objectives.items()}
    shown = to_frame([replace(records[0], objectives=moved), *records[1:]])
    chosen = Chosen([records[0].number], searched)
    words = check(pareto_picture(shown, OBJECTIVES, SM_DOMAINS, title=TITLE, chosen=chosen).save(tmp_path / "pareto"))
    assert f"Confirmed with new seeds and images: {records[0].number}." in words
    [line] = pareto_picture(shown, OBJECTIVES, SM_DOMAINS, title=TITLE, chosen=chosen).interactive.select_traces(
        {"name": "in the search"}
    )
    before, after = ([100 * values[name] for name in OBJECTIVES] for values in (records[0].objectives, moved))
    assert [*zip(line.x, line.y, strict=True)] == [pytest.approx(before), pytest.approx(after)]
