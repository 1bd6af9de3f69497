"""The model as an attack sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from trainables.logits import normalize_logits
from trainables.settings.threat import View

# The mean norm of the clean images' logits in the view ``rescaled``: a softmax that is neither flat nor saturated.
RESCALED_NORM: Final = 10.0


class Expectation(nn.Module):
    """The average of a model that draws at random: the mean of its logits z over several evaluations.

    It averages logits, not softmaxes, so that a model without randomness keeps its logits in every view.

    Args:
        model: Draws again at each evaluation, from the global random states.
        draws: Number of evaluations, at least 1.

    Source:
        Athalye et al. 2018, "Obfuscated gradients give a false sense of security", section 4.2 (expectation over
        transformation).
    """

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model = model
        self.draws = draws

    def forward(self, images: Tensor) -> Tensor:
        """The mean logits, (n, k)."""
        return torch.stack([self.model(images) for _ in range(self.draws)]).mean(0)


class Victim(nn.Module):
    """The model as an attack sees it: logits in one view, with a count of the images that pass.

    Args:
        model: Maps images (n, c, h, w) to logits z (n, k).
        view: The logits that ``forward`` returns: ``normalized`` f = z / ||z||, ``raw`` z, or ``rescaled``, z * scale.
        scale: The factor of the view ``rescaled``.
        progress: Receives the completed fraction of the attack.
    """

    def __init__(
        self, model: nn.Module, view: View, scale: float = 1.0, progress: Callable[[float], None] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.view_name = view
        self.view: Callable[[Tensor], Tensor] = {
            "normalized": normalize_logits,
            "raw": lambda logits: logits,
            "rescaled": lambda logits: logits * scale,
        }[view]
        self.progress = progress or (lambda _: None)
        self._draws = model.draws if isinstance(model, Expectation) else 1
        self.forward_passes = 0
        self.backward_passes = 0

    def logits(self, images: Tensor) -> Tensor:
        """The raw logits z (n, k). They decide, because rounding can tie two entries of f whose z differ."""
        self.forward_passes += self._draws * len(images)
        logits: Tensor = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """The logits in the view, (n, k)."""
        return self.view(self.logits(images))

    def correct(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the label survives, bool (n,).

        Args:
            images: (n, c, h, w).
            logits: What ``logits`` returned for them, (n, k).
            labels: True labels, (n,).
        """
        del images
        return logits.argmax(1) == labels

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += self._draws * len(gradient)


def rescaling(logits: Tensor) -> float:
    """The constant that gives logits (n, k) a mean L2 norm of `RESCALED_NORM`; 1 if all of them are 0."""
    norm = float(torch.linalg.vector_norm(logits.double(), dim=1).mean())
    return RESCALED_NORM / norm if norm > 0 else 1.0


@torch.no_grad()
def predict(logits: Callable[[Tensor], Tensor], images: Tensor, batch_size: int) -> Tensor:
    """Logits (n, k) of images (n, c, h, w), computed in batches and without a graph."""
    return torch.cat([logits(part) for part in torch.split(images, batch_size)])


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; modes and flags as before afterwards.

    Parameters are frozen because attacks need the gradient of the input alone.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad = flag
