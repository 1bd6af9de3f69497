"""Three kinds of glyphs, drawn with noise: 1 x 20 x 20 images."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = 20


def glyphs(images: int = 600, noise: float = 0.15, seed: int = 0) -> dict[str, Any]:
    """Discs, crosses and bars of different sizes at different places.

    Args:
        images: How many, a third of each kind.
        noise: Standard deviation of the noise.
        seed: Seed of all random draws.

    Returns:
        One split, ``train``, as images (n, h, w, c) in bytes and labels (n,), and the number of classes.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    pictures = np.stack([_picture(label, rng) for label in labels]) + rng.normal(0, noise, (images, SIZE, SIZE))
    pixels = np.clip(255 * pictures, 0, 255).astype(np.uint8)[..., np.newaxis]
    return {"train": (pixels, labels.astype(np.int64)), "classes": 3}


def _picture(label: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - rng.uniform(7.5, 11.5, (2, 1, 1))
    radius = rng.uniform(4.0, 6.0)
    inside = np.maximum(abs(x), abs(y)) < radius
    disc = x**2 + y**2 < radius**2
    cross = inside & ((abs(x) < 1.5) | (abs(y) < 1.5))
    bars = inside & (np.floor(x / 2.0) % 2 == 0)
    return 0.8 * (disc, cross, bars)[label]
