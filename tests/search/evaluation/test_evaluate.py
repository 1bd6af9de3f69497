"""A trained model attacked anew from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from search.cli.main import DONE, WRONG_INPUT, run
from tests.search.examples import small_config
from trainables.robustness import Outcomes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``robustfront train`` leaves of two replicates on 300 digits."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "config.yaml"
    config.write_text(small_config(train={"replicates": 2}).to_yaml(), encoding="utf-8")
    words = ["train", str(config), "--param", "s=1.0", "--param", "m=0.1", "--output", str(folder / "model")]
    assert run(words) == DONE
    return folder / "model"


def evaluation(folder: Path) -> dict[str, dict[float, dict[str, float]]]:
    """Rows of ``evaluation.json`` by measure and radius."""
    document = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert document["split"] == "validation"
    table: dict[str, dict[float, dict[str, float]]] = {}
    for row in document["accuracies"]:
        table.setdefault(row["measure"], {})[row["epsilon"]] = row
    return table


def test_the_runs_own_attacks_give_the_trainings_numbers(trained: Path, tmp_path: Path) -> None:
    assert run(["evaluate", str(trained), "--output", str(tmp_path)]) == DONE
    result = json.loads((trained / "result.json").read_text(encoding="utf-8"))
    table = evaluation(tmp_path)
    for name in ("robust_accuracy", "pgd2-ce/normalized", "pgd2-ce/worst", "pgd2-dlr/worst"):
        mean = np.mean([unit["scores"][name]["value"] for unit in result["units"]])
        assert table[name][1.5]["accuracy"] == pytest.approx(mean)
    first, second = Outcomes.load(trained / "outcomes.npz"), Outcomes.load(tmp_path / "outcomes.npz")
    np.testing.assert_array_equal(first.kept, second.kept)
    assert first.seeds == second.seeds


def test_other_attacks_and_radii_fall_with_the_radius(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--attack",
        "{name: pgd, steps: 3}",
        "--attack",
        "{name: torchattacks, attack: FGSM}",
        "--epsilon",
        "1,0.25,4",
    ]
    assert run(["evaluate", str(trained / "epoch-00001.pt"), *words, "--output", str(tmp_path)]) == DONE
    printed = capsys.readouterr().out
    assert "pgd3-ce, worst view" in printed
    assert "[4/4] torchattacks.FGSM, raw (replicate 0)" not in printed  # two replicates: eight runs
    assert "[8/8] torchattacks.FGSM, raw (replicate 1)" in printed
    table = evaluation(tmp_path)
    assert list(table["robust_accuracy"]) == [0.0, 0.25, 1.0, 4.0]
    for rows in table.values():
        accuracies = [row["accuracy"] for row in rows.values()]
        assert accuracies == sorted(accuracies, reverse=True)
        assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows.values())
    assert table["robust_accuracy"][0.0]["accuracy"] > table["robust_accuracy"][4.0]["accuracy"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "epsilon-curves.html",
        "epsilon-curves.png",
        "evaluation.json",
        "outcomes.npz",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attack", "autoatack"], "robustness.attacks[0].name must be one of"),
        (["--attack", "{name: pgd"], "--attack must be valid YAML"),
        (["--epsilon", "0.5,x"], "robustness.epsilon[1] must be a number, got x"),
        (["--epsilon", ""], "robustness.epsilon must name at least one radius"),
        (["--set", "robustness.images=1000"], "robustness.images must be at most data.validation_size (60)"),
        (["--set", "model=cnn8"], "CHECKPOINT: model and loss must be those saved in"),
    ],
)
def test_what_cannot_be_is_one_line(
    trained: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(trained), *words, "--output", str(tmp_path / "out")]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_must_be_there_and_know_what_it_was_trained_with(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(tmp_path / "nothing")]) == WRONG_INPUT
    assert "CHECKPOINT must be a folder of checkpoints, one of them, or RUN/NUMBER" in capsys.readouterr().err
    (tmp_path / "alone" / "deep" / "in").mkdir(parents=True)
    lone = shutil.copy(trained / "epoch-00001.pt", tmp_path / "alone" / "deep" / "in")
    assert run(["evaluate", str(lone)]) == WRONG_INPUT
    assert "CHECKPOINT must lie below the sweep.yaml or beside the train.yaml" in capsys.readouterr().err
    (trained.parent / "broken").mkdir()
    shutil.copy(trained / "train.yaml", trained.parent / "broken")
    (trained.parent / "broken" / "epoch-00001.pt").write_bytes(b"broken")
    assert run(["evaluate", str(trained.parent / "broken")]) == WRONG_INPUT
    assert "CHECKPOINT: the checkpoint must be readable" in capsys.readouterr().err
