"""Labelled images as arrays, without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8 | np.float32]

# ITU-R 601-2, as Pillow computes grey from red, green and blue: fractions of 65,536, rounded.
_LUMA = (19595, 38470, 7471)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, their labels, and how many classes there are."""

    images: Pixels  # uint8, or float32 in [0, 1]; (n, h, w, c)
    labels: Indices  # int64 in [0, classes), (n,)
    classes: int  # of the data set, at least 2

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ValueError(f"images must have shape (n, h, w, c), got {self.images.shape}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"there must be one label per image, got {len(self.images)} and {len(self.labels)}")
        if self.classes < 2:
            raise ValueError(f"there must be at least 2 classes, got {self.classes}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise ValueError(f"labels must be in [0, {self.classes}), got {self.labels.min()} to {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Indices) -> LabelledImages:
        return replace(self, images=self.images[index], labels=self.labels[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def digest(self) -> str:
        """SHA-256 of images and labels, in hexadecimal: equal arrays have equal digests."""
        sha = hashlib.sha256()
        kind = "" if self.images.dtype == np.uint8 else self.images.dtype.str
        sha.update(f"{kind}{self.images.shape}".encode())
        sha.update(np.ascontiguousarray(self.images).data)
        sha.update(np.ascontiguousarray(self.labels, "<i8").data)
        return sha.hexdigest()

    def resized(self, size: int | None) -> LabelledImages:
        """The images as squares of ``size`` pixels a side, antialiased; unchanged if ``size`` is None."""
        if size is None or self.shape[:2] == (size, size):
            return self
        return replace(self, images=np.stack([_resize(image, size) for image in self.images]))

    def with_channels(self, channels: int) -> LabelledImages:
        """Grey images as colour ones (three equal channels), or colour images as grey ones (their luma)."""
        if self.shape[2] == channels:
            return self
        if self.shape[2] == 1:
            return replace(self, images=np.repeat(self.images, channels, axis=3))
        if (self.shape[2], channels) != (3, 1):
            raise ValueError(f"data must have images of {channels} channels, got some of {self.shape[2]}")
        grey: Pixels
        if self.images.dtype == np.uint8:
            grey = (self.images.astype(np.int64) @ np.array(_LUMA) + 32768 >> 16).astype(np.uint8)
        else:
            grey = (self.images @ (np.array(_LUMA, np.float32) / np.float32(65536))).astype(np.float32)
        return replace(self, images=grey[..., np.newaxis])


def join(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """One after the other. Their images must have one shape."""
    if first.shape != second.shape:
        raise ValueError(
            f"data must have images of one shape, got {first.shape} and {second.shape} (height, width, channels); "
            "set data.size"
        )
    images = np.concatenate([first.images, second.images])
    return replace(first, images=images, labels=np.concatenate([first.labels, second.labels]))


def _resize(image: Pixels, size: int) -> Pixels:
    """One image (h, w, c). Each channel is resized on its own, since Pillow knows floats in one channel only."""
    from PIL import Image

    channels = [Image.fromarray(image[..., channel]) for channel in range(image.shape[2])]
    resized = [np.asarray(channel.resize((size, size), Image.Resampling.BILINEAR)) for channel in channels]
    pixels = np.stack(resized, axis=2)
    return np.clip(pixels, 0, 1) if image.dtype == np.float32 else pixels
