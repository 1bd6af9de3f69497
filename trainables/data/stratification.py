"""Seeded stratified order of labelled samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def stratified_order(labels: Indices, generator: np.random.Generator) -> Indices:
    """A random order in which every stretch holds each class at (nearly) its share of the whole.

    Each class is shuffled and laid out evenly over (0, 1); reading off the line interleaves them.

    Args:
        labels: Shape (n,).
        generator: Source of the randomness.

    Returns:
        A permutation of range(n), shape (n,). Its first j entries hold a class of n_c samples j n_c / n times, give or
        take the number of classes.
    """
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(position, kind="stable")
