"""The fast adaptive boundary attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from trainables.attacks.engine.attack import MinimumNormAttack
from trainables.attacks.engine.limits import count
from trainables.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.engine.batch import Batch
    from trainables.attacks.engine.boundary import Boundary
    from trainables.attacks.engine.victim import Victim

# As in section 4 of the paper and in AutoAttack: the largest weight of the clean image's projection, how far a step
# goes past the hyperplane, what a step back leaves of the change, and the steps of the final search.
LARGEST_BIAS: Final = 0.1
EXTRAPOLATION: Final = 1.05
STEP_BACK: Final = 0.9
FINAL_STEPS: Final = 3

# Sizes of changes below this, in pixel units, are not compared.
SMALLEST_CHANGE: Final = 1e-8

# The share by which the final search goes past the expected boundary, so that rounding cannot mend the image.
FINAL_SLACK: Final = 1e-4


@register("fab")
@dataclass(frozen=True, kw_only=True)
class FAB(MinimumNormAttack):
    """Steps to the nearest linearised boundary, biased towards the clean image, and back as soon as they are beyond it.

    A misclassified image is recorded, goes back towards the clean image and continues: none leaves before the last
    step, because none is known to have reached its smallest norm. What makes the attack cheaper is ``standing``: an
    attack that runs last sees few images. So the parts of the batch run one after the other, each to its end.

    Args:
        target: To the nearest boundary of any class (one backward pass per class), or to that of each of the
            ``targets`` likeliest wrong classes in turn (one backward pass). An image's targets are searched side by
            side, so a pass holds at least ``targets`` images.
        steps: Of each search, at least 1.
        restarts: Searches, at least 1: the first from the clean image, the others from random points at most half as
            far away as the nearest misclassified point known (or as the radius).
        targets: How many classes to target, at least 1.
    """

    source: ClassVar[str] = (
        'Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", '
        "algorithm 1; the final search is that of their code (fra31/fab-attack)"
    )
    shown: ClassVar[tuple[str, ...]] = ("steps",)

    target: Literal["untargeted", "likeliest"] = "untargeted"
    steps: int = count(100)
    restarts: int = count(1)
    targets: int = count(9)

    @property
    def unit_free(self) -> bool:
        return True

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Searches the parts of the batch one after the other."""
        import torch

        from trainables.attacks.engine.boundary import likeliest_rivals

        if self.target == "untargeted":
            rivals = likeliest_rivals(batch.clean_logits, batch.labels, batch.clean_logits.shape[1]).unsqueeze(1)
        else:
            rivals = likeliest_rivals(batch.clean_logits, batch.labels, self.targets).unsqueeze(2)
        searches = rivals.shape[1]  # of each image; rivals are (b, searches, r)
        size = max(1, batch_size // searches)
        parts = list(zip(batch.split(size), torch.split(rivals, size), strict=True))
        for done, (part, of_part) in enumerate(parts):

            def report(share: float, done: int = done) -> None:
                victim.progress((done + share) / len(parts))

            rows = torch.arange(len(part), device=part.labels.device).repeat_interleave(searches)
            found, distance = self._search(victim, part.take(rows), of_part.flatten(0, 1), seed, report)
            nearest = distance.view(-1, searches).argmin(1) + searches * torch.arange(len(part), device=rows.device)
            yield found.take(nearest[distance[nearest].isfinite()])

    def _search(
        self, victim: Victim, batch: Batch, rivals: Tensor, seed: int, report: Callable[[float], None]
    ) -> tuple[Batch, Tensor]:
        """Each image's nearest misclassified point found, and its distance (b,), infinite where there is none.

        Args:
            victim: The model.
            batch: The images, one search each.
            rivals: The classes whose boundaries each search considers, (b, r).
            seed: The attack's seed.
            report: Receives the completed share of the search.
        """
        import torch

        from trainables.attacks.engine.boundary import nearest_boundary

        nearest, distance = batch.clean, torch.full_like(batch.clean[:, 0, 0, 0], torch.inf)
        for restart in range(self.restarts):
            images = self._start(batch, distance, np.random.default_rng([seed, restart])) if restart else batch.clean
            for step in range(self.steps):
                boundary = nearest_boundary(victim, images, batch.labels, rivals, batch.ball.norm)
                images = _step(batch, images, boundary)
                with torch.no_grad():
                    wrong = victim.logits(images).argmax(1) != batch.labels
                far = batch.ball.distance(images, batch.clean)
                nearer = wrong & (far < distance)
                distance = torch.where(nearer, far, distance)
                nearest = torch.where(nearer.view(-1, 1, 1, 1), images, nearest)
                back = batch.clean + STEP_BACK * (images - batch.clean)
                images = torch.where(wrong.view(-1, 1, 1, 1), back, images)
                report((restart + (step + 1) / self.steps) / self.restarts)
            with torch.no_grad():
                nearest = _final_search(victim, batch, nearest)
            distance = torch.where(distance.isfinite(), batch.ball.distance(nearest, batch.clean), torch.inf)
        return replace(batch, images=nearest), distance

    def _start(self, batch: Batch, distance: Tensor, rng: np.random.Generator) -> Tensor:
        """Random points in the box, the same for all searches of an image but for their distance."""
        import torch

        from trainables.attacks.engine.starts import noise

        reach = torch.where(distance.isfinite(), distance, batch.radius).view(-1, 1, 1, 1) / 2
        return batch.ball.project(batch.clean + reach * noise(batch, rng), batch.clean)


def _step(batch: Batch, images: Tensor, boundary: Boundary) -> Tensor:
    """A point between the projections of the image and of the clean one, nearer to the latter if the former is far."""
    import torch

    from trainables.attacks.engine.boundary import to_hyperplane

    norm, clean = batch.ball.norm, batch.clean
    clean_gap = boundary.gap + (boundary.normal * (clean - images)).sum((1, 2, 3))
    change, clean_change = to_hyperplane(
        torch.cat([images, clean]),
        torch.cat([boundary.gap, clean_gap]),
        torch.cat([boundary.normal, boundary.normal]),
        norm,
    ).chunk(2)
    size, clean_size = (batch.ball.size(values).clamp_min(SMALLEST_CHANGE) for values in (change, clean_change))
    bias = (size / (size + clean_size)).clamp_max(LARGEST_BIAS)
    moved = (images + EXTRAPOLATION * change) * (1 - bias) + (clean + EXTRAPOLATION * clean_change) * bias
    return moved.clamp(0.0, 1.0)


def _final_search(victim: Victim, batch: Batch, found: Tensor) -> Tensor:
    """Misclassified points (b, c, h, w) nearer to the clean images, on the line to them: regula falsi on the logits."""
    import torch

    labels = batch.labels.unsqueeze(1)
    change = found - batch.clean
    low, high = torch.zeros_like(change[:, :1, :1, :1]), torch.ones_like(change[:, :1, :1, :1])
    at_low, at_high = victim.view(batch.clean_logits), victim(found)
    for _ in range(FINAL_STEPS):
        rival = at_high.argmax(1, keepdim=True)
        below, above = (
            (logits.gather(1, rival) - logits.gather(1, labels)).view_as(low) for logits in (at_low, at_high)
        )
        middle = (low + (high - low) * below / (below - above)) * (1 + FINAL_SLACK)
        middle = torch.where((middle > low) & (middle < high), middle, high)  # also where nothing was found: NaN
        raw = victim.logits(batch.clean + middle * change)
        wrong = (raw.argmax(1) != batch.labels).view_as(low)
        logits = victim.view(raw)
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        at_low = torch.where(wrong.view(-1, 1), at_low, logits)
        at_high = torch.where(wrong.view(-1, 1), logits, at_high)
    return batch.clean + high * change
