"""Robust accuracy: what several attacks on several views leave standing, image by image."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks import Attack, AttackResult, attack_seed, make_attack
from trainables.attacks.ball import Ball
from trainables.attacks.base import predict, rescaling, untouched
from trainables.settings import RobustnessSettings, View, accuracy_names, robust_accuracy_name

if TYPE_CHECKING:
    from trainables.data.splits import Split


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What happened to every image: R replicates, A attacks, V views, E radii, n attacked images.

    Args:
        clean: Whether the clean image is classified correctly, bool (R, N), for the whole validation split.
        kept: Whether the label survived the attack on this view and on those before it, bool (R, A, V, E, n), for the
            split's first n images: an image that falls in one view is not attacked in the next. Of a ``remaining``
            attack: on all those before it too. On a view that an attack does not see, what it had left standing.
        distance: How far the nearest misclassified image that was found lies from the clean one, fp32 (R, A, V, n), in
            pixel units: over this view, those before it and all radii; 0 where the clean image is misclassified,
            infinite where none was found.
        passes: Images that went forward and backward through the model, int64 (R, A, V, E, 2); 0 where an attack does
            the same on two views and ran on the first alone. A minimum-norm attack's are those of the largest radius.
        attacks: Labels of the attacks, A.
        sees: Which views each attack saw, bool (A, V).
        remaining: Which attacks ran on what those before them had left standing, A.
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
            epsilon: Position of the radius in ``epsilons``.
        """
        accuracy: NDArray[np.float64] = self.kept[:, :, :, epsilon].all(axis=(1, 2)).mean(axis=1)
        return accuracy

    def attack_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """Share of attacked images that survive one attack at the first epsilon, on its first view and on all of them.

        Returns:
            By the names of ``settings.accuracy_names``, each (R,) in [0, 1].
        """
        return {
            name: self.kept[:, a, v, 0].mean(axis=1)
            for a, attack in enumerate(self.attacks)
            for name, v in self.shown(a)
        }

    def shown(self, attack: int) -> list[tuple[str, int]]:
        """The names and views (positions) of an attack's accuracies: its first view's, and the worst over all views.

        Args:
            attack: Its position in ``attacks``; a ``remaining`` one has none.
        """
        if self.remaining[attack]:
            return []
        seen = np.flatnonzero(self.sees[attack]).tolist()
        names = accuracy_names(self.attacks[attack], [self.views[v] for v in seen])
        return list(zip(names, (seen[0], -1), strict=False))

    def further_accuracy(self) -> dict[str, NDArray[np.float64]]:
        """The robust accuracy at every epsilon but the first, by the names of ``settings.robust_accuracy_name``."""
        return {robust_accuracy_name(self.epsilons[e]): self.robust_accuracy(e) for e in range(1, len(self.epsilons))}

    def save(self, path: Path) -> None:
        """Write an .npz that needs no pickle; a reader never sees half a file."""
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
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
        for name in ("attacks", "remaining", "views", "epsilons", "seeds"):
            values[name] = tuple(values[name].tolist())
        return cls(**values)


def evaluate(
    models: Sequence[nn.Module],
    validation: Split,
    settings: RobustnessSettings,
    seeds: Sequence[int],
    progress: Callable[[float, int], None] | None = None,
) -> Outcomes:
    """Attack every replicate with every attack on every view, each attack from the clean images anew.

    An image that falls to an attack within a radius is not attacked again within a larger one, nor in a later view: it
    has fallen there too. A minimum-norm attack runs once for all radii. An attack that does the same on two views runs
    on the first alone.

    The models and the process's random states are the same afterwards. An image's outcome under our own attacks
    depends neither on ``settings.images`` nor, but for rounding, on ``settings.batch_size``.

    Args:
        models: One model a replicate.
        validation: The images and labels; the first ``settings.images`` are attacked.
        settings: Attacks, radii, views, number of images.
        seeds: The replicates' seeds, in [0, 2^32); each attack's seed derives from the replicate's and its label.
        progress: Called with the number of runs of an attack that are done, and their total.

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
    radii = settings.radii(images[0].numel())
    shape = (len(models), len(attacks), len(settings.views), len(radii))
    outcomes = Outcomes(
        clean=np.empty((len(models), len(images)), dtype=np.bool_),
        kept=np.empty((*shape, settings.images), dtype=np.bool_),
        distance=np.empty((*shape[:-1], settings.images), dtype=np.float32),
        passes=np.zeros((*shape, 2), dtype=np.int64),
        sees=np.array([[view in settings.views_of(attack) for view in settings.views] for attack in settings.attacks]),
        attacks=tuple(attacks),
        remaining=tuple(attack.remaining for attack in settings.attacks),
        views=tuple(settings.views),
        epsilons=settings.epsilons,
        seeds=tuple(seeds),
    )
    runs, total = 0, len(models) * int(outcomes.sees.sum())
    for r, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        with untouched(model), torch.autocast(images.device.type, enabled=False):
            logits = predict(model, images, settings.batch_size)
        correct = logits.argmax(1) == labels
        outcomes.clean[r] = correct.cpu().numpy()
        for a, (label, attack) in enumerate(attacks.items()):
            run = partial(
                attack,
                model,
                images[: settings.images],
                labels[: settings.images],
                norm=settings.norm,
                seed=attack_seed(seed, label),
                batch_size=settings.batch_size,
                logits=logits[: settings.images],
                scale=rescaling(logits),
            )
            report = partial(_report, progress, runs, total)
            standing = correct[: settings.images].repeat(len(radii), 1)
            if settings.attacks[a].remaining:
                worst = outcomes.kept[r, :a].all(axis=(0, 1))
                standing &= torch.from_numpy(worst).to(standing.device)
            views = settings.views_of(settings.attacks[a])
            kept, distance, passes = _attack(attack, run, standing, views, radii, report)
            # A view that is not seen leaves what the one before it left; none before the first.
            rows = np.cumsum(outcomes.sees[a]) - 1
            unseen = standing.cpu().numpy(), np.where(outcomes.clean[r, : settings.images], np.inf, 0)
            for v, row in enumerate(rows.tolist()):
                found = (kept[row].cpu().numpy(), distance[row].cpu().numpy()) if row >= 0 else unseen
                outcomes.kept[r, a, v], outcomes.distance[r, a, v] = found
            outcomes.passes[r, a, outcomes.sees[a]] = passes
            runs += len(views)
    return outcomes


def _report(progress: Callable[[float, int], None] | None, before: int, total: int, done: float) -> None:
    if progress is not None:
        progress(before + done, total)


def _attack(
    attack: Attack,
    run: Callable[..., AttackResult],
    standing: Tensor,
    views: Sequence[View],
    radii: Sequence[float],
    report: Callable[[float], None],
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """One attack on one replicate: ``kept`` (V, E, n), ``distance`` (V, n) and ``passes`` (V, E, 2) of `Outcomes`.

    Args:
        attack: What ``run`` runs.
        run: Takes radius, view, standing images and progress.
        standing: Which images are to be attacked within each radius, bool (E, n).
        views: The views, in order.
        radii: In pixel units, in any order.
        report: Told how many views are done.
    """
    ascending = sorted(range(len(radii)), key=radii.__getitem__)
    # Whoever falls within the smallest radius has fallen within all: a minimum-norm attack runs on the others, once.
    starts = ascending[:1] if attack.minimum_norm else ascending
    nearest: Tensor | None = None
    kept, distances = [], []
    passes = np.zeros((len(views), len(radii), 2), dtype=np.int64)
    for v, view in enumerate(views):
        if not any(_same(attack, view, earlier) for earlier in views[:v]):
            for k, e in enumerate(starts):
                radius = max(radii) if attack.minimum_norm else radii[e]
                within = standing[ascending[: k + 1]].all(0)
                result = run(radius=radius, view=view, standing=within, progress=partial(_share, report, v, k, starts))
                passes[v, radii.index(radius)] = result.forward_passes, result.backward_passes
                nearest = result.distance if nearest is None else torch.minimum(nearest, result.distance)
                if attack.minimum_norm:
                    fallen = torch.stack([Ball(radius).holds(nearest) for radius in radii])
                    standing = standing & ~fallen
                else:
                    standing = torch.cat([standing[:e], result.kept[None], standing[e + 1 :]])
        assert nearest is not None  # the first view is never left out
        report(v + 1)
        kept.append(standing)
        distances.append(nearest)
    return torch.stack(kept), torch.stack(distances), passes


def _share(report: Callable[[float], None], view: int, start: int, starts: Sequence[int], done: float) -> None:
    report(view + (start + done) / len(starts))


def _same(attack: Attack, view: View, other: View) -> bool:
    """Whether an attack does the same on two views."""
    return attack.scale_free or (attack.unit_free and "normalized" not in (view, other))
