"""Gradients through rounding: the backward pass differentiable approximation (BPDA)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Functions whose derivative is 0 almost everywhere, although they follow their input overall.
_NAMES: Final = ("round", "floor", "ceil", "trunc", "fix", "sign")
_STEPS: Final = frozenset(getattr(owner, name) for owner in (torch, Tensor) for name in _NAMES)
_IN_PLACE: Final[Mapping[Any, Any]] = {getattr(Tensor, f"{name}_"): getattr(torch, name) for name in _NAMES}


class StraightThrough(nn.Module):
    """A model whose rounding passes gradients: the same logits, with the identity as the derivative of step functions.

    Step functions are torch's ``round``, ``floor``, ``ceil``, ``trunc`` (``fix``) and ``sign``, as functions, methods
    and in place. Conversions to integers and steps inside compiled code are not replaced.

    Args:
        model: Any module.

    Source:
        Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of security" (BPDA).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with _IdentityBackward():
            logits: Tensor = self.model(images)
        return logits


class _IdentityBackward(TorchFunctionMode):
    """Gives every step function inside the block the derivative of the identity."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in _STEPS:
            return _Identity.apply(args[0], func(*args, **kwargs))
        if func in _IN_PLACE:
            source = args[0].clone()
            stepped = _IN_PLACE[func](source, *args[1:], **kwargs)
            return args[0].copy_(_Identity.apply(source, stepped))
        return func(*args, **kwargs)


class _Identity(torch.autograd.Function):
    """The value of a step function with the derivative of the identity; unlike ``x + (step - x).detach()``, exact."""

    @staticmethod
    def forward(context: Any, source: Tensor, stepped: Tensor) -> Tensor:
        del context, source
        return stepped.clone()

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        del context
        return gradients[0], None
