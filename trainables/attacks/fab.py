"""The fast adaptive boundary attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from trainables.attacks.engine.attack import Batch, Invariance, MinimumNormAttack, Progress, part_of
from trainables.registry import register
from trainables.settings.checks import count

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.engine.margins import Boundary
    from trainables.attacks.engine.victim import Victim

# As in the authors' code (fra31/fab-attack): the largest weight of the clean image's projection, how far a step goes
# past the hyperplane, what a step back leaves of the change, and the steps of the final search. AutoAttack's FAB has
# the first three and no final search.
LARGEST_BIAS: Final = 0.1
EXTRAPOLATION: Final = 1.05
STEP_BACK: Final = 0.9
FINAL_STEPS: Final = 3

# The share by which the final search goes past the expected boundary, so that rounding cannot mend the image.
FINAL_SLACK: Final = 1e-4
SMALLEST_CHANGE: Final = 1e-8  # in pixel units; sizes below it are not compared


@register("fab")
@dataclass(frozen=True, kw_only=True)
class FAB(MinimumNormAttack):
    """Steps to the nearest linearised boundary, biased towards the clean image, and back as soon as they are beyond it.

    A misclassified image is recorded, goes back towards the clean image and continues: none leaves before the last
    step, because none is known to have reached its smallest norm. So the parts of the batch run one after the other.

    Args:
        target: To the nearest boundary of any class (one backward pass per class), or to that of each of the
            ``targets`` likeliest wrong classes in turn (one backward pass). An image's targets are searched side by
            side, so a pass holds at least ``targets`` images.
        steps: Of each search.
        restarts: Searches: the first from the clean image, the others from random points at most half as far away as
            the nearest misclassified point known (or as the radius).
    """

    source: ClassVar[str] = (
        'Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", '
        "with the final search of the authors' code (fra31/fab-attack)"
    )
    invariance: ClassVar[Invariance] = "global"
    shown: ClassVar[tuple[str, ...]] = ("steps",)

    target: Literal["untargeted", "likeliest"] = "untargeted"
    steps: int = count(100)
    restarts: int = count(1)
    targets: int = count(9)

    @property
    def passes(self) -> int:
        each_step = 11 if self.target == "untargeted" else 3 * min(self.targets, 9)
        return each_step * self.restarts * self.steps

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        import torch

        wrong = batch.clean_logits.shape[1] - 1
        # How many searches each image has, and how many classes' boundaries each search considers.
        searches, classes = (1, wrong) if self.target == "untargeted" else (min(self.targets, wrong), 1)
        parts = batch.split(max(1, batch_size // searches))
        for done, part in enumerate(parts):
            report = part_of(victim.progress, done / len(parts), 1 / len(parts))
            rivals = part.rivals(searches * classes).view(-1, classes)
            positions = torch.arange(len(part), device=part.labels.device)
            each_search = part.take(positions.repeat_interleave(searches))
            points, distance = self._search(victim, each_search, rivals, seed, report)
            nearest = distance.view(-1, searches).argmin(1) + searches * positions
            yield points.take(nearest[distance[nearest].isfinite()])

    def _search(
        self, victim: Victim, batch: Batch, rivals: Tensor, seed: int, report: Progress
    ) -> tuple[Batch, Tensor]:
        """Each image's nearest misclassified point found, and its distance (b,), infinite where there is none."""
        import torch

        from trainables.attacks.engine.margins import nearest_boundary

        clean, ball = batch.clean, batch.ball
        nearest, distance = clean, torch.full_like(clean[:, 0, 0, 0], torch.inf)
        for restart in range(self.restarts):
            images = clean
            if restart:
                reach = torch.where(distance.isfinite(), distance, batch.radius).view(-1, 1, 1, 1) / 2
                # An image's searches draw the same direction.
                change = ball.noise(clean, batch.index, np.random.default_rng([seed, restart]))
                images = ball.project(clean + reach * change, clean)
            for step in range(self.steps):
                boundary = nearest_boundary(victim, images, batch.labels, rivals, ball.norm)
                images = _step(batch, images, boundary)
                with torch.no_grad():
                    wrong = victim.logits(images).argmax(1) != batch.labels
                far = ball.distance(images, clean)
                nearer = wrong & (far < distance)
                distance = torch.where(nearer, far, distance)
                nearest = torch.where(nearer.view(-1, 1, 1, 1), images, nearest)
                back = clean + STEP_BACK * (images - clean)
                images = torch.where(wrong.view(-1, 1, 1, 1), back, images)
                report((restart + (step + 1) / self.steps) / self.restarts)
            with torch.no_grad():
                nearest = _final_search(victim, batch, nearest)
            distance = torch.where(distance.isfinite(), ball.distance(nearest, clean), torch.inf)
        return replace(batch, images=nearest), distance


def _step(batch: Batch, images: Tensor, boundary: Boundary) -> Tensor:
    """A point between the projections of the image and of the clean one, nearer to the latter if the former is far."""
    import torch

    from trainables.attacks.engine.margins import to_hyperplane

    clean, normal = batch.clean, boundary.normal
    clean_gap = boundary.gap + (normal * (clean - images)).sum((1, 2, 3))
    # Both projections at once.
    points, gaps = torch.cat([images, clean]), torch.cat([boundary.gap, clean_gap])
    changes = to_hyperplane(points, gaps, torch.cat([normal, normal]), batch.ball.norm)
    change, clean_change = changes.chunk(2)
    size, clean_size = (batch.ball.size(values).clamp_min(SMALLEST_CHANGE) for values in (change, clean_change))
    bias = (size / (size + clean_size)).clamp_max(LARGEST_BIAS)
    moved = (images + EXTRAPOLATION * change) * (1 - bias) + (clean + EXTRAPOLATION * clean_change) * bias
    return moved.clamp(0.0, 1.0)


def _final_search(victim: Victim, batch: Batch, broken: Tensor) -> Tensor:
    """Misclassified points (b, c, h, w) nearer to the clean images, on the line to them: regula falsi on the logits."""
    labels = batch.labels.unsqueeze(1)
    change = broken - batch.clean
    low, high = change.new_zeros((len(change), 1, 1, 1)), change.new_ones((len(change), 1, 1, 1))
    at_low, at_high = victim.view(batch.clean_logits), victim(broken)
    for _ in range(FINAL_STEPS):
        rival = at_high.argmax(1, keepdim=True)
        below, above = ((z.gather(1, rival) - z.gather(1, labels)).view_as(low) for z in (at_low, at_high))
        middle = (low + (high - low) * below / (below - above)) * (1 + FINAL_SLACK)
        middle = middle.where((middle > low) & (middle < high), high)  # also where nothing was found: NaN
        raw = victim.logits(batch.clean + middle * change)
        wrong = (raw.argmax(1) != batch.labels).view_as(low)
        logits = victim.view(raw)
        low, high = low.where(wrong, middle), middle.where(wrong, high)
        at_low, at_high = at_low.where(wrong.view(-1, 1), logits), logits.where(wrong.view(-1, 1), at_high)
    return batch.clean + high * change
