"""Data sets, one per file: where it is found, how it is read and downloaded, its settings and its source.

``partition`` says which image belongs to which split, without torch. ``splits`` has the splits as tensors. Test images
are read by ``partition.test_images`` alone. No search imports it, except to compute a digest before the first trial.
"""

from trainables.data._base import DataMissing, Dataset, Part, Reader
from trainables.data._files import CACHE_VARIABLE, cache_folder
from trainables.data._images import LabelledImages

__all__ = ["CACHE_VARIABLE", "DataMissing", "Dataset", "LabelledImages", "Part", "Reader", "cache_folder"]
