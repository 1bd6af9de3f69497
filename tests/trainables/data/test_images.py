from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trainables.data import LabelledImages
from trainables.data._images import join


def some(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> LabelledImages:
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=shape, dtype=np.uint8) if dtype == "uint8" else rng.random(shape, np.float32)
    return LabelledImages(images, np.arange(shape[0]) % 3, 3)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), [0, 1], 3, "shape"),
        (np.zeros((2, 3, 3, 1), np.uint8), [0], 3, "one label per image, got 2 and 1"),
        (np.zeros((2, 3, 3, 1), np.uint8), [0, 3], 3, r"labels must be in \[0, 3\), got 0 to 3"),
        (np.zeros((2, 3, 3, 1), np.uint8), [0, 0], 1, "at least 2 classes, got 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(images: object, labels: list[int], classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledImages(images, np.array(labels), classes)  # type: ignore[arg-type]


def test_colour_becomes_grey_as_in_pillow_and_grey_three_equal_channels() -> None:
    colour = some((5, 7, 6, 3))
    grey = colour.with_channels(1)
    for image, expected in zip(grey.images, colour.images, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.fromarray(expected).convert("L")))
    again = grey.with_channels(3)
    assert again.shape == (7, 6, 3)
    for channel in range(3):
        np.testing.assert_array_equal(again.images[..., channel], grey.images[..., 0])
    assert colour.with_channels(3) is colour
    floats = some((2, 3, 3, 3), "float32").with_channels(1)
    assert floats.images.dtype == np.float32
    with pytest.raises(ValueError, match="data must have images of 3 channels, got some of 4"):
        some((2, 3, 3, 4)).with_channels(3)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resizing_averages_what_it_merges(dtype: str) -> None:
    """A checkerboard of single pixels, which a resize without antialiasing would turn black or white."""
    board = np.indices((32, 32)).sum(axis=0) % 2
    images = np.repeat(board[None, :, :, None], 3, axis=3).astype(dtype) * (255 if dtype == "uint8" else 1)
    resized = LabelledImages(images, np.zeros(1, np.int64), 2).resized(8)
    assert resized.shape == (8, 8, 3)
    assert resized.images.dtype == dtype
    np.testing.assert_allclose(resized.images / images.max(), 0.5, atol=0.1)
    assert resized.resized(8) is resized.resized(None) is resized


def test_shapes_that_differ_are_not_joined() -> None:
    assert len(join(some((2, 3, 3, 1)), some((4, 3, 3, 1)))) == 6
    with pytest.raises(ValueError, match=r"data must have images of one shape, got \(3, 3, 1\) and \(4, 3, 1\)"):
        join(some((2, 3, 3, 1)), some((2, 4, 3, 1)))


def test_the_digest_depends_on_every_value_and_on_the_type() -> None:
    images = some((3, 2, 2, 1))
    changed = images.images.copy()
    changed[-1, -1, -1, -1] ^= 1
    others = [
        LabelledImages(changed, images.labels, 3),
        LabelledImages(images.images, images.labels[::-1], 3),
        LabelledImages(images.images.astype(np.float32), images.labels, 3),
        images[:2],
    ]
    digests = {each.digest() for each in (images, *others)}
    assert len(digests) == 5
    assert images.digest() == LabelledImages(images.images.copy(), images.labels.copy(), 4).digest()
