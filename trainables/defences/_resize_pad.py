"""A model behind random resizing and padding; in a file of its own, because it needs torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResizePad(nn.Module):
    """A model that gets its images randomly enlarged and padded; settings as for `RandomResizePad`.

    It draws from torch's global generator of the images' device.
    """

    def __init__(self, model: nn.Module, padding: int, draws: int) -> None:
        super().__init__()
        self.model = model
        self.padding = padding
        self.draws = draws

    def forward(self, images: Tensor) -> Tensor:
        """The mean logits over the draws, (n, k)."""
        logits = [self.model(resize_and_pad(images, self.padding)) for _ in range(self.draws)]
        return torch.stack(logits).mean(0)


def resize_and_pad(images: Tensor, padding: int) -> Tensor:
    """Images (n, c, h, w) enlarged at random and padded with zeros to h + ``padding`` and w + ``padding``.

    Rows and columns are selected by matrix products, which are exact, differentiable and reproducible.

    Args:
        padding: At least 1.
    """
    n, _, height, width = images.shape
    growth = torch.randint(min(1, padding - 1), padding, (n, 1), device=images.device)
    sides = [_enlargement(size, growth, padding).to(images) for size in (height, width)]
    with torch.autocast(images.device.type, enabled=False):
        padded = sides[0].unsqueeze(1) @ images @ sides[1].unsqueeze(1).transpose(2, 3)
    return padded.contiguous(memory_format=torch.channels_last)


def _enlargement(size: int, growth: Tensor, padding: int) -> Tensor:
    """The source pixel of each padded pixel along one side, as 0/1 matrices (n, size + padding, size).

    ``growth`` (n, 1) is the number of pixels by which each image is enlarged. The position is drawn at random.
    """
    start = (torch.rand(growth.shape, device=growth.device) * (padding - growth + 1)).long()
    place = torch.arange(size + padding, device=growth.device) - start
    pixel = place * size // (size + growth)  # the nearest neighbour, as torch and TensorFlow round it
    inside = (place >= 0) & (place < size + growth)
    return nn.functional.one_hot(pixel.clamp(0, size - 1), size) * inside.unsqueeze(2)
