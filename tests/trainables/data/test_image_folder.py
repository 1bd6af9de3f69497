from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from tests.trainables.data.examples import data, write_pictures
from trainables.data import CACHE_VARIABLE, DataMissing, image_folder
from trainables.data.partition.digests import prepare
from trainables.data.partition.pool import read_pool
from trainables.data.partition.test_images import read_test
from trainables.data.splits import load_splits

COUNTS = {"bee": 20, "ant": 40, "cat": 60}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def settings(root: Path, **others: Any) -> Any:
    return data("image-folder", root=str(root), **{"validation_size": 30, **others})


def bytes_of(images: Any) -> set[bytes]:
    return {image.tobytes() for image in images.images}


def test_files_and_labels_are_torchvisions(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", COUNTS)
    (tmp_path / "data" / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "data" / "cat" / "more").mkdir()
    (tmp_path / "data" / "cat" / "0.png").rename(tmp_path / "data" / "cat" / "more" / "0.PNG")
    ours = settings(tmp_path / "data").dataset.reader(str(tmp_path / "data")).read("train")
    theirs = torchvision.datasets.ImageFolder(str(tmp_path / "data"))
    assert ours.labels.tolist() == theirs.targets
    assert ours.classes == len(theirs.classes)
    for image, (expected, _) in zip(ours.images, theirs, strict=True):
        np.testing.assert_array_equal(image, np.asarray(expected))
    assert image_folder.EXTENSIONS == torchvision.datasets.folder.IMG_EXTENSIONS


def test_without_split_folders_all_images_are_split_stratified(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", COUNTS)
    configured = settings(tmp_path / "data")
    prepared = prepare(configured, test=True)
    assert prepared.sizes == {"test": 12, "validation": 30, "train": 78}
    assert prepared.classes == 3
    splits = load_splits(configured)
    assert splits["validation"].labels.bincount().tolist() == [10, 5, 15]
    assert splits["train"].images.shape == (78, 3, 6, 8)
    test, pool = bytes_of(read_test(configured)), bytes_of(read_pool(configured))
    assert (len(test), len(pool), len(test | pool)) == (12, 108, 120)
    assert test != bytes_of(read_test(settings(tmp_path / "data", seed=1)))


@pytest.mark.parametrize("missing", [[], ["val"], ["test"], ["val", "test"]])
def test_split_folders_are_the_splits_and_what_is_missing_is_split_off(tmp_path: Path, missing: list[str]) -> None:
    for seed, (name, count) in enumerate({"train": 30, "val": 10, "test": 4}.items()):
        if name not in missing:
            write_pictures(tmp_path / name, dict.fromkeys(COUNTS, count), seed=seed)
    configured = settings(tmp_path)
    prepared = prepare(configured, test=True)
    test = 9 if "test" in missing else 12
    assert prepared.sizes["test"] == test
    assert prepared.sizes["validation"] == 30
    assert prepared.sizes["train"] == 90 - (30 if "val" in missing else 0) - (9 if "test" in missing else 0)
    reader = configured.dataset.reader(str(tmp_path))
    pool = read_pool(configured)
    assert (bytes_of(read_test(configured)) == bytes_of(reader.read("test"))) if "test" not in missing else True
    assert (bytes_of(pool[:30]) == bytes_of(reader.read("validation"))) if "val" not in missing else True
    assert not bytes_of(read_test(configured)) & bytes_of(pool)


def test_no_test_picture_is_opened_for_the_other_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from a test folder nor among the others, with or without a cache."""
    for name in ("train", "test"):
        write_pictures(tmp_path / "split" / name, COUNTS)
    write_pictures(tmp_path / "whole", COUNTS)
    opened: list[str] = []
    decode = image_folder._decode

    def watched(path: Path, size: int | None) -> Any:
        opened.append(str(path))
        return decode(path, size)

    monkeypatch.setattr(image_folder, "_decode", watched)
    for root in ("split", "whole"):
        configured = settings(tmp_path / root)
        opened.clear()
        read_pool(configured)
        seen = set(opened)
        opened.clear()
        read_test(configured)
        assert not seen & set(opened)
        assert len(seen) + len(set(opened)) == (240 if root == "split" else 120)
        opened.clear()
        load_splits(configured)
        assert opened == []  # from the cache


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", COUNTS)
    before = read_pool(settings(tmp_path / "data")).digest()
    assert read_pool(settings(tmp_path / "data")).digest() == before
    write_pictures(tmp_path / "data", {"dog": 5})
    assert read_pool(settings(tmp_path / "data")).classes == 4


def test_size_resizes_and_without_it_all_images_must_share_one(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", {"a": 40})
    write_pictures(tmp_path / "data", {"b": 40}, size=(20, 10))
    assert read_pool(settings(tmp_path / "data", size=5)).shape == (5, 5, 3)
    with pytest.raises(
        ValueError, match=r"data.size must be set for images of different sizes, got .*; set for ex"
    ) as e:
        read_pool(settings(tmp_path / "data"))
    assert "with 8x6 pixels" in str(e.value)
    assert "with 20x10" in str(e.value)


def test_grey_images_have_one_channel_unless_one_is_in_colour(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", COUNTS, mode="L")
    assert read_pool(settings(tmp_path / "data")).shape == (6, 8, 1)
    grey = read_pool(settings(tmp_path / "data")).images[0]
    write_pictures(tmp_path / "data", {"dog": 10})
    pool = read_pool(settings(tmp_path / "data"))
    assert pool.shape == (6, 8, 3)
    assert any((image == grey).all() for image in pool.images)
    assert read_test(settings(tmp_path / "data")).shape == (6, 8, 3)


def test_test_images_take_the_channels_that_models_are_trained_on(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", COUNTS, mode="L")
    write_pictures(tmp_path / "test", COUNTS)
    assert read_test(settings(tmp_path)).shape == read_pool(settings(tmp_path)).shape == (6, 8, 1)
    write_pictures(tmp_path / "val", COUNTS)
    assert read_test(settings(tmp_path)).shape == read_pool(settings(tmp_path)).shape == (6, 8, 3)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    def message(root: Path | None) -> str:
        with pytest.raises(ValueError, match=r"^data\.root must ") as error:
            read_pool(data("image-folder", root=None if root is None else str(root), validation_size=2))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "got None" in message(None)
    with pytest.raises(DataMissing):
        read_pool(settings(tmp_path / "nowhere"))
    (tmp_path / "empty" / "train").mkdir(parents=True)
    assert "hold one folder per class" in message(tmp_path / "empty")
    write_pictures(tmp_path / "empty" / "train", {"a": 0, "b": 3})
    assert "have pictures of every class, got none in" in message(tmp_path / "empty")
    write_pictures(tmp_path / "other" / "train", {"a": 3, "b": 3})
    write_pictures(tmp_path / "other" / "val", {"a": 3, "c": 3})
    assert "the same classes in every split" in message(tmp_path / "other")
    write_pictures(tmp_path / "broken", {"a": 5, "b": 5})
    for path in (tmp_path / "broken").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    assert "hold readable pictures" in message(tmp_path / "broken")
    write_pictures(tmp_path / "deep", {"a": 5, "b": 5})
    for path in (tmp_path / "deep").rglob("*.png"):
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    assert "only 8 bits per channel are supported" in message(tmp_path / "deep")
