"""Random shifts and flips of a batch, on the device where it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SHIFT = 4


def shift_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts each image by up to 4 pixels in each direction, filling with zeros, and mirrors it with probability 1/2.

    Args:
        images: Shape (n, c, h, w).
        generator: Source of the randomness, on the images' device.

    Returns:
        New images of the same shape and memory format.

    Source:
        He et al. 2016, "Deep residual learning for image recognition", section 4.2.
    """
    n, _, height, width = images.shape
    device = images.device
    corner = torch.randint(0, 2 * MOST_SHIFT + 1, (2, n, 1), generator=generator, device=device)
    flip = torch.randint(0, 2, (n, 1), generator=generator, device=device, dtype=torch.bool)
    rows = corner[0] + torch.arange(height, device=device)
    across = torch.arange(width, device=device).expand(n, width)
    columns = corner[1] + torch.where(flip, across.flip(-1), across)
    # Indexing channels-last storage keeps that format, and reads each pixel's channels together.
    padded = F.pad(images, (MOST_SHIFT,) * 4).permute(0, 2, 3, 1)
    sample = torch.arange(n, device=device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
