"""Decision boundaries as the gradients of the logits draw them: what attacks of minimum norm walk towards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trainables.settings import Norm

# Images times rivals up to which one pass of copies is taken for quicker than a backward pass for each rival. On one
# processor it is, up to 200 with LeNet-5, up to 27 with the eight-layer CNN, and ResNet-32 has nothing to gain.
MOST_COPIES: Final = 48


@dataclass(frozen=True)
class Boundary:
    """One hyperplane an image: where the linearised logit of a rival class draws level with the label's.

    Args:
        gap: The rival's logit less the label's at the image, (b,); below 0 where the label is ahead.
        normal: The gradient of ``gap``, (b, c, h, w).
        distance: How far the hyperplane lies from the image in the norm, whatever the pixel box, (b,); infinite where
            the gradients of all rivals are 0 or not finite, and there ``gap`` and ``normal`` are 0.
    """

    gap: Tensor
    normal: Tensor
    distance: Tensor


def likeliest_rivals(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The classes beside the label that have the largest logits, in this order.

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

    Few images go through in one pass, a copy of each for each rival: what a pass costs by itself is paid once. Of more
    images each rival's gradient is a backward pass of its own through one graph. (vmap knows neither every model nor
    how many images went backward.)

    Args:
        logits: From images (b, c, h, w) to logits in the attack's view, (b, k).
        images: (b, c, h, w).
        labels: (b,).
        rivals: Classes other than the label, (b, r).
        norm: Of the distance.
    """
    search = _by_copies if rivals.numel() <= MOST_COPIES else _by_column
    return search(logits, images, labels, rivals, 2 if norm == "l2" else 1)


def _by_copies(
    logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, rivals: Tensor, dual: int
) -> Boundary:
    """All from one pass."""
    count = rivals.shape[1]
    copies = images.detach().repeat(count, 1, 1, 1).requires_grad_()
    gaps = _gaps(logits(copies), labels.repeat(count), rivals.t().reshape(-1, 1))
    (gradients,) = torch.autograd.grad(gaps.sum(), copies)
    gaps = gaps.detach().flatten()
    distance, column = _away(gaps, gradients, dual).view(count, -1).min(0)
    nearest = column * len(images) + torch.arange(len(images), device=images.device)
    found = distance.isfinite()
    gap, normal = gaps[nearest], gradients[nearest]
    return Boundary(torch.where(found, gap, 0), torch.where(found.view(-1, 1, 1, 1), normal, 0), distance)


def _by_column(
    logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, rivals: Tensor, dual: int
) -> Boundary:
    """A backward pass for each column of rivals, through one graph, and one gradient kept."""
    images = images.detach().requires_grad_()
    gaps = _gaps(logits(images), labels, rivals)
    gap, distance = torch.zeros_like(gaps[:, 0]), torch.full_like(gaps[:, 0], torch.inf)
    normal = torch.zeros_like(images)
    for column, to_rival in enumerate(gaps.unbind(1), start=1):
        (gradient,) = torch.autograd.grad(to_rival.sum(), images, retain_graph=column < rivals.shape[1])
        away = _away(to_rival.detach(), gradient, dual)
        nearer = away < distance
        gap = torch.where(nearer, to_rival.detach(), gap)
        distance = torch.where(nearer, away, distance)
        normal = torch.where(nearer.view(-1, 1, 1, 1), gradient, normal)
    return Boundary(gap, normal, distance)


def _gaps(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    return logits.gather(1, rivals) - logits.gather(1, labels.unsqueeze(1))


def _away(gaps: Tensor, gradients: Tensor, dual: int) -> Tensor:
    """How far each hyperplane lies, (n,); infinite where the gradient is 0, or it or the gap is no number."""
    size = torch.linalg.vector_norm(gradients, dual, dim=(1, 2, 3))
    return torch.where((size > 0) & size.isfinite() & ~gaps.isnan(), gaps.abs() / size, torch.inf)


def to_hyperplane(points: Tensor, gap: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """The smallest change of each point that ends on a hyperplane, within the pixel box.

    The hyperplane is where ``gap`` + <normal, change> is 0. Where the box does not reach it, the change goes to the
    corner of the box that comes nearest; where the normal is 0, so is the change.

    Every coordinate moves, at the speed |normal| for L2 and 1 for Linf, until it stops at the side of the box. What the
    coordinates have made up for at a time is sum_i min(slope_i time, most_i), concave and piecewise linear. So Newton's
    method, from below, is exact as soon as no further coordinate stops.

    Args:
        points: (b, c, h, w), in [0, 1].
        gap: (b,).
        normal: (b, c, h, w).
        norm: In which the change is the smallest.

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
        # Never back, which rounding could ask for; NaN where nothing moves any more.
        time = torch.maximum(time, (gap.abs() - made_up) / rate)
        path = speed * time.view(-1, 1, 1, 1)
        stopping = moving & (path >= room)
        if not stopping.any():
            return direction.sign() * torch.where(moving, path, torch.where(moves, room, 0))
        moving = moving & ~stopping
        made_up = torch.where(moves & ~moving, most, 0).sum((1, 2, 3))
