"""What every model provides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.registry import Component, External, Kind, external, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Model(Component):
    """An architecture.

    Args:
        embedding: Width of a linear layer without activation that `build_model` inserts before the last linear layer.
            Its outputs are then the features. None inserts none. Song et al. 2022 show features of width 3 (Figure 9).
    """

    kind: ClassVar[Kind] = "model"

    embedding: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding is not None and self.embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {self.embedding}; leave it out for none")

    def check(self, shape: Shape, classes: int) -> None:
        """Asserts that the model can be built for such images. Built-in models do not import torch for it.

        Args:
            shape: Channels, height and width of an image.
            classes: Number of classes.

        Raises:
            ValueError: It cannot.
        """
        del shape, classes

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """A model with fresh weights, drawn from torch's default CPU generator. Arguments as for ``check``.

        Returns:
            A module from images (n, *shape) to raw logits (n, classes).
        """
        raise NotImplementedError(f"{type(self).__name__} must define build")


@external
@dataclass(frozen=True, kw_only=True)
class ExternalModel(Model, External):
    """A model given by import path, such as ``torchvision.models:resnet18``.

    The factory is called with its settings and with ``num_classes``. If it has arguments of these names, then it also
    gets ``in_channels``, ``image_size`` (the height) and ``shape`` (channels, height and width).
    """

    offered: ClassVar[tuple[str, ...]] = ("num_classes", "in_channels", "image_size", "shape")
    essential: ClassVar[tuple[str, ...]] = ("num_classes",)

    def check(self, shape: Shape, classes: int) -> None:
        """Builds the model and passes two blank images through it."""
        import torch

        with torch.random.fork_rng(devices=()):
            check_logits(self.build(shape, classes), self.path, shape, classes)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from torch import nn

        try:
            model = self.call(num_classes=classes, in_channels=shape[0], image_size=shape[1], shape=shape)
        except Exception as error:  # a user's factory fails in its own way
            raise ValueError(
                f"model must be a factory that can be called, got {self.path} ({one_line(error)}); correct it"
            ) from error
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"model must be a factory of torch.nn.Module, got {self.path}, which returned {type(model).__name__}; "
                "name another"
            )
        return model


def check_logits(module: nn.Module, name: str, shape: Shape, classes: int) -> None:
    """Passes two blank images through a module on the CPU, which is left in evaluation mode.

    Args:
        name: The module's, for messages.

    Raises:
        ValueError: It does not take such images, or does not return their logits.
    """
    import torch

    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(2, *shape))
    except Exception as error:  # a user's model fails in its own way
        raise ValueError(
            f"model must take images of shape {times(shape)}, got {name}, which fails on them "
            f"({one_line(error)}); choose another model or image size"
        ) from error
    if getattr(logits, "shape", None) != (2, classes):
        returned = f"shape {times(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"model must return one logit for each of {classes} classes, got {name}, which returns {returned} "
            "for 2 images; correct the model"
        )


def build_model(model: Model, shape: Shape, classes: int, statistics: tuple[Tensor, Tensor] | None = None) -> nn.Module:
    """``model.build``, plus the embedding if there is one, with channels last in memory as in images.

    Otherwise the memory format would be the images', which is ambiguous for grey ones: an attack on LeNet-5 takes 2.3
    times as long on a CPU where torch takes them for row-major.

    If ``statistics`` (mean and standard deviation of the channels, shape (channels,) each) are given, the module first
    standardises its input.
    """
    import torch
    from torch import nn

    from trainables.models.layers.blocks import Normalization
    from trainables.models.layers.features import embed

    module = model.build(shape, classes)
    if model.embedding is not None:
        embed(module, model.embedding, classes)
    module.to(memory_format=torch.channels_last)
    if statistics is None:
        return module
    layers = module if isinstance(module, nn.Sequential) else [module]
    return nn.Sequential(Normalization(*statistics), *layers)


def times(shape: Sequence[int]) -> str:
    """A shape for people: ``3x32x32``."""
    return "x".join(map(str, shape))
