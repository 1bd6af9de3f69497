from __future__ import annotations

import json

import pytest
import torch

from tests.benchmarks import gpu


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == gpu.NO_GPU + "\n"


def check(output: str) -> None:
    *lines, last = output.splitlines()
    assert "training, images/s" in "\n".join(lines)
    report = json.loads(last)
    assert report["environment"]["torch"] == torch.__version__
    assert [(m["model"], m["precision"]) for m in report["measurements"]] == [
        ("lenet5", "fp32"),
        ("resnet32", "fp32"),
        ("resnet32", "bf16"),
    ]
    for measurement in report["measurements"]:
        assert measurement["train_images_per_second"] > 0
        assert measurement["attack_gradients_per_second"] >= 0
        assert measurement["loss_difference"] < (1e-3 if measurement["precision"] == "fp32" else 0.05)
        assert measurement["kept_agreement"] >= 0.9


@pytest.mark.slow
def test_the_benchmark_runs_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "--tiny"]) == 0
    output = capsys.readouterr().out
    check(output)
    report = json.loads(output.splitlines()[-1])
    assert {m["loss_difference"] for m in report["measurements"]} == {0.0}
    assert {m["kept_agreement"] for m in report["measurements"]} == {1.0}


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--tiny"]) == 0
    check(capsys.readouterr().out)
