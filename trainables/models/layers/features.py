"""The features of a model: the input of its last linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

_NONE: Final = (
    "model must end in a torch.nn.Linear with one output per class for a loss that uses features and for an embedding, "
    "got a model without one; choose another model or loss"
)


@dataclass(frozen=True, eq=False)
class Features:
    """Where a model's features are."""

    model: nn.Module  # from images to logits
    classifier: nn.Linear  # its last linear layer

    def pass_through(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d) and logits (n, k) of images, in one pass through the model."""
        captured: list[Tensor] = []
        # The hook lives only within this call, so that the model holds no state between calls.
        with self.classifier.register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0])):
            logits: Tensor = self.model(images)
        if not captured or captured[-1].dim() != 2:  # the layer is not used, or not once per image
            raise ValueError(_NONE)
        return captured[-1], logits


def features_of(model: nn.Module, classes: int) -> Features:
    """Finds a model's features.

    Raises:
        ValueError: No linear layer of the model has ``classes`` outputs.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    if not layers:
        raise ValueError(_NONE)
    return Features(model, layers[-1])


def embed(model: nn.Module, width: int, classes: int) -> None:
    """Inserts a linear layer with ``width`` outputs before a model's last linear layer, which is replaced.

    Raises:
        ValueError: No linear layer of the model has ``classes`` outputs.
    """
    classifier = features_of(model, classes).classifier
    name = next(name for name, module in model.named_modules() if module is classifier)
    parent, _, own = name.rpartition(".")
    bias = classifier.bias is not None
    layers = [nn.Linear(classifier.in_features, width, bias=bias), nn.Linear(width, classes, bias=bias)]
    model.get_submodule(parent).register_module(own, nn.Sequential(*layers))
