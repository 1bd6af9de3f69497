"""The losses that attacks climb, and the linearised decision boundaries that minimum-norm attacks walk towards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trainables.attacks.engine.attack import AttackLoss
from trainables.settings.threat import Norm

DLR_FLOOR: Final = 1e-12  # keeps DLR finite where the top three or four logits are equal

# The fixed cost of a backward pass, in images that go forward: on one CPU some 70 with LeNet-5, about 10 with deeper
# models; and the most images and copies in one pass (a training step holds as many).
PASS_COST: Final = 25
MOST_COPIES: Final = 128


def objective(loss: AttackLoss, logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The loss that each image climbs, (b,), away from its label or, if given, towards its target, both (b,)."""
    if targets is None:
        return {"ce": log_odds_against, "dlr": dlr, "pm": log_probability_margin}[loss](logits, labels)
    return -log_odds_against(logits, targets) if loss == "ce" else targeted_dlr(logits, labels, targets)


def log_odds_against(logits: Tensor, classes: Tensor) -> Tensor:
    """log((1 - p) / p) for the softmax probability p of one class: cross entropy for attacks that normalise gradients.

    Cross entropy is softplus of it, so both have the same gradient up to a positive factor, 1 - p. That factor
    underflows on confident models and blinds attacks that climb cross entropy itself.
    """
    chosen = classes.unsqueeze(1)
    others = logits.scatter(1, chosen, -torch.inf)
    return others.logsumexp(1) - logits.gather(1, chosen).squeeze(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest wrong logit minus the true one, (b,): positive where misclassified."""
    true = labels.unsqueeze(1)
    return logits.scatter(1, true, -torch.inf).amax(1) - logits.gather(1, true).squeeze(1)


def log_probability_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """log(1 + p - q), (b,), for the softmax probabilities p of the likeliest wrong class and q of the true one.

    It rises with the probability margin p - q and has its direction, but does not underflow on confident models.

    Source:
        Xie et al. 2024, "Towards million-scale adversarial robustness evaluation with stronger individual attacks",
        arXiv:2411.15210, the probability margin loss.
    """
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    # 1 - q is the sum of the wrong classes' probabilities.
    return torch.cat([others, others.amax(1, keepdim=True)], 1).logsumexp(1) - logits.logsumexp(1)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio: positive where misclassified, the same at any positive scale of the logits (b, k).

    Source:
        Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks".
    """
    _check_classes(logits, 3, "dlr")
    top = logits.topk(3).values
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    other = torch.where(logits.argmax(1) == labels, top[:, 1], top[:, 0])
    return (other - true) / (top[:, 0] - top[:, 2] + DLR_FLOOR)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted difference of logits ratio, as in `dlr`: positive where the target's logit is above the true one's."""
    _check_classes(logits, 4, "dlr towards a target")
    top = logits.topk(4).values
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    target = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (target - true) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + DLR_FLOOR)


def _check_classes(logits: Tensor, least: int, loss: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(
            f"loss must be ce for fewer than {least} classes, got {loss} with {logits.shape[1]}; choose ce"
        )


@dataclass(frozen=True)
class Boundary:
    """One hyperplane per image: where the linearised logit of a rival class equals the label's.

    Where the gradients of all rivals are 0 or not finite, ``distance`` is infinite, ``gap`` and ``normal`` are 0.
    """

    gap: Tensor  # the rival's logit minus the label's at the image, (b,)
    normal: Tensor  # the gradient of the gap, (b, c, h, w)
    distance: Tensor  # from the image in the norm, ignoring the pixel box, (b,)


def nearest_boundary(
    logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, rivals: Tensor, norm: Norm
) -> Boundary:
    """The nearest hyperplane of each image among those of its rivals, (b, r), given the logits in the attack's view.

    Every rival's gradient needs a backward pass, through the graph of one forward pass. If there are few images, copies
    of them, each for another rival, share fewer passes, so that a pass's fixed cost is paid less often. (vmap supports
    neither every model nor the count of images that went backward.)
    """
    passes, copies = passes_and_copies(*rivals.shape)
    images = torch.cat([images.detach()] * copies).requires_grad_()
    columns = torch.arange(passes * copies, device=rivals.device).clamp_max(rivals.shape[1] - 1)
    of_passes = rivals.t()[columns].view(passes, -1).t()  # (copies b, passes), filled up with the last rival
    seen = logits(images)
    gaps = seen.gather(1, of_passes) - seen.gather(1, labels.repeat(copies).unsqueeze(1))
    distance = gaps.new_full(labels.shape, torch.inf)
    gap, normal = torch.zeros_like(distance), torch.zeros_like(images[: len(labels)])
    for number, to_rival in enumerate(gaps.unbind(1), start=1):
        (gradient,) = torch.autograd.grad(to_rival.sum(), images, retain_graph=number < passes)
        to_rival = to_rival.detach()
        slope = torch.linalg.vector_norm(gradient, 2 if norm == "l2" else 1, dim=(1, 2, 3))
        legal = (slope > 0) & slope.isfinite() & ~to_rival.isnan()
        away, copy = torch.where(legal, to_rival.abs() / slope, torch.inf).view(copies, -1).min(0)
        nearer = (away < distance).nonzero().squeeze(1)
        rows = copy[nearer] * len(labels) + nearer
        distance[nearer], gap[nearer], normal[nearer] = away[nearer], to_rival[rows], gradient[rows]
    return Boundary(gap, normal, distance)


def passes_and_copies(images: int, rivals: int) -> tuple[int, int]:
    """How many backward passes find the gradients of all r rivals, and how many copies c of each of b images they need.

    There are r / c passes, each with its fixed cost, and c forward passes of all images. The total is smallest at
    c = sqrt(r `PASS_COST` / b).
    """
    cheapest = round(math.sqrt(rivals * PASS_COST / images))
    passes = math.ceil(rivals / max(1, min(cheapest, rivals, MOST_COPIES // images)))
    return passes, math.ceil(rivals / passes)


def to_hyperplane(points: Tensor, gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """The change of each point, smallest in the norm, that ends on a hyperplane within the pixel box, (b, c, h, w).

    The hyperplane is where ``gap`` + <``normal``, change> is 0. If the box does not reach it, the change goes to the
    corner of the box that comes nearest; where the normal is 0, so is the change.

    Every coordinate moves, at the speed |normal| for L2 and 1 for Linf, until it stops at the side of the box. By a
    given time the coordinates have closed sum_i min(slope_i time, most_i) of the gap, which is concave and piecewise
    linear. Newton's method from below is therefore exact as soon as no further coordinate stops.

    Source:
        The problem is that of Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
        boundary attack", who sort the times at which coordinates stop.
    """
    direction = -gap.sign().view(-1, 1, 1, 1) * normal
    size = direction.abs()
    room = torch.where(direction > 0, 1 - points, points)
    speed = size if norm == "l2" else torch.ones_like(size)
    slope, most = size * speed, size * room
    moves = size > 0
    moving = moves
    time = made_up = torch.zeros_like(gap)
    while True:
        rate = torch.where(moving, slope, 0).sum((1, 2, 3))
        # Time never runs backwards, as rounding could make it; NaN where nothing moves any more.
        time = torch.maximum(time, (gap.abs() - made_up) / rate)
        path = speed * time.view(-1, 1, 1, 1)
        stopping = moving & (path >= room)
        if not stopping.any():
            return direction.sign() * torch.where(moving, path, torch.where(moves, room, 0))
        moving = moving & ~stopping
        made_up = torch.where(moves & ~moving, most, 0).sum((1, 2, 3))
