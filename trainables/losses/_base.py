"""What every loss provides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from trainables.registry import Component, External, Kind, external, keywords, load
from trainables.settings.space import Value

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Baseline:
    """A reference that is trained beside every search over a loss."""

    loss: str  # the name of its loss
    parameters: Mapping[str, Value] = field(default_factory=dict)  # of that loss; the others have their defaults
    note: str = ""  # what it is, for tables


@dataclass(frozen=True, kw_only=True)
class Loss(Component):
    """A training loss. Subclasses write ``value``, or ``build`` if the loss has parameters or state.

    Attributes:
        uses_features: Whether it reads the features, the input of the model's last linear layer. Without it the
            features are None.
        baselines: What a search over this loss is compared with.
    """

    kind: ClassVar[Kind] = "loss"
    uses_features: ClassVar[bool] = False
    baselines: ClassVar[tuple[Baseline, ...]] = (Baseline("cross-entropy", {}, "plain cross entropy"),)

    def check(self, classes: int) -> None:
        """Checks that the loss can be built for this number of classes. Built-in losses do so without torch.

        Raises:
            ValueError: It cannot.
        """
        del classes

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, for a loss without parameters and state.

        Args:
            features: Input of the model's last linear layer, fp32 (n, d); None unless ``uses_features``.
            logits: Output of the model, fp32 (n, k).
            labels: Classes in [0, k), (n,).
        """
        raise NotImplementedError(f"{type(self).__name__} must define value or build")

    def build(self, features: int | None, classes: int) -> nn.Module:
        """A replicate's own loss module.

        Its parameters are optimised with the model's, and its state is saved in the checkpoints. It is called as
        ``module(features, logits, labels)`` in fp32, outside autocast, and returns the mean over the batch. If it has a
        method ``head(features)``, then that returns the logits that predictions and attacks see, in place of the
        model's own.

        Args:
            features: Width of the features; None unless ``uses_features``.
            classes: Number of classes.

        Returns:
            The module, on the CPU. Its random initial values come from torch's default generator.
        """
        del features, classes
        from trainables.losses._stateless import Stateless

        return Stateless(self.value)


@external
@dataclass(frozen=True, kw_only=True)
class ExternalLoss(Loss, External):
    """A loss given by import path: a function with an argument ``labels``, or a factory of an ``nn.Module``.

    A function is called with ``logits`` and ``labels``, with ``features`` if it takes them, and with its settings. A
    factory is called once per replicate with its settings, and with ``num_classes`` and ``features`` (the width) if it
    takes them. Either reads features only if it has an argument of that name.
    """

    offered: ClassVar[tuple[str, ...]] = ("num_classes", "features", "logits", "labels")

    @property
    def uses_features(self) -> bool:  # type: ignore[override]  # a class attribute elsewhere
        return self._has_argument("features")

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = self.call(features=features, logits=logits, labels=labels)
        return value

    def build(self, features: int | None, classes: int) -> nn.Module:
        if self._has_argument("labels"):
            return super().build(features, classes)
        from torch import nn

        module = self.call(features=features, num_classes=classes)
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"loss must be a factory of torch.nn.Module, got {self.path}, which returned {type(module).__name__}; "
                "name another"
            )
        return module

    def _has_argument(self, name: str) -> bool:
        return name in (keywords(load(self.path)) or ())
