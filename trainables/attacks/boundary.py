"""Decision boundaries as the gradients of the logits draw them: what attacks of minimum norm walk towards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.settings import Norm


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


def nearest_boundary(logits: Tensor, images: Tensor, labels: Tensor, rivals: Tensor, norm: Norm) -> Boundary:
    """The nearest hyperplane of each image among those of its rivals.

    One backward pass a column of rivals goes through one graph and keeps one gradient. A single pass through a copy of
    each image a rival takes 1.5 times as long on one processor (LeNet-5, 128 images, 9 rivals), and vmap knows neither
    every model nor how many images went backward.

    Args:
        logits: In the attack's view, (b, k), with their graph.
        images: What the logits are of, (b, c, h, w).
        labels: (b,).
        rivals: Classes other than the label, (b, r).
        norm: Of the distance.
    """
    gaps = logits.gather(1, rivals) - logits.gather(1, labels.unsqueeze(1))
    dual = 2 if norm == "l2" else 1
    gap, distance = torch.zeros_like(labels, dtype=gaps.dtype), torch.full_like(labels, torch.inf, dtype=gaps.dtype)
    normal = torch.zeros_like(images)
    for column, to_rival in enumerate(gaps.unbind(1), start=1):
        (gradient,) = torch.autograd.grad(to_rival.sum(), images, retain_graph=column < rivals.shape[1])
        size = torch.linalg.vector_norm(gradient, dual, dim=(1, 2, 3))
        there = torch.where(size > 0, to_rival.detach().abs() / size, torch.inf)
        nearer = (there < distance) & size.isfinite()
        gap = torch.where(nearer, to_rival.detach(), gap)
        distance = torch.where(nearer, there, distance)
        normal = torch.where(nearer.view(-1, 1, 1, 1), gradient, normal)
    return Boundary(gap, normal, distance)


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
