"""Robust accuracy: what several attacks on several views leave standing, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks import Attack, AttackResult, attack_seed
from trainables.attacks.engine.ball import Ball
from trainables.attacks.engine.victim import predict, rescaling, untouched
from trainables.robustness.outcomes import Outcomes
from trainables.settings import RobustnessSettings, View

if TYPE_CHECKING:
    from trainables.data.splits import Split


def evaluate(
    models: Sequence[nn.Module],
    validation: Split,
    settings: RobustnessSettings,
    seeds: Sequence[int],
    progress: Callable[[float, int], None] | None = None,
) -> Outcomes:
    """Attacks every replicate with every attack on every view, each attack starting from the clean images.

    An image that falls to an attack within a radius is not attacked again within a larger one, nor in a later view: it
    has fallen there too. A minimum-norm attack runs once for all radii. An attack that does the same on two views runs
    on the first alone.

    The models and the process's random states are the same afterwards. An image's outcome under our own attacks
    depends neither on ``settings.images`` nor, except for rounding, on ``settings.batch_size``.

    Args:
        models: One model per replicate.
        validation: The images and labels; the first ``settings.images`` are attacked.
        settings: Attacks, radii, views, number of images.
        seeds: The replicates' seeds, in [0, 2^32); each attack's seed derives from the replicate's and its label.
        progress: Called with the number of completed runs of an attack, and their total.

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
    for attack in settings.attacks:
        attack.prepare()
    radii = settings.radii(images[0].numel())
    shape = (len(models), len(settings.attacks), len(settings.views), len(radii))
    outcomes = Outcomes(
        clean=np.empty((len(models), len(images)), dtype=np.bool_),
        kept=np.empty((*shape, settings.images), dtype=np.bool_),
        distance=np.empty((*shape[:-1], settings.images), dtype=np.float32),
        passes=np.zeros((*shape, 2), dtype=np.int64),
        sees=np.array([[view in settings.views_of(attack) for view in settings.views] for attack in settings.attacks]),
        attacks=tuple(attack.label for attack in settings.attacks),
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
        for a, attack in enumerate(settings.attacks):
            run = partial(
                attack,
                model,
                images[: settings.images],
                labels[: settings.images],
                norm=settings.norm,
                seed=attack_seed(seed, attack.label),
                batch_size=settings.batch_size,
                logits=logits[: settings.images],
                scale=rescaling(logits),
            )
            report = partial(_report, progress, runs, total)
            standing = correct[: settings.images].repeat(len(radii), 1)
            if attack.remaining:
                worst = outcomes.kept[r, :a].all(axis=(0, 1))
                standing &= torch.from_numpy(worst).to(standing.device)
            views = settings.views_of(attack)
            kept, distance, passes = _attack(attack, run, standing, views, radii, report)
            # A view that the attack does not see leaves what the view before it left standing.
            rows = np.cumsum(outcomes.sees[a]) - 1
            unseen = standing.cpu().numpy(), np.inf
            for v, row in enumerate(rows.tolist()):
                left, nearest = (kept[row].cpu().numpy(), distance[row].cpu().numpy()) if row >= 0 else unseen
                outcomes.kept[r, a, v] = left
                outcomes.distance[r, a, v] = np.where(outcomes.clean[r, : settings.images], nearest, 0)
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
        attack: The attack that ``run`` runs.
        run: Takes radius, view, standing images and progress.
        standing: Which images are to be attacked within each radius, bool (E, n).
        views: The views, in order.
        radii: In pixel units, in any order.
        report: Receives the number of completed views.
    """
    ascending = sorted(range(len(radii)), key=radii.__getitem__)
    # What falls within the smallest radius has fallen within all: a minimum-norm attack runs once, on the others.
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
        assert nearest is not None  # the first view is never skipped
        report(v + 1)
        kept.append(standing)
        distances.append(nearest)
    return torch.stack(kept), torch.stack(distances), passes


def _share(report: Callable[[float], None], view: int, start: int, starts: Sequence[int], done: float) -> None:
    report(view + (start + done) / len(starts))


def _same(attack: Attack, view: View, other: View) -> bool:
    """Whether an attack does the same on two views."""
    return attack.scale_free or (attack.unit_free and "normalized" not in (view, other))
