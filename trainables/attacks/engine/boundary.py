"""Linearised decision boundaries, which minimum-norm attacks walk towards."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trainables.settings.threat import Norm

# The fixed cost of a backward pass, in images that go forward: on one CPU some 70 with LeNet-5, and about 10 with the
# deeper models.
PASS_COST: Final = 25

# The most images and copies in one pass; a training step holds as many.
MOST_COPIES: Final = 128


@dataclass(frozen=True)
class Boundary:
    """One hyperplane per image: where the linearised logit of a rival class equals the label's.

    Args:
        gap: The rival's logit minus the label's at the image, (b,); negative where the label is ahead.
        normal: The gradient of ``gap``, (b, c, h, w).
        distance: The hyperplane's distance from the image in the norm, ignoring the pixel box, (b,); infinite where the
            gradients of all rivals are 0 or not finite, and there ``gap`` and ``normal`` are 0.
    """

    gap: Tensor
    normal: Tensor
    distance: Tensor


def likeliest_rivals(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The classes other than the label that have the largest logits, largest first.

    Args:
        logits: (b, k).
        labels: (b,).
        count: At least 1.

    Returns:
        (b, r), where r is ``count`` or k - 1 if that is smaller.
    """
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1)).indices


def nearest_boundary(
    logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, rivals: Tensor, norm: Norm
) -> Boundary:
    """The nearest hyperplane of each image among those of its rivals.

    Every rival's gradient needs a backward pass, through the graph of one forward pass. If there are few images, copies
    of them, each for another rival, share fewer passes, so that a pass's fixed cost is paid less often. (vmap supports
    neither every model nor the count of images that went backward.)

    Args:
        logits: From images (b, c, h, w) to logits in the attack's view, (b, k).
        images: (b, c, h, w).
        labels: (b,).
        rivals: Classes other than the label, (b, r).
        norm: The norm of the distance.
    """
    dual = 2 if norm == "l2" else 1
    passes, copies = passes_and_copies(*rivals.shape)
    images = torch.cat([images.detach()] * copies).requires_grad_()
    columns = torch.arange(passes * copies, device=rivals.device).clamp_max(rivals.shape[1] - 1)
    of_passes = rivals.t()[columns].view(passes, -1).t()  # (copies b, passes), filled up with the last rival
    gaps = _gaps(logits(images), labels.repeat(copies), of_passes)
    distance = gaps.new_full(labels.shape, torch.inf)
    gap, normal = torch.zeros_like(distance), torch.zeros_like(images[: len(labels)])
    for number, to_rival in enumerate(gaps.unbind(1), start=1):
        (gradient,) = torch.autograd.grad(to_rival.sum(), images, retain_graph=number < passes)
        to_rival = to_rival.detach()
        away, copy = _away(to_rival, gradient, dual).view(copies, -1).min(0)
        nearer = (away < distance).nonzero().squeeze(1)
        found = copy[nearer] * len(labels) + nearer
        distance[nearer], gap[nearer], normal[nearer] = away[nearer], to_rival[found], gradient[found]
    return Boundary(gap, normal, distance)


def passes_and_copies(images: int, rivals: int) -> tuple[int, int]:
    """How many backward passes find the gradients of all rivals, and how many copies of each image they need.

    With c copies there are r / c passes, each with its fixed cost, and c forward passes of all images. The total is
    smallest at c = sqrt(r `PASS_COST` / b).

    Args:
        images: b, at least 1.
        rivals: r, at least 1.
    """
    cheapest = round(math.sqrt(rivals * PASS_COST / images))
    passes = math.ceil(rivals / max(1, min(cheapest, rivals, MOST_COPIES // images)))
    return passes, math.ceil(rivals / passes)


def _gaps(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    return logits.gather(1, rivals) - logits.gather(1, labels.unsqueeze(1))


def _away(gaps: Tensor, gradients: Tensor, dual: int) -> Tensor:
    """Each hyperplane's distance, (n,); infinite where the gradient is 0, or it or the gap is not finite."""
    size = torch.linalg.vector_norm(gradients, dual, dim=(1, 2, 3))
    return torch.where((size > 0) & size.isfinite() & ~gaps.isnan(), gaps.abs() / size, torch.inf)


def to_hyperplane(points: Tensor, gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """The smallest change of each point that ends on a hyperplane, within the pixel box.

    The hyperplane is where ``gap`` + <normal, change> is 0. If the box does not reach it, the change goes to the corner
    of the box that comes nearest; where the normal is 0, so is the change.

    Every coordinate moves, at the speed |normal| for L2 and 1 for Linf, until it stops at the side of the box. By a
    given time the coordinates have closed sum_i min(slope_i time, most_i) of the gap, which is concave and piecewise
    linear. Newton's method from below is therefore exact as soon as no further coordinate stops.

    Args:
        points: (b, c, h, w), in [0, 1].
        gap: (b,).
        normal: (b, c, h, w).
        norm: The norm in which the change is smallest.

    Returns:
        The change, (b, c, h, w).

    Source:
        The problem is Eq. 4 of Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
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
