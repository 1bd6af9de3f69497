"""The splits as tensors on a device, and the augmentation of a batch. Imports torch."""

from trainables.data.splits.augmentation import MOST_SHIFT, shift_and_flip
from trainables.data.splits.tensors import Split, load_splits, to_device

__all__ = ["MOST_SHIFT", "Split", "load_splits", "shift_and_flip", "to_device"]
