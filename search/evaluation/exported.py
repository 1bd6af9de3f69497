"""Loads the network that was exported beside this file. The program needs torch alone."""

from __future__ import annotations

from pathlib import Path

import torch

HERE = Path(__file__).parent


def load(folder: Path = HERE) -> torch.nn.Module:
    """The network: images (n, channels, height, width), float32 in [0, 1], give logits (n, classes), for any n >= 1."""
    return torch.export.load(folder / "model.pt2").module()


def state_dict(folder: Path = HERE) -> dict[str, torch.Tensor]:
    """The weights alone, for a model of your own. Needs safetensors."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
