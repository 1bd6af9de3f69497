"""The model as an attack sees it, also an attack of others, and how model and process are left as they were."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks.engine.attack import Batch, Progress
from trainables.logits import normalize_logits
from trainables.settings.threat import View

RESCALED_NORM: Final = 10.0  # of clean logits in the view ``rescaled``: a softmax neither flat nor saturated


class Victim(nn.Module):
    """The model as an attack sees it: called, it returns logits in one view. It counts the images that pass.

    The view is ``normalized``, f = z / ||z||, ``raw``, z, or ``rescaled``, z times the attribute ``scale``. For a model
    that draws from the global random states, z is the mean of several draws: of logits, not softmaxes, so that a model
    without randomness keeps its logits in every view.

    Source:
        Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of security" (EOT).
    """

    def __init__(self, model: nn.Module, seen: View, draws: int = 1, progress: Progress | None = None) -> None:
        super().__init__()
        self.model = model
        self.seen: View = seen
        self.draws = draws
        self.scale = 1.0
        self.progress = progress or (lambda _: None)
        self.forward_passes = 0
        self.backward_passes = 0

    def logits(self, images: Tensor) -> Tensor:
        """The raw logits z (n, k). They decide, because rounding can tie two entries of f whose z differ."""
        self.forward_passes += self.draws * len(images)
        logits: Tensor = self.model(images)
        if self.draws > 1:
            logits = torch.stack([logits, *(self.model(images) for _ in range(self.draws - 1))]).mean(0)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def view(self, logits: Tensor) -> Tensor:
        """Raw logits as the attack sees them, (n, k)."""
        if self.seen == "normalized":
            return normalize_logits(logits)
        return logits * self.scale if self.seen == "rescaled" else logits

    def forward(self, images: Tensor) -> Tensor:
        return self.view(self.logits(images))

    def correct(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the label survives, bool (n,), given what ``logits`` returned for the images."""
        del images
        return logits.argmax(1) == labels

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += self.draws * len(gradient)


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
    """Evaluation mode, frozen parameters and no TF32 inside; as before afterwards.

    Only the gradient of the input is of use. By default torch lets a GPU's convolutions round their inputs to TF32, 10
    bits. Training may gain from that; attacks and verdicts compute in full fp32, as on a CPU.
    """
    cudnn = torch.backends.cudnn
    rounds = cudnn.allow_tf32
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        cudnn.allow_tf32 = False
        model.eval()
        model.requires_grad_(False)
        yield
    finally:
        cudnn.allow_tf32 = rounds
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad = flag


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seeds every global random state (Python, numpy, torch on all devices) inside and restores it afterwards."""
    # If CUDA was never used, it has no state yet, and reading it would start a context on every device.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def judged(
    perturb: Callable[..., Any], victim: Victim, batch: Batch, seed: int, batch_size: int, *, project: bool
) -> Iterator[Batch]:
    """Broken images among those that ``perturb`` makes of the model, in evaluation mode, and one batch after another.

    The global random states are seeded for each batch, so an image's outcome depends on the images next to it. Images
    outside the ball are brought back to it if ``project`` is set; otherwise the clean image stands for them.
    """
    parts = batch.split(batch_size)
    for done, part in enumerate(parts, start=1):
        with isolated_randomness(seed):
            # In evaluation mode as a whole: torchattacks would otherwise leave it in training mode.
            images = perturb(_PlainLayout(victim).eval(), part)
        shape, got = tuple(part.clean.shape), tuple(images.shape)
        if got != shape:
            raise ValueError(f"an attack must return images of shape {shape}, got {got}; correct it")
        images = images.detach().to(part.clean)
        if project:
            images = part.ball.project(images, part.clean)
        else:
            images = images.clamp(0.0, 1.0)
            inside = part.ball.holds(part.ball.distance(images, part.clean))
            images = torch.where(inside.view(-1, 1, 1, 1), images, part.clean)
        with torch.no_grad():
            correct = victim.correct(images, victim.logits(images), part.labels)
        yield replace(part, images=images).take(~correct)
        victim.progress(done / len(parts))


class _PlainLayout(nn.Module):
    """Hands out row-major gradients: others' attacks call ``view`` on them, which fails on channels_last ones."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, images: Tensor) -> Tensor:
        images = images.view_as(images)
        if images.requires_grad:
            images.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        logits: Tensor = self.victim(images)
        return logits
