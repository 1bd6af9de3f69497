"""What happened to every image of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables import files
from trainables.metrics import CLEAN, ROBUST, at_radius, under_attack


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcome for every image: R replicates, A attacks, V views, E radii, n attacked images.

    Args:
        clean: Whether the clean image is classified correctly, bool (R, N), for the whole split.
        kept: Whether the label survived the attack on this view and earlier ones, bool (R, A, V, E, n), for the split's
            first n images: an image that falls in one view is not attacked in the next. For a ``remaining`` attack,
            whether it survived all earlier attacks too. On a view that an attack does not see, what it had left.
        distance: From the clean image to the nearest misclassified one found, fp32 (R, A, V, n), in pixel units, over
            this view, earlier ones and all radii; 0 where the clean image is misclassified, infinite where none is.
        passes: Images that went forward and backward through the model, int64 (R, A, V, E, 2); 0 if an attack does the
            same on two views and ran on the first alone. Those of a minimum-norm attack stand at the largest radius.
    """

    clean: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    distance: NDArray[np.float32]
    passes: NDArray[np.int64]
    sees: NDArray[np.bool_]  # which views each attack saw, (A, V)
    attacks: tuple[str, ...]  # their labels
    remaining: tuple[bool, ...]  # which attacks ran only on what earlier ones had left standing
    views: tuple[str, ...]
    epsilons: tuple[float, ...]  # the radii as configured
    seeds: tuple[int, ...]  # the replicates'
    split: str = "validation"  # the split of the images

    def clean_accuracy(self) -> NDArray[np.float64]:
        """Share of validation images that each replicate classifies correctly, (R,) in [0, 1]."""
        return np.asarray(self.clean.mean(axis=1))

    def robust_accuracy(self, epsilon: int = 0) -> NDArray[np.float64]:
        """Share of attacked images that survive every attack on every view within ``epsilons[epsilon]``, (R,)."""
        return np.asarray(self.kept[:, :, :, epsilon].all(axis=(1, 2)).mean(axis=1))

    def further_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """The robust accuracy at every epsilon but the first, by the names of ``metrics.at_radius``."""
        return {at_radius(self.epsilons[e]): self.robust_accuracy(e) for e in range(1, len(self.epsilons))}

    def attack_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """Share of attacked images that survive one attack at the first epsilon, (R,), by the names of ``shown``."""
        attacks = range(len(self.attacks))
        return {name: self.kept[:, a, v, 0].mean(axis=1) for a in attacks for name, v in self.shown(a)}

    def by_name(self) -> dict[str, NDArray[np.bool_]]:
        """Whether each image is classified correctly, bool (R, N) or (R, n), for each accuracy above by its name."""
        worst = np.asarray(self.kept.all(axis=(1, 2)))
        further = {at_radius(self.epsilons[e]): worst[:, e] for e in range(1, len(self.epsilons))}
        attacks = range(len(self.attacks))
        each = {name: self.kept[:, a, v, 0] for a in attacks for name, v in self.shown(a)}
        return {CLEAN: self.clean, ROBUST: worst[:, 0], **each, **further}

    def shown(self, attack: int) -> list[tuple[str, int]]:
        """The names (``metrics.under_attack``) and views (positions) of the accuracies of ``attacks[attack]``.

        They are its first view's and the last's, which is the worst over all views. A ``remaining`` attack has none.
        """
        if self.remaining[attack]:
            return []
        seen = np.flatnonzero(self.sees[attack]).tolist()
        names = under_attack(self.attacks[attack], [self.views[v] for v in seen])
        return list(zip(names, (seen[0], -1), strict=False))

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
        values["split"] = str(values["split"])
        return cls(**values)
