"""Seeded stratified order of labelled samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.data.sources import Prepared
from trainables.settings import DataSettings

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


def split_indices(prepared: Prepared, settings: DataSettings) -> dict[str, Indices]:
    """Which images each split holds, without overlap.

    Consecutive stretches of one stratified order, test before validation before train: neither the training size nor
    the validation size changes who is held out before it.

    Args:
        prepared: The data set.
        settings: Sizes and seed of the split.

    Returns:
        Indices by split; those of ``test`` count in ``prepared.test`` where there is one, else in
        ``prepared.training``.

    Raises:
        ValueError: A size is larger than what there is.
    """
    sizes = prepared.sizes(settings)
    order = stratified_order(prepared.training.labels, np.random.default_rng([settings.seed, 0]))
    if prepared.test is None:
        test, order = order[: sizes["test"]], order[sizes["test"] :]
    else:
        test = stratified_order(prepared.test.labels, np.random.default_rng([settings.seed, 1]))[: sizes["test"]]
    validation, rest = order[: sizes["validation"]], order[sizes["validation"] :]
    return {"test": test, "validation": validation, "train": rest[: sizes["train"]]}
