"""Robust accuracy: what several attacks on several views leave standing, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks import Attack, AttackResult, attack_seed
from trainables.attacks.engine.attack import Progress, part_of
from trainables.attacks.engine.ball import Ball
from trainables.attacks.engine.victim import isolated_randomness, predict, rescaling, untouched
from trainables.robustness.outcomes import Outcomes
from trainables.settings import RobustnessSettings

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
        validation: The first ``settings.images`` images are attacked.
        settings: Attacks, radii and views.
        seeds: The replicates' seeds, in [0, 2^32); each attack's seed derives from the replicate's and its label.
        progress: Called with the number of completed runs of an attack, and their total.

    Raises:
        ValueError: There are too few images or classes, or an attack has no such option.
    """
    if settings.images > len(validation.images):
        raise ValueError(
            f"images must be at most the number of validation images ({len(validation.images)}), "
            f"got {settings.images}; attack fewer or validate on more"
        )
    for attack in settings.attacks:
        attack.prepare()
    runs = sum(len(settings.views_of(attack)) for attack in settings.attacks)

    def report(done: float) -> None:
        if progress is not None:
            progress(done, len(models) * runs)

    replicates = [
        _replicate(model, seed, validation, settings, part_of(report, r * runs, 1))
        for r, (model, seed) in enumerate(zip(models, seeds, strict=True))
    ]
    return Outcomes(
        **{name: np.stack([replicate[name] for replicate in replicates]) for name in replicates[0]},
        sees=np.array([[view in settings.views_of(attack) for view in settings.views] for attack in settings.attacks]),
        attacks=tuple(attack.label for attack in settings.attacks),
        remaining=tuple(attack.remaining for attack in settings.attacks),
        views=tuple(settings.views),
        epsilons=settings.epsilons,
        seeds=tuple(seeds),
        split=validation.name or "validation",
    )


def _replicate(
    model: nn.Module, seed: int, validation: Split, settings: RobustnessSettings, report: Progress
) -> dict[str, NDArray[Any]]:
    """``clean``, ``kept``, ``distance`` and ``passes`` of `Outcomes` for one replicate."""
    in_fp32 = torch.autocast(validation.images.device.type, enabled=False)
    with isolated_randomness(seed), untouched(model), in_fp32:  # the model may draw at random
        logits = predict(model, validation.images, settings.batch_size)
    clean = logits.argmax(1) == validation.labels
    attacked = slice(settings.images)
    images, labels = validation.images[attacked], validation.labels[attacked]
    radii = settings.radii(images[0].numel())
    standing = worst = clean[attacked].repeat(len(radii), 1)
    nearest = torch.where(clean[attacked], torch.inf, images.new_zeros(len(images)))
    results, done = [], 0
    for attack in settings.attacks:
        run = partial(attack, model, images, labels, norm=settings.norm, batch_size=settings.batch_size)
        run = partial(run, seed=attack_seed(seed, attack.label), logits=logits[attacked], scale=rescaling(logits))
        before = worst if attack.remaining else standing
        results.append(_attack(attack, run, before, nearest, settings, radii, part_of(report, done, 1)))
        worst = worst & results[-1][0][-1]
        done += len(settings.views_of(attack))
    kept, distance, passes = map(torch.stack, zip(*results, strict=True))
    arrays = {"clean": clean, "kept": kept, "distance": distance, "passes": passes}
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def _attack(
    attack: Attack,
    run: Callable[..., AttackResult],
    standing: Tensor,
    nearest: Tensor,
    settings: RobustnessSettings,
    radii: Sequence[float],
    report: Progress,
) -> tuple[Tensor, Tensor, Tensor]:
    """One attack on one replicate: ``kept`` (V, E, n), ``distance`` (V, n) and ``passes`` (V, E, 2) of `Outcomes`.

    ``standing`` (E, n) and ``nearest`` (n,) are ``kept`` and ``distance`` before the attack. ``report`` receives the
    number of completed views.
    """
    ascending = sorted(range(len(radii)), key=radii.__getitem__)
    # Each run's radius, and the radii within which an image must have been kept to be attacked.
    runs = [(e, ascending[: k + 1]) for k, e in enumerate(ascending)]
    if attack.minimum_norm:  # what falls within the smallest radius has fallen within all
        runs = [(ascending[-1], ascending[:1])]
    passes = torch.zeros((len(settings.views), len(radii), 2), dtype=torch.int64)
    kept, distances = [], []
    seen: list[str] = []
    for v, view in enumerate(settings.views):
        if view in settings.views_of(attack):
            # On views that differ by factors that change nothing, the attack does the same: it runs on the first.
            scaled = "normalized" if view == "normalized" else "raw"
            seen_as = {"none": view, "global": scaled, "per-image": "any"}[attack.invariance]
            for k, (e, within) in enumerate([] if seen_as in seen else runs):
                progress = part_of(report, len(seen) + k / len(runs), 1 / len(runs))
                result = run(radius=radii[e], view=view, standing=standing[within].all(0), progress=progress)
                passes[v, e] = torch.tensor([result.forward_passes, result.backward_passes])
                nearest = torch.minimum(nearest, result.distance)
                if attack.minimum_norm:
                    standing = standing & ~torch.stack([Ball(radius).holds(nearest) for radius in radii])
                else:
                    standing = torch.cat([standing[:e], result.kept[None], standing[e + 1 :]])
            seen.append(seen_as)
            report(len(seen))
        # A view that the attack does not see leaves what the view before it left standing.
        kept.append(standing)
        distances.append(nearest)
    return torch.stack(kept), torch.stack(distances), passes
