from __future__ import annotations

import csv
import io
import json
import shlex

import pytest
from ruamel.yaml import YAML

from analysis.export import export_front, train_command
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from tests.analysis.examples import OBJECTIVES, constrained, mixed_run, scattered_run, trial
from trainables.settings.space import Value


def replicated(number: str, replicates: int, **changes: object) -> TrialRecord:
    return trial(
        number, 0.98, 0.4, replicates=({"clean_accuracy": 0.98, "robust_accuracy": 0.4},) * replicates, **changes
    )


def test_json_is_what_other_programs_are_promised() -> None:
    front = pareto_front([trial("3", 0.98, 0.4)], OBJECTIVES)
    (entry,) = json.loads(export_front(front, OBJECTIVES, "json", "configs/quickstart.yaml"))
    assert entry["number"] == 3
    assert entry["loss"] == "i-sce"
    assert entry["params"] == {"s": 1 + 0.98 / 3, "m": 0.1 / 3}
    assert (entry["clean_accuracy"], entry["robust_accuracy"]) == (0.98, 0.4)
    assert entry["clean_accuracy_interval"][0] < 0.98 < entry["clean_accuracy_interval"][1]
    assert entry["seeds"] == [7, 8]
    assert entry["replicates"] == 0


def test_the_command_gives_every_parameter_back_to_the_last_digit() -> None:
    (entry,) = json.loads(export_front([trial("3", 0.98, 0.4)], OBJECTIVES, "json", "my configs/a.yaml"))
    words = shlex.split(entry["command"])
    assert words[:3] == ["robustfront", "train", "my configs/a.yaml"]
    assert words[3::2] == ["--param", "--param"]
    assert {name: float(value) for name, value in (word.split("=") for word in words[4::2])} == entry["params"]


def test_the_command_of_pooled_numbers_asks_for_all_replicates() -> None:
    (entry,) = json.loads(export_front([replicated("3", 5, extensions=("R0", "R1"))], OBJECTIVES, "json", "a.yaml"))
    assert entry["command"].endswith(" --set train.replicates=5")
    assert entry["replicates"] == 5
    assert "--set" not in train_command(replicated("3", 5), "a.yaml")  # its configuration says so


def test_csv_holds_what_some_of_the_front_alone_have() -> None:
    front = [trial("3", 0.98, 0.4), trial("4", 0.97, 0.5, origin="first/7")]
    rows = list(csv.DictReader(io.StringIO(export_front(front, OBJECTIVES, "csv", "a.yaml"))))
    assert [row["origin"] for row in rows] == ["", "first/7"]


def test_yaml_holds_what_json_holds() -> None:
    front = pareto_front(scattered_run(), OBJECTIVES)
    text = export_front(front, OBJECTIVES, "yaml", "a.yaml")
    assert YAML(typ="safe").load(text) == json.loads(export_front(front, OBJECTIVES, "json", "a.yaml"))
    assert text.startswith(f"- number: {front[0].number}\n  loss: i-sce\n  defence: none\n  params: {{s: ")


def test_csv_is_flat_and_exact() -> None:
    front = pareto_front(scattered_run(), OBJECTIVES)
    rows = list(csv.DictReader(io.StringIO(export_front(front, OBJECTIVES, "csv", "a.yaml"))))
    assert [row["number"] for row in rows] == [record.number for record in front]
    for row, record in zip(rows, front, strict=True):
        assert float(row["s"]) == record.parameters["s"]
        assert (float(row["robust_accuracy_low"]), float(row["robust_accuracy_high"])) == record.interval(
            "robust_accuracy"
        )
        assert row["seeds"] == "100"


@pytest.mark.parametrize("style", ["json", "yaml", "csv"])
def test_an_empty_front_can_be_exported(style: str) -> None:
    assert export_front([], OBJECTIVES, style, "a.yaml").strip() in ("[]", "number")  # type: ignore[arg-type]


@pytest.mark.parametrize("style", ["json", "yaml", "csv"])
def test_exports_say_what_is_feasible_where_there_are_constraints(style: str) -> None:
    def exported(record: TrialRecord) -> dict[str, object]:
        text = export_front([record], OBJECTIVES, style, "a.yaml")  # type: ignore[arg-type]
        (entry,) = csv.DictReader(io.StringIO(text)) if style == "csv" else YAML(typ="safe").load(text)
        return dict(entry)

    for clean, feasible, violation in ((0.98, True, 0.0), (0.96, False, 0.01)):
        entry = exported(constrained("1", clean, 0.4))
        assert str(entry["feasible"]) == str(feasible)
        assert float(str(entry["violation"])) == pytest.approx(violation)
    assert "feasible" not in exported(trial("1", 0.98, 0.4))


MIXED: dict[str, Value] = {
    "s": 0.1 + 0.2,
    "train.learning_rate": 1e-05,
    "model.width": 3,
    "defence.name": "it's mine",
    "train.augment": True,
}


@pytest.mark.parametrize("style", ["json", "yaml"])
def test_parameters_keep_their_types(style: str) -> None:
    text = export_front([trial("3", 0.98, 0.4, parameters=MIXED, defence="mine")], OBJECTIVES, style, "a.yaml")  # type: ignore[arg-type]
    (entry,) = YAML(typ="safe").load(text)
    assert entry["params"] == MIXED
    assert [type(value) for value in entry["params"].values()] == [float, float, int, str, bool]
    assert entry["defence"] == "mine"


def test_csv_has_a_column_for_each_parameter() -> None:
    text = export_front([trial("3", 0.98, 0.4, parameters=MIXED)], OBJECTIVES, "csv", "a.yaml")
    (row,) = csv.DictReader(io.StringIO(text))
    assert {name: row[name] for name in MIXED} == {name: str(value) for name, value in MIXED.items()}


def test_the_command_is_read_as_yaml_reads_values() -> None:
    words = shlex.split(train_command(trial("3", 0.98, 0.4, parameters=MIXED), "a.yaml"))
    read = {name: YAML(typ="safe").load(value) for name, value in (word.split("=", 1) for word in words[4::2])}
    assert {**read, "train.learning_rate": float(read["train.learning_rate"])} == MIXED


def test_a_front_of_mixed_parameters_is_exported_in_every_format() -> None:
    front = pareto_front(mixed_run(), OBJECTIVES)
    assert YAML(typ="safe").load(export_front(front, OBJECTIVES, "yaml", "a.yaml")) == json.loads(
        export_front(front, OBJECTIVES, "json", "a.yaml")
    )
    assert len(list(csv.DictReader(io.StringIO(export_front(front, OBJECTIVES, "csv", "a.yaml"))))) == len(front)


def test_latex_is_a_table_for_booktabs() -> None:
    values = {"clean_accuracy": 0.975, "robust_accuracy": 0.3}
    record = TrialRecord(
        number="7",
        loss="i-sce",
        parameters={"train.batch_size": 32, "s": 1.5},
        state="complete",
        objectives=values,
        replicates=(values,),
        images={"clean_accuracy": 1000, "robust_accuracy": 200},
    )
    text = export_front([record], list(values), "latex", "sweep.yaml")
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrr}"
    assert [lines[at] for at in (1, 3, 5)] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert lines[2] == r"trial & train.batch\_size & s & clean accuracy (\%) & robust accuracy (\%) & seeds \\"
    assert lines[4] == r"7 & 32 & 1.5 & 97.5 (96.3--98.3) & 30.0 (24.1--36.7) & 1 \\"
