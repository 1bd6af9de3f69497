"""Weights that were trained elsewhere, in a file of ``torch.save``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from trainables.models import times

# What a training script may put around a state dict, and what wrappers (DataParallel, torch.compile, a model in a
# model) put before its keys.
_ENTRIES: Final = ("state_dict", "model_state_dict", "model")
_PREFIXES: Final = ("module.", "_orig_mod.", "model.")

_SHOWN: Final = 3  # names of tensors in a message
_REMEDY: Final = "save torch.save(model.state_dict(), FILE)"

Weights = dict[str, Tensor]


def read_weights(path: Path) -> Weights:
    """The state dict in a file, its tensors on the CPU; also where it is an entry of a training's checkpoint.

    The file is loaded with ``weights_only=True``, so that a file from elsewhere cannot run code.

    Raises:
        ValueError: There is no such file, or no state dict in it.
    """
    if not path.is_file():
        raise ValueError(f"must be a file, got {path}; correct the path")
    if path.suffix == ".safetensors":
        pt = path.with_suffix(".pt")
        remedy = f"convert it with torch.save(safetensors.torch.load_file('{path}'), '{pt}')"
        raise ValueError(f"must be a file of torch.save, got {path}; {remedy}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # other bytes surface as any error of zip, pickle or torch
        raise ValueError(f"must be a state dict, got {path}, which cannot be read as one; {_REMEDY}") from error
    while isinstance(content, Mapping) and (entry := next((name for name in _ENTRIES if name in content), None)):
        if not isinstance(content[entry], Mapping):
            break
        content = content[entry]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"must be a state dict, got {path} with a {type(content).__name__}; {_REMEDY}")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"must be a state dict, got {path} whose {name} is a {type(value).__name__}; {_REMEDY}")
    return dict(content)


def put_in(module: nn.Module, weights: Weights, name: str) -> None:
    """Loads a state dict into a module, without the prefixes of wrappers that the module does not have.

    Args:
        name: The module's, for messages.

    Raises:
        ValueError: Tensors are missing or left over, or have other shapes; the module may have some of the others then.
    """
    own = module.state_dict()
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in weights)), None):
        if any(key.startswith(prefix) for key in own):
            break
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    for key, value in weights.items():
        if key in own and own[key].shape != value.shape:
            raise ValueError(
                f"must fit {name}, got {key} of shape {_shape(value)} where the module has {_shape(own[key])}; "
                "name the factory, data set and options of the training"
            )
    result = module.load_state_dict(weights, strict=False)
    faults = [
        f"{len(keys)} of its tensors {what} ({_listed(keys)})"
        for what, keys in (("missing", result.missing_keys), ("unknown to it", result.unexpected_keys))
        if keys
    ]
    if faults:
        raise ValueError(f"must fit {name}, got weights with {' and '.join(faults)}; name the factory of the training")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _shape(tensor: Tensor) -> str:
    return times(tensor.shape) or "()"
