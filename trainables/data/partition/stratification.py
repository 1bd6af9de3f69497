"""A seeded stratified order of labelled samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def stratified_order(labels: Indices, generator: np.random.Generator) -> Indices:
    """A random order in which each class is spread evenly: any prefix has (nearly) the class frequencies of the whole.

    Each class is shuffled and placed at even distances on (0, 1). Sorting by position interleaves the classes.

    Args:
        labels: Shape (n,).
        generator: Source of the randomness.

    Returns:
        A permutation of range(n), shape (n,). Its first j entries contain a class of n_c samples j n_c / n times, up to
        the number of classes more or fewer.
    """
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(position, kind="stable")
