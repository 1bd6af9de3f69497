"""What a data set is to the rest of the program: the base class, its wrapper for user functions, and image arrays."""

from trainables.data.contract.arrays import ArraysReader
from trainables.data.contract.dataset import DataMissing, Dataset, ExternalDataset
from trainables.data.contract.images import Indices, LabelledImages
from trainables.data.contract.reader import Part, Reader

__all__ = [
    "ArraysReader",
    "DataMissing",
    "Dataset",
    "ExternalDataset",
    "Indices",
    "LabelledImages",
    "Part",
    "Reader",
]
