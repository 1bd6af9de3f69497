"""An attack that tries random directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def random_directions(draws: int = 5) -> Callable[..., Tensor]:
    """Tries ``draws`` random directions for each image, and keeps the one with the lowest logit of the true class."""

    def attack(model: nn.Module, images: Tensor, labels: Tensor, *, radius: float, norm: str, seed: int) -> Tensor:
        assert norm == "l2"
        generator = torch.Generator().manual_seed(seed)
        best, worst = images.clone(), torch.full((len(images),), torch.inf)
        for _ in range(draws):
            direction = torch.randn(images.shape, generator=generator)
            direction /= direction.flatten(1).norm(dim=1)[:, None, None, None]
            moved = (images + radius * direction).clamp(0, 1)
            with torch.no_grad():
                logit = model(moved).gather(1, labels[:, None]).squeeze(1)
            better = logit < worst
            best[better], worst[better] = moved[better], logit[better]
        return best

    return attack
