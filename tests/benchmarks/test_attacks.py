"""The attacks' benchmark: both sides attack the same images, and it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.benchmarks import attacks
from tests.benchmarks.attacks import CONTESTS, MOMENTS, Case, Contest, compare, curve, main, table
from tests.trainables.victims import digits, trained
from trainables.attacks.pgd import PGD
from trainables.data.splits import Split


@pytest.fixture(autouse=True)
def _small_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the reference models, which take seconds to train."""
    monkeypatch.setattr(attacks, "reference_model", lambda _, loss: (trained(loss), Split(*digits(64))))


def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "result.json"
    assert main(["--images", "12", "--repeats", "1", "--json", str(output)]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    assert {"processor", "torch", "torchattacks", "foolbox", "threads"} <= set(report["environment"])
    assert len(report["results"]) == sum(len(contest.cases) for contest in CONTESTS)
    for result in report["results"]:
        assert 0 < result["images"] <= 12
        assert result["ratio"] == result["ratios"][0] > 0
        assert len(result["standing"]) == len(MOMENTS)
        assert result["forward"][0] >= 12
    assert "n = " in capsys.readouterr().out


def test_one_attack_and_one_library_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--images", "4", "--repeats", "1", "--only", "deepfool", "--against", "foolbox"]) == 0
    printed = capsys.readouterr().out
    assert "deepfool against foolbox" in printed
    assert "torchattacks.DeepFool" not in printed
    assert "pgd50" not in printed
    with pytest.raises(SystemExit):
        main(["--only", "deepfol"])
    assert "invalid choice: 'deepfol'" in capsys.readouterr().err


def test_two_equal_sides_find_the_same_with_the_same_passes() -> None:
    def same(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float) -> torch.Tensor:
        return PGD(steps=5)(model, images, labels, radius=epsilon).adversarial

    contest = Contest("pgd", "itself", lambda: PGD(steps=5), same, "everything", 1.0, ())
    result = compare(contest, Case("sce", "raw", 0.35), 64, 2)
    assert result.accuracy[0] == result.accuracy[1]
    assert 0 < result.accuracy[0] < 1
    assert result.norm is not None
    assert result.norm[0] == pytest.approx(result.norm[1], rel=1e-4)
    assert result.forward[0] == result.forward[1]
    assert len(result.ratios) == 2
    fast, slow = (replace(result, ratios=(ratio, 1.0, ratio)) for ratio in (2.0, 0.5))
    assert "2.0 times as fast (median of 3, 1.0 to 2.0; goal 1 reached)" in table([fast])
    assert "0.5 times as fast (median of 3, 0.5 to 1.0; goal 1 not reached)" in table([slow])


def test_the_curve_is_the_share_standing_after_each_step() -> None:
    images, labels = digits(64)

    def run(attack: PGD) -> None:
        attack(trained(), images, labels, radius=0.35)

    standing = curve(PGD(steps=50), run)
    assert list(standing) == sorted(standing, reverse=True)
    with torch.no_grad():
        attacked = int((trained()(images).argmax(1) == labels).sum())
    kept = int(PGD(steps=50)(trained(), images, labels, radius=0.35).kept.sum())
    assert standing[-1] == pytest.approx(kept / attacked)
    assert standing[0] > standing[-1]
