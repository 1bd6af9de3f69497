"""SimBA as in its paper: one image, one query, one direction at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks.simba import Basis
from trainables.logits import normalize_logits
from trainables.settings import View


class NaiveOutcome(NamedTuple):
    """What became of one image.

    Args:
        image: The last candidate that was asked about if it is misclassified, else the image so far, (1, c, h, w).
        broken: Whether it is misclassified.
        queries: Candidates.
        known: Of these, candidates that the box clips back to the image so far.
    """

    image: Tensor
    broken: bool
    queries: int
    known: int


@torch.no_grad()
def naive_simba(
    model: nn.Module,
    clean: Tensor,
    label: int,
    order: list[int],
    *,
    radius: float,
    queries: int,
    step: float,
    basis: Basis = "pixel",
    view: View = "raw",
) -> NaiveOutcome:
    """The attack of Guo et al. 2019 on an image (1, c, h, w) that the model gets right, its result capped in L2."""
    image = clean
    logits = model(image)
    probability = _probability(logits, label, view)
    asked = known = 0
    while True:
        for direction in order:
            change = step * _direction(direction, clean, basis)
            for sign in (1, -1):
                if asked == queries:
                    return NaiveOutcome(image, False, asked, known)
                candidate = image + sign * change
                known += torch.equal(candidate.clamp(0, 1), image)
                candidate = clean + (candidate - clean) * min(1.0, radius / float((candidate - clean).norm()))
                candidate = candidate.clamp(0, 1)
                logits = model(candidate)
                asked += 1
                if int(logits.argmax(1)) != label:
                    return NaiveOutcome(candidate, True, asked, known)
                fallen = _probability(logits, label, view)
                if fallen < probability:
                    image, probability = candidate, fallen
                    break


def _probability(logits: Tensor, label: int, view: View) -> float:
    seen = normalize_logits(logits) if view == "normalized" else logits
    return float(seen.double().softmax(1)[0, label])


def _direction(number: int, image: Tensor, basis: Basis) -> Tensor:
    _, _, height, width = image.shape
    channel, y, x = np.unravel_index(number, image.shape[1:])
    direction = torch.zeros_like(image)
    if basis == "pixel":
        direction[0, channel, y, x] = 1
        return direction
    for i in range(height):
        for j in range(width):
            direction[0, channel, i, j] = math.cos(math.pi / height * (i + 0.5) * y) * math.cos(
                math.pi / width * (j + 0.5) * x
            )
    return direction / direction.norm()
