from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.sources import Prepared, Source, prepare
from trainables.data.splits import load_splits
from trainables.data.stratification import split_indices, stratified_order
from trainables.settings import DataSettings


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    seed=st.integers(0, 100),
    fraction=st.floats(0, 1),
)
def test_every_prefix_of_the_order_is_stratified(labels: list[int], seed: int, fraction: float) -> None:
    array = np.asarray(labels)
    order = stratified_order(array, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))
    length = int(fraction * len(labels))
    shares = np.bincount(array, minlength=5) / len(labels)
    counts = np.bincount(array[order[:length]], minlength=5)
    classes = len(set(labels))
    assert (np.abs(counts - shares * length) <= classes).all()


def test_a_rare_class_is_spread_over_the_whole_order() -> None:
    labels = np.asarray([0] * 90 + [1] * 30)
    order = stratified_order(labels, np.random.default_rng(0))
    rare = labels[order].cumsum()
    assert np.abs(rare - np.arange(1, 121) / 4).max() <= 1


def prepared(n: int = 100, test: int | None = None) -> Prepared:
    def source(size: int) -> Source:
        return Source(np.zeros((size, 2, 2, 1), np.uint8), np.arange(size) % 10)

    return Prepared("mnist5k", source(n), None if test is None else source(test), "memory")


@given(seed=st.integers(0, 2**32 - 1), test=st.integers(1, 40), validation=st.integers(1, 40), train=st.integers(1, 20))
def test_splits_share_no_image_and_have_their_sizes(seed: int, test: int, validation: int, train: int) -> None:
    settings = DataSettings(seed=seed, test_size=test, validation_size=validation, train_size=train)
    splits = split_indices(prepared(), settings)
    assert {name: len(indices) for name, indices in splits.items()} == {
        "test": test,
        "validation": validation,
        "train": train,
    }
    assert len(set(np.concatenate(list(splits.values())).tolist())) == test + validation + train


def test_who_is_held_out_depends_on_no_later_split() -> None:
    first = split_indices(prepared(), DataSettings(test_size=20, validation_size=30))
    second = split_indices(prepared(), DataSettings(test_size=20, validation_size=30, train_size=5))
    third = split_indices(prepared(), DataSettings(test_size=20, validation_size=10))
    np.testing.assert_array_equal(first["validation"], second["validation"])
    np.testing.assert_array_equal(first["train"][:5], second["train"])
    np.testing.assert_array_equal(first["test"], third["test"])
    np.testing.assert_array_equal(first["validation"][:10], third["validation"])


def test_the_seed_chooses_the_split() -> None:
    def train(seed: int) -> list[int]:
        return split_indices(prepared(), DataSettings(test_size=20, validation_size=30, seed=seed))["train"].tolist()

    assert train(0) == train(0) != train(1)


def test_official_test_images_stay_apart() -> None:
    splits = split_indices(prepared(test=30), DataSettings(validation_size=40))
    assert len(splits["train"]) == 60
    assert sorted(splits["test"].tolist()) == list(range(30))


def test_splits_are_pixels_in_the_unit_interval_on_the_device() -> None:
    settings = DataSettings(train_size=50, validation_size=20, seed=7)
    splits = load_splits(settings)
    assert set(splits) == {"train", "validation"}
    indices = split_indices(prepare(settings), settings)
    source = prepare(settings).training
    split = splits["train"]
    assert split.images.shape == (50, 1, 28, 28)
    assert split.images.dtype == torch.float32
    assert split.images.is_contiguous(memory_format=torch.channels_last)
    assert split.images.min() == 0
    assert split.images.max() == 1
    expected = source.images[indices["train"]].astype(np.float32) / 255
    np.testing.assert_array_equal(split.images.numpy(), expected.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(split.labels.numpy(), source.labels[indices["train"]])
    assert split.labels.bincount().tolist() == [5] * 10
    assert len(split[:7]) == 7


def test_the_test_split_is_made_only_when_named() -> None:
    assert set(load_splits(DataSettings(), names=("test",))) == {"test"}
    assert len(load_splits(DataSettings(), names=("test",))["test"]) == 500


def test_no_split_is_empty() -> None:
    with pytest.raises(ValueError, match=r"data.validation_size must be at most 49"):
        split_indices(prepared(), DataSettings(test_size=50, validation_size=50))
