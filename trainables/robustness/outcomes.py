"""What happened to every image of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables import files
from trainables.metrics import at_radius, under_attack


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcome for every image: R replicates, A attacks, V views, E radii, n attacked images.

    Args:
        clean: Whether the clean image is classified correctly, bool (R, N), for the whole validation split.
        kept: Whether the label survived the attack on this view and earlier ones, bool (R, A, V, E, n), for the split's
            first n images: an image that falls in one view is not attacked in the next. For a ``remaining`` attack,
            whether it survived all earlier attacks too. On a view that an attack does not see, what it had left
            standing.
        distance: Distance between the clean image and the nearest misclassified image found, fp32 (R, A, V, n), in
            pixel units, over this view, earlier ones and all radii; 0 where the clean image is misclassified, infinite
            where none was found.
        passes: Images that went forward and backward through the model, int64 (R, A, V, E, 2); 0 if an attack does the
            same on two views and ran on the first alone. Those of a minimum-norm attack stand at the largest radius.
        attacks: Labels of the attacks, A.
        sees: Which views each attack saw, bool (A, V).
        remaining: Which attacks ran only on what earlier ones had left standing, A.
        views: Names of the views, V.
        epsilons: The radii as configured, E.
        seeds: Seeds of the replicates, R.
    """

    clean: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    distance: NDArray[np.float32]
    passes: NDArray[np.int64]
    sees: NDArray[np.bool_]
    attacks: tuple[str, ...]
    remaining: tuple[bool, ...]
    views: tuple[str, ...]
    epsilons: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        replicates, attacks, views, epsilons, images = self.kept.shape
        assert (replicates, attacks, views, epsilons) == self.passes.shape[:-1]
        assert (replicates, attacks, views, images) == self.distance.shape
        assert (replicates, attacks, views, epsilons) == tuple(
            map(len, (self.seeds, self.attacks, self.views, self.epsilons))
        )
        assert len(self.clean) == replicates
        assert images <= self.clean.shape[1]

    def clean_accuracy(self) -> NDArray[np.float64]:
        """Share of validation images that each replicate classifies correctly, (R,) in [0, 1]."""
        accuracy: NDArray[np.float64] = self.clean.mean(axis=1)
        return accuracy

    def robust_accuracy(self, epsilon: int = 0) -> NDArray[np.float64]:
        """Share of attacked images that survive every attack on every view, (R,) in [0, 1].

        Args:
            epsilon: The radius's position in ``epsilons``.
        """
        accuracy: NDArray[np.float64] = self.kept[:, :, :, epsilon].all(axis=(1, 2)).mean(axis=1)
        return accuracy

    def attack_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """Share of attacked images that survive one attack at the first epsilon, on its first view and on all of them.

        Returns:
            Arrays (R,) in [0, 1] by the names of ``metrics.under_attack``.
        """
        return {
            name: self.kept[:, a, v, 0].mean(axis=1)
            for a, attack in enumerate(self.attacks)
            for name, v in self.shown(a)
        }

    def shown(self, attack: int) -> list[tuple[str, int]]:
        """The names and views (positions) of an attack's accuracies: its first view's, and the worst over all views.

        Args:
            attack: Its position in ``attacks``. A ``remaining`` attack has no accuracies.
        """
        if self.remaining[attack]:
            return []
        seen = np.flatnonzero(self.sees[attack]).tolist()
        names = under_attack(self.attacks[attack], [self.views[v] for v in seen])
        return list(zip(names, (seen[0], -1), strict=False))

    def further_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """The robust accuracy at every epsilon but the first, by the names of ``metrics.at_radius``."""
        return {at_radius(self.epsilons[e]): self.robust_accuracy(e) for e in range(1, len(self.epsilons))}

    def save(self, path: Path) -> None:
        """Writes an .npz that needs no pickle, atomically."""
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        content = BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        files.write(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            values: dict[str, Any] = {field.name: stored[field.name] for field in fields(cls)}
        for name in ("attacks", "remaining", "views", "epsilons", "seeds"):
            values[name] = tuple(values[name].tolist())
        return cls(**values)
