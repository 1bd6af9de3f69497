"""Robust accuracy: what several attacks on several views leave standing, image by image."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.attacks import attack_seed, make_attack
from trainables.attacks.base import predict, untouched
from trainables.settings import RobustnessSettings, accuracy_names

if TYPE_CHECKING:
    from trainables.data.splits import Split


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What happened to every image: R replicates, A attacks, V views, E radii, n attacked images.

    Args:
        clean: Whether the clean image is classified correctly, bool (R, N), for the whole validation split.
        kept: Whether the label survived the attack on this view and on those before it, bool (R, A, V, E, n), for the
            split's first n images: an image that falls in one view is not attacked in the next.
        passes: Images that went forward and backward through the model, int64 (R, A, V, E, 2); 0 where an attack does
            the same on two views and ran on the first alone.
        attacks: Labels of the attacks, A.
        views: Names of the views, V.
        epsilons: The radii as configured, E.
        seeds: Seeds of the replicates, R.
    """

    clean: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    passes: NDArray[np.int64]
    attacks: tuple[str, ...]
    views: tuple[str, ...]
    epsilons: tuple[float, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        replicates, attacks, views, epsilons, images = self.kept.shape
        assert (replicates, attacks, views, epsilons) == self.passes.shape[:-1]
        assert (replicates, attacks, views, epsilons) == tuple(
            map(len, (self.seeds, self.attacks, self.views, self.epsilons))
        )
        assert len(self.clean) == replicates
        assert images <= self.clean.shape[1]

    def clean_accuracy(self) -> NDArray[np.float64]:
        """Share of validation images that each replicate classifies correctly, (R,) in [0, 1]."""
        accuracy: NDArray[np.float64] = self.clean.mean(axis=1)
        return accuracy

    def robust_accuracy(self) -> NDArray[np.float64]:
        """Share of attacked images that survive every attack on every view at the first epsilon, (R,) in [0, 1]."""
        accuracy: NDArray[np.float64] = self.kept[:, :, :, 0].all(axis=(1, 2)).mean(axis=1)
        return accuracy

    def attack_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """Share of attacked images that survive one attack at the first epsilon, on its first view and on all of them.

        Returns:
            By the names of ``settings.accuracy_names``, each (R,) in [0, 1].
        """
        return {
            name: self.kept[:, a, v, 0].mean(axis=1)
            for a, attack in enumerate(self.attacks)
            for name, v in zip(accuracy_names(attack, self.views), (0, -1), strict=False)
        }

    def save(self, path: Path) -> None:
        """Write an .npz that needs no pickle; a reader never sees half a file."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
                np.savez_compressed(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            values: dict[str, Any] = {field.name: stored[field.name] for field in fields(cls)}
        for name in ("attacks", "views", "epsilons", "seeds"):
            values[name] = tuple(values[name].tolist())
        return cls(**values)


def evaluate(
    models: Sequence[nn.Module],
    validation: Split,
    settings: RobustnessSettings,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Outcomes:
    """Attack every replicate with every attack on every view, each attack from the clean images anew.

    The models and the process's random states are the same afterwards. An image's outcome under our own attacks
    depends neither on ``settings.images`` nor, but for rounding, on ``settings.batch_size``.

    Args:
        models: One model a replicate.
        validation: The images and labels; the first ``settings.images`` are attacked.
        settings: Attacks, radius, views, number of images.
        seeds: The replicates' seeds, in [0, 2^32); each attack's seed derives from the replicate's and its label.
        progress: Called with the number of attacks done and their total.

    Raises:
        ValueError: Fewer images than are to be attacked, an unknown option of an attack, or a loss that needs more
            classes.
    """
    images, labels = validation.images, validation.labels
    if settings.images > len(images):
        raise ValueError(
            f"images must be at most the number of validation images ({len(images)}), "
            f"got {settings.images}; attack fewer or validate on more"
        )
    assert len(models) == len(seeds) > 0
    attacks = {attack.label: make_attack(attack) for attack in settings.attacks}
    attacked, attacked_labels = images[: settings.images], labels[: settings.images]
    shape = (len(models), len(attacks), len(settings.views), 1)
    clean = np.empty((len(models), len(images)), dtype=np.bool_)
    kept = np.empty((*shape, settings.images), dtype=np.bool_)
    passes = np.zeros((*shape, 2), dtype=np.int64)
    done, total = 0, math.prod(shape)
    for r, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        with untouched(model), torch.autocast(images.device.type, enabled=False):
            logits = predict(model, images, settings.batch_size)
        clean[r] = (logits.argmax(1) == labels).cpu().numpy()
        for a, (label, attack) in enumerate(attacks.items()):
            for v, view in enumerate(settings.views):
                if v > 0 and attack.scale_free:
                    kept[r, a, v] = kept[r, a, 0]
                else:
                    result = attack(
                        model,
                        attacked,
                        attacked_labels,
                        radius=settings.radius(images[0].numel()),
                        view=view,
                        seed=attack_seed(seed, label),
                        batch_size=settings.batch_size,
                        logits=logits[: settings.images],
                        # The worst case over the views is what counts, so each view costs what the last left standing.
                        standing=torch.from_numpy(kept[r, a, v - 1, 0]).to(labels.device) if v > 0 else None,
                    )
                    kept[r, a, v, 0] = result.kept.cpu().numpy()
                    passes[r, a, v, 0] = result.forward_passes, result.backward_passes
                done += 1
                if progress is not None:
                    progress(done, total)
    return Outcomes(
        clean=clean,
        kept=kept,
        passes=passes,
        attacks=tuple(attacks),
        views=tuple(settings.views),
        epsilons=(settings.epsilon,),
        seeds=tuple(seeds),
    )
