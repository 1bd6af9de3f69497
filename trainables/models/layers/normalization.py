"""Input standardisation as a layer, so that attacks work on pixels in [0, 1]."""

from __future__ import annotations

from torch import Tensor, nn


class Normalization(nn.Module):
    """Standardises each channel, (x - mean) / deviation.

    Args:
        mean: Mean of each channel, shape (channels,).
        deviation: Standard deviation of each channel, shape (channels,), above 0.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(-1, 1, 1).clone())
        self.register_buffer("deviation", deviation.reshape(-1, 1, 1).clone())

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to zero mean and unit deviation."""
        return (images - self.mean) / self.deviation
