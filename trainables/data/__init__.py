"""Data sets, one per file: where it is found, how it is read and downloaded, its settings and its source.

The folders beside them hold what they share: ``contract`` the base class, ``files`` the file formats and the cache,
``partition`` which image belongs to which split (without torch), ``splits`` the splits as tensors (with torch).
Test images are read by ``partition.test_images`` alone. No search imports it, except to compute a digest before the
first trial.
"""

from trainables.data.contract import (
    ArraysReader,
    DataMissing,
    Dataset,
    ExternalDataset,
    LabelledImages,
    Part,
    Reader,
)

__all__ = ["ArraysReader", "DataMissing", "Dataset", "ExternalDataset", "LabelledImages", "Part", "Reader"]
