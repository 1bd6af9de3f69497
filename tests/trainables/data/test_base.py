"""A user's own data set: a function, or a class, that is given by its import path."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.data.examples import data
from trainables.data import Dataset
from trainables.data.partition.digests import prepare
from trainables.data.partition.pool import read_pool
from trainables.data.partition.test_images import read_test
from trainables.data.splits import load_splits

MODULE = "users_own_data"
Own = Callable[[Any], str]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Own:
    """Makes something a member of a module, and returns its import path."""
    module = types.ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)

    def add(factory: Any) -> str:
        factory.__module__ = MODULE
        setattr(module, factory.__name__, factory)
        return f"{MODULE}:{factory.__name__}"

    return add


def pixels(count: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(count, 20, 16, 1), dtype=np.uint8), np.arange(count) % 3


def test_a_function_gets_its_settings_and_root_and_what_it_lacks_is_split_off(own: Own) -> None:
    calls = []

    def blobs(count: int, root: str = "nowhere") -> dict[str, Any]:
        calls.append((count, root))
        return {"train": pixels(count)}

    name = own(blobs)
    settings = data(name, count=60, root="somewhere", validation_size=12)
    assert settings.name == name
    assert data(**settings.to_document()) == settings
    prepared = prepare(settings, test=True)
    assert prepared.sizes == {"test": 6, "validation": 12, "train": 42}
    assert prepared.classes == 3
    splits = load_splits(settings)
    assert {split.classes for split in splits.values()} == {3}
    assert splits["train"].images.shape == (42, 1, 20, 16)
    assert splits["validation"].labels.bincount().tolist() == [4, 4, 4]
    seen = {image.tobytes() for each in (read_pool(settings), read_test(settings)) for image in each.images}
    assert seen == {image.tobytes() for image in pixels(60)[0]}
    assert set(calls) == {(60, "somewhere")}
    data(name, count=60, validation_size=12).dataset.reader(None)
    assert calls[-1] == (60, "nowhere")


def test_parts_of_its_own_are_the_splits(own: Own) -> None:
    def parts() -> dict[str, Any]:
        return {"train": pixels(30), "validation": pixels(9, 1), "test": pixels(6, 2), "classes": ["a", "b", "c", "d"]}

    settings = data(own(parts), validation_size=9)
    prepared = prepare(settings, test=True)
    assert (prepared.sizes, prepared.classes) == ({"test": 6, "validation": 9, "train": 30}, 4)
    pool = read_pool(settings)
    for images, seed in ((pool[:9], 1), (pool[9:], 0), (read_test(settings), 2)):
        assert {image.tobytes() for image in images.images} == {
            image.tobytes() for image in pixels(len(images), seed)[0]
        }
    with pytest.raises(ValueError, match=r"data.validation_size must be at most 9 for"):
        read_pool(data(own(parts), validation_size=10))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_floats_reach_the_model_exactly(own: Own, kind: str) -> None:
    """Values between two bytes: rounding to bytes would change them by up to 1/510."""
    images = np.random.default_rng(0).random((40, 2, 5, 4), np.float32)
    labels = np.arange(40) % 2

    def floats() -> dict[str, Any]:
        both = (images, labels) if kind == "numpy" else (torch.from_numpy(images), torch.from_numpy(labels))
        return {"train": both}

    splits = load_splits(data(own(floats), validation_size=10, test_size=5))
    known = {image.tobytes() for image in images}
    for split in splits.values():
        assert split.images.dtype == torch.float32
        assert {image.contiguous().numpy().tobytes() for image in split.images} <= known


def test_a_class_of_the_users_own(own: Own) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Blobs(Dataset):
        count: int = 30

        def load(self, root: str | None) -> dict[str, Any]:
            del root
            return {"train": pixels(self.count)}

    settings = data(own(Blobs), count=50, validation_size=10)
    assert prepare(settings, test=False).sizes == {"validation": 10, "train": 35}
    assert settings.to_document()["count"] == 50
    with pytest.raises(ValueError, match=r"coun must be a setting of .*, got 5; did you mean count"):
        data(f"{MODULE}:Blobs", coun=5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be a factory that returns a mapping, got list from"),
        ({"trian": pixels(4)}, r"returns train, validation, test, classes, got trian from .*; did you mean train"),
        ({"test": pixels(4)}, "be a data set with a part named train, got test from .*; add it"),
        ({"train": 3}, r"whose train is no pair of arrays; return \(images, labels\)"),
        ({"train": (pixels(4)[0][..., 0], [0, 1, 2, 0])}, r"has images of shape \(4, 20, 16\); return \(n, h, w, c\)"),
        ({"train": (pixels(4)[0], [0, 1])}, r"has labels of shape \(2,\) and type int64; return 4 whole numbers"),
        ({"train": (pixels(4)[0], [0.0, 1.0, 0.0, 1.0])}, "and type float64; return 4 whole numbers"),
        ({"train": (pixels(4)[0].astype(int), [0, 1, 2, 0])}, "has images of type int64; return uint8, or floats"),
        ({"train": (pixels(4)[0] / 1.0, [0, 1, 2, 0])}, r"has values from 0 to 255; return floats in \[0, 1\]"),
        ({"train": (np.full((4, 1, 2, 2), np.nan), [0, 1, 2, 0])}, "has values from nan to nan"),
        ({"train": pixels(4), "classes": 2}, r"labels must be in \[0, 2\), got 0 to 2"),
    ],
)
def test_what_a_function_must_return_is_said_in_one_line(own: Own, content: Any, message: str) -> None:
    def bad() -> Any:
        return content

    with pytest.raises(ValueError, match=message) as error:
        data(own(bad)).dataset.reader(None)
    assert str(error.value).startswith("data.name must be ")
    assert "\n" not in str(error.value)


def test_a_function_that_fails_or_takes_no_root_is_named(own: Own) -> None:
    def fails(count: int) -> Any:
        raise OSError(f"no {count} images")

    settings = data(own(fails), count=3)
    with pytest.raises(ValueError, match=r"data.name must be a factory that can be called, .*OSError: no 3 images"):
        settings.dataset.reader(None)
    with pytest.raises(ValueError, match=r"data.root must be left out for .*fails, which has no argument root, got /x"):
        settings.dataset.reader("/x")
    with pytest.raises(ValueError, match=r"cont must be an argument of .*; did you mean count"):
        data(own(fails), cont=3)
