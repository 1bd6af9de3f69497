"""Reads a sample of a split for a model that was trained elsewhere.

The images may be test images, so an import contract restricts who may import this. The model sees no test image before
the opening of the split is recorded.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from trainables.data import LabelledImages, Part, Reader
from trainables.data._images import Indices
from trainables.data.partition.pool import deal
from trainables.settings import DataSettings

# ``test`` and ``validation`` as a sweep has them; ``all`` of a data set that does not come in parts.
SampledSplit = Literal["test", "validation", "all"]


def read_sample(settings: DataSettings, reader: Reader, split: SampledSplit, most: int) -> tuple[LabelledImages, int]:
    """The first images of a split, ``most`` at the most, and how many it has. Of pictures, only these are decoded.

    They are in a sweep's order, whose every prefix is stratified. Of a data set without validation images of its own,
    the split ``validation`` is all that a sweep would not hold out as test images.

    Raises:
        ValueError: A file is broken, or the pictures have different sizes.
    """
    total = 0

    def choose(labels: Indices) -> Indices:
        nonlocal total
        held_out, others = deal(settings, reader, part, labels)
        indices = {"test": held_out, "validation": others, "all": np.concatenate([held_out, others])}[split]
        total = len(indices)
        return indices[:most]

    own: list[Part] = [part for part in reader.parts if part == split]
    part = own[0] if own else "train"
    return reader.select(part, choose, settings.size), total
