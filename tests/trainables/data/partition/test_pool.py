from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainables.data.examples import data as make_data
from tests.trainables.data.examples import write_idx
from trainables.data import CACHE_VARIABLE, LabelledImages, mnist5k
from trainables.data._official import IDX_FILES
from trainables.data.partition.pool import read_pool, stratified_order
from trainables.data.partition.test_images import read_test
from trainables.data.splits import load_splits
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


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred images in place of the 5,000, each of one colour of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    (tmp_path / "file").touch()  # nothing can be cached there
    images = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    monkeypatch.setattr(mnist5k, "_parse", lambda: LabelledImages(images, np.arange(100) % 10, 10))


def members(source: LabelledImages) -> list[int]:
    """Which of the hundred."""
    return source.images[:, 0, 0, 0].tolist()


@pytest.mark.usefixtures("digits")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 2**32 - 1), test=st.integers(1, 40), validation=st.integers(1, 40), train=st.integers(1, 20))
def test_splits_share_no_image_and_have_their_sizes(seed: int, test: int, validation: int, train: int) -> None:
    data = DataSettings(seed=seed, test_size=test, validation_size=validation, train_size=train)
    pool, held_out = members(read_pool(data)), members(read_test(data))
    assert (len(held_out), len(pool)) == (test, validation + train)
    assert len({*pool, *held_out}) == test + validation + train


@pytest.mark.usefixtures("digits")
def test_who_is_held_out_depends_on_no_later_split() -> None:
    first = DataSettings(test_size=20, validation_size=30)
    second = DataSettings(test_size=20, validation_size=30, train_size=5)
    third = DataSettings(test_size=20, validation_size=10)
    assert members(read_pool(first))[:35] == members(read_pool(second))
    assert members(read_test(first)) == members(read_test(third))
    assert members(read_pool(first)) == members(read_pool(third))


@pytest.mark.usefixtures("digits")
def test_the_seed_chooses_the_split() -> None:
    def pool(seed: int) -> list[int]:
        return members(read_pool(DataSettings(test_size=20, validation_size=30, seed=seed)))

    assert pool(0) == pool(0) != pool(1)


def test_official_test_images_stay_apart(tmp_path: Path) -> None:
    arrays = write_idx(tmp_path / "data", packed=False)
    data = make_data("mnist", root=str(tmp_path / "data"), validation_size=10)
    for source, file in ((read_pool(data), IDX_FILES[0]), (read_test(data), IDX_FILES[2])):
        assert {image.tobytes() for image in source.images} == {image.tobytes() for image in arrays[file]}


def test_splits_are_pixels_in_the_unit_interval_on_the_device() -> None:
    data = DataSettings(train_size=50, validation_size=20, seed=7)
    splits = load_splits(data)
    assert set(splits) == {"train", "validation"}
    source = read_pool(data)
    split = splits["train"]
    assert split.images.shape == (50, 1, 28, 28)
    assert split.images.dtype == torch.float32
    assert split.images.is_contiguous(memory_format=torch.channels_last)
    assert split.images.min() == 0
    assert split.images.max() == 1
    expected = source.images[20:].astype(np.float32) / 255
    np.testing.assert_array_equal(split.images.numpy(), expected.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(split.labels.numpy(), source.labels[20:])
    assert split.labels.bincount().tolist() == [5] * 10
    assert len(split[:7]) == 7
    assert split.classes == split[:1].classes == 10


@pytest.mark.usefixtures("digits")
def test_no_split_is_empty() -> None:
    with pytest.raises(ValueError, match=r"data.validation_size must be at most 49"):
        read_pool(DataSettings(test_size=50, validation_size=50))
