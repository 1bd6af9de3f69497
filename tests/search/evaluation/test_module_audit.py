"""The audit of anyone's torch module, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import trainables.audit
from search.cli.main import DONE, WRONG_INPUT, run
from search.evaluation import module_audit
from tests.search.evaluation.test_audit import SMALL
from trainables import files
from trainables.data.partition.test_openings import OPENINGS_FILE, read_openings
from trainables.data.splits import load_splits
from trainables.models.lenet5 import LeNet5
from trainables.settings import DataSettings

RESNET = "torchvision.models:resnet18"
HERE = "tests.search.evaluation.test_module_audit"
PER_CLASS = 20


def raises(num_classes: int) -> nn.Module:
    raise RuntimeError(f"no network for {num_classes} classes")


def seven() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 7))


def wide() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 10, 64), nn.Flatten())


def centred() -> dict[str, Any]:
    """Images that are already normalised, as no audit can attack them."""
    return {"train": (np.full((200, 1, 8, 8), -1.0, np.float32), np.arange(200) % 10)}


@pytest.fixture(scope="module", autouse=True)
def _small_profile() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainables.audit, "PROFILES", {"quick": SMALL})
        patched.setattr(module_audit, "AUDITED_IMAGES", {"quick": SMALL.images})
        yield


@pytest.fixture(scope="module")
def digits() -> DataSettings:
    return DataSettings.from_document({"name": "mnist5k"})


@pytest.fixture(scope="module")
def folder(digits: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as pictures of 16x16 pixels: ``test/CLASS`` and ``train/CLASS``."""
    root = tmp_path_factory.mktemp("pictures")
    images = digits.dataset.reader(None).read("train")
    for part, first in {"train": 0, "test": PER_CLASS}.items():
        for label in range(10):
            place = root / part / f"digit{label}"
            place.mkdir(parents=True)
            for index in np.flatnonzero(images.labels == label)[first : first + PER_CLASS]:
                picture = Image.fromarray(images.images[index, :, :, 0]).resize((16, 16))
                picture.convert("RGB").save(place / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of torchvision's network for ten classes."""
    path = tmp_path_factory.mktemp("resnet") / "resnet.pt"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def lenet(digits: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network trained on digits for a moment, in the checkpoint of a parallel training."""
    torch.manual_seed(0)
    model = LeNet5().build((1, 28, 28), 10)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    train = load_splits(digits)["train"]
    for rows in torch.randperm(len(train)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train.images[rows]), train.labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    path = tmp_path_factory.mktemp("lenet") / "lenet.pt"
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    return path


def document(output: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((output / "audit.json").read_text(encoding="utf-8"))
    return loaded


def test_a_torchvision_model_on_a_folder_of_pictures(
    folder: Path, resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [RESNET, "--weights", str(resnet), "--data", str(folder), "--epsilon", "8/255", "--norm", "linf"]
    assert run(["audit", *words, "--output", str(tmp_path)]) == DONE
    printed = " ".join(capsys.readouterr().out.split())
    assert f"60 of 200 test images of {folder}: 16x16 RGB, 10 classes" in printed
    assert "That is no more than chance" in printed
    written = document(tmp_path)
    assert (written["module"], written["checkpoint"], written["split"]) == (RESNET, str(resnet), "test")
    assert (written["images"], written["norm"], written["radius"]) == (60, "linf", 8 / 255)
    assert "resnet18 with resnet.pt" in (tmp_path / "audit.html").read_text(encoding="utf-8")
    images = torchvision.datasets.ImageFolder(str(folder / "test"), torchvision.transforms.ToTensor())
    module = torchvision.models.resnet18(num_classes=10).eval()
    module.load_state_dict(torch.load(resnet, weights_only=True))
    with torch.no_grad():
        expected = module(torch.stack([image for image, _ in images])).argmax(1)
    right = float((expected == torch.tensor(images.targets)).float().mean())
    assert abs(written["clean"]["accuracy"] - right) < 0.1


def test_a_trained_module_on_a_named_data_set(lenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trainables.models.lenet5:LeNet5", "--weights", str(lenet), "--data", "mnist5k", "--epsilon", "1.0"]
    assert run(["audit", *words, "--output", str(tmp_path)]) == DONE
    printed = capsys.readouterr().out
    flat = " ".join(printed.split())
    assert "60 of 500 test images of mnist5k, split off as for a sweep: 28x28 grey, 10 classes" in flat
    assert "no more than chance" not in flat
    written = document(tmp_path)
    [replicate] = written["replicates"]
    assert written["clean"]["accuracy"] > 0.8
    assert written["claimed_by"] == "audit"
    assert replicate["attack_claims"] == []
    assert f"Verdict (quick audit): {written['verdict']}. The robust accuracy by a usual evaluation" in flat
    for number in (written["clean"], written["verified"]):
        assert f"{100 * number['accuracy']:.1f} % ({100 * number['low']:.1f} to {100 * number['high']:.1f})" in flat
    single = {run["name"]: run for run in replicate["runs"]}
    for name, attack in single.items():
        assert name in flat
        if attack["accuracy"] is not None:
            assert written["verified"]["accuracy"] <= attack["accuracy"] <= written["clean"]["accuracy"]
    assert single["APGD, cross entropy, raw logits"]["accuracy"] is not None
    assert single["Square, without gradients"]["accuracy"] is None
    assert run(["audit", *words, "--output", str(tmp_path)]) == DONE
    assert "audited before" in capsys.readouterr().out
    assert run(["audit", *words, "--seed", "1", "--output", str(tmp_path)]) == DONE
    assert "audited before" not in capsys.readouterr().out


def test_test_images_are_seen_only_once_that_is_recorded(
    lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module_audit, "run_audit", interrupt)
    words = ["trainables.models.lenet5:LeNet5", "--weights", str(lenet), "--data", "mnist5k", "--epsilon", "1.0"]
    for times in ("1st", "2nd"):
        run(["audit", *words, "--output", str(tmp_path)])
        printed = " ".join(capsys.readouterr().out.split())
        assert f"The test split is opened for the {times} time (recorded in" in printed
        assert printed.index("is opened") < printed.index("Clean accuracy")
    first, second = read_openings(tmp_path)
    [model] = first["models"]
    assert model["checkpoint"] == str(lenet)
    assert model["sha256"] == second["models"][0]["sha256"] == files.sha256(lenet)
    assert (first["data"]["name"], first["robustness"]["epsilon"]) == ("mnist5k", 1.0)
    assert f"--weights {lenet}" in first["command"]

    run(["audit", *words, "--split", "validation", "--output", str(tmp_path / "validation")])
    assert "is opened" not in capsys.readouterr().out
    assert read_openings(tmp_path / "validation") == []

    (tmp_path / "closed" / OPENINGS_FILE).mkdir(parents=True)
    assert run(["audit", *words, "--output", str(tmp_path / "closed")]) == WRONG_INPUT
    caught = capsys.readouterr()
    assert "must be writable before the test split is opened" in caught.err
    assert "Clean accuracy" not in caught.out


def test_a_module_for_normalised_images_gets_them(
    lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The attacks see pixels in [0, 1], and the module what it was trained on."""
    shown: list[torch.Tensor] = []

    def stop(_: object, load: Any, *__: object) -> None:
        loaded = load()
        layers = loaded.replicates[0].model
        shown.extend([loaded.split.images, layers[0](loaded.split.images)])
        raise KeyboardInterrupt

    monkeypatch.setattr(module_audit, "run_audit", stop)
    words = ["trainables.models.lenet5:LeNet5", "--weights", str(lenet), "--data", "mnist5k", "--epsilon", "1"]
    run(["audit", *words, "--mean", "0.25", "--std", "0.5", "--output", str(tmp_path)])
    pixels, normalised = shown
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
    torch.testing.assert_close(normalised, (pixels - 0.25) / 0.5)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("parts", "data", "used"),
    [
        (["train", "test"], "", "60 of 200 test images of {root}: "),
        (["train", "val"], "", "60 of 200 validation images of {root}: "),
        (["train", "val", "test"], "", "60 of 200 test images of {root}: "),
        (["test"], "", "60 of 200 images of {root}/test: "),
        (["val", "test"], "", "60 of 200 images of {root}/test: "),
        (["val"], "", "60 of 200 images of {root}/val: "),
        (["val", "test"], "val", "60 of 200 images of {root}/val: "),
    ],
)
def test_what_is_used_of_a_folder_is_said(
    folder: Path,
    tmp_path: Path,
    parts: list[str],
    data: str,
    used: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for part in parts:
        (tmp_path / part).symlink_to(folder / "test", target_is_directory=True)
    monkeypatch.setattr(module_audit, "run_audit", interrupt)
    run(["audit", RESNET, "--data", str(tmp_path / data), "--epsilon", "1"])
    assert used.format(root=tmp_path) in " ".join(capsys.readouterr().out.split())


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_grey_images_are_rgb_for_a_module_that_takes_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes: list[torch.Size] = []

    def stop(_: object, load: Any, *__: object) -> None:
        shapes.append(load().split.images.shape)
        raise KeyboardInterrupt

    monkeypatch.setattr(module_audit, "run_audit", stop)
    for module in (RESNET, "trainables.models.lenet5:LeNet5"):
        run(["audit", module, "--data", "mnist5k", "--epsilon", "1", "--output", str(tmp_path)])
    assert [tuple(shape) for shape in shapes] == [(60, 3, 28, 28), (60, 1, 28, 28)]
    assert "they are given as RGB" in " ".join(capsys.readouterr().out.split())


def test_a_module_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from torch import nn\ndef small(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (tmp_path / "my_own_nets.py").write_text(code, encoding="utf-8")
    (tmp_path / "my_broken_nets.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(["audit", "my_own_nets:small", "--data", "mnist5k", "--epsilon", "1.5"]) == DONE
    assert "Written to runs/audited/small-mnist5k-test-l2-1.5" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "runs/audited/small-mnist5k-test-l2-1.5/audit.html").is_file()
    assert run(["audit", "my_broken_nets:small", "--data", "mnist5k", "--epsilon", "1.5"]) == WRONG_INPUT
    assert "got my_broken_nets:small (ZeroDivisionError: division by zero)" in capsys.readouterr().err


DIGITS = ["--data", "mnist5k", "--epsilon", "1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([RESNET, "--epsilon", "1"], "--data must be given for a module, got nothing"),
        ([RESNET, "--data", "mnist5k"], "--epsilon must be given for a module, got nothing"),
        ([RESNET, "--data", "mnist5k", "--epsilon", "0"], "--epsilon must be above 0, got 0"),
        ([RESNET, "--data", "mnist5k", "--epsilon", "8/0"], "--epsilon must be a number, got 8/0"),
        ([RESNET, "--data", "mnist5k", "--epsilon", "8", "--norm", "linf"], "--epsilon must be at most 1 for linf"),
        ([RESNET, "--data", "mnist6k", "--epsilon", "1"], "--data must be cifar10, fashion-mnist, mnist, mnist5k or a"),
        ([RESNET, *DIGITS, "--root", "nowhere", "--random", "3"], "--random must be left out for a module"),
        ([RESNET, *DIGITS, "--set", "train.epochs=3"], "--set must be left out for a module"),
        ([RESNET, *DIGITS, "--images", "59"], "--images must be at least 60 for this profile, got 59"),
        ([RESNET, *DIGITS, "--images", "501"], "--data must have 501 images, got mnist5k with 500 (test, split off"),
        ([RESNET, *DIGITS, "--mean", "0.5"], "--std must be 3 numbers above 0 with commas, got nothing"),
        ([RESNET, *DIGITS, "--std", "1,0,1"], "--mean must be 3 numbers with commas, got nothing"),
        ([RESNET, *DIGITS, "--mean", "a", "--std", "1"], "--mean must be 3 numbers with commas, got a"),
        (["nowhere_at_all:net", *DIGITS], "MODULE: name must be a module that can be imported, got nowhere_at_all:net"),
        (["torchvision.models:resnet", *DIGITS], "MODULE: name must be a class or function"),
        (["torchvision.models:resnet17", *DIGITS], "MODULE: name must be something in torchvision.models"),
        ([f"{HERE}:raises", *DIGITS], "(RuntimeError: no network for 10 classes)"),
        ([f"{HERE}:seven", *DIGITS], "model must return one logit for each of 10 classes"),
        ([f"{HERE}:wide", *DIGITS], "model must take images of shape 1x28x28"),
        ([RESNET, "--data", f"{HERE}:centred", "--epsilon", "1"], "values from -1 to -1; return floats in [0, 1]"),
        ([RESNET, *DIGITS, "--device", "gpu"], "Invalid value for '--device'"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", *words, "--output", str(tmp_path / "out")]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_module_that_is_not_audited_needs_no_options_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", str(tmp_path), "--epsilon", "1"]) == WRONG_INPUT
    assert "--epsilon must be left out for a run or checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--weights must be a file"),
        (b"<html>", "which cannot be read as one; save torch.save(model.state_dict(), FILE)"),
        ([torch.zeros(1)], "with a list; save"),
        ({"state_dict": {"weight": 3}}, "whose weight is a int; save"),
        (nn.Linear(1, 1), "which cannot be read as one"),
        ({"fc.bias": torch.zeros(1000)}, "got fc.bias of shape 1000 where the module has 10"),
        (
            {"fc.bias": torch.zeros(10), "head": torch.zeros(1)},
            "tensors missing (conv1.weight, bn1.weight, bn1.bias, ...)",
        ),
        ({"fc.bias": torch.zeros(10), "head": torch.zeros(1)}, "1 of its tensors unknown to it (head)"),
    ],
)
def test_a_file_without_fitting_weights_is_one_line(
    content: Any, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    words = [RESNET, "--weights", str(path), "--data", str(folder), "--epsilon", "1"]
    assert run(["audit", *words, "--output", str(tmp_path / "out")]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_weights_of_safetensors_are_to_be_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"")
    assert run(["audit", RESNET, "--weights", str(path), *DIGITS]) == WRONG_INPUT
    assert f"torch.save(safetensors.torch.load_file('{path}'), '{tmp_path / 'net.pt'}')" in capsys.readouterr().err
