"""Loads the exported network in this folder. The program needs only torch."""

from __future__ import annotations

from pathlib import Path

import torch

HERE = Path(__file__).parent


def load(folder: Path = HERE) -> torch.nn.Module:
    """The network: maps images (n, channels, height, width), float32 in [0, 1], to logits (n, classes), for n >= 1."""
    return torch.export.load(folder / "model.pt2").module()


def state_dict(folder: Path = HERE) -> dict[str, torch.Tensor]:
    """The weights only, for use in your own model. Needs safetensors."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
