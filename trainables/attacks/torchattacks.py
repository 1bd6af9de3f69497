"""Any attack of torchattacks by name, judged by our ball and leaving no trace."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from trainables.attacks.base import Attack, Batch, Victim
from trainables.attacks.randomness import isolated_randomness
from trainables.settings import TORCHATTACKS_PREFIX, nearest

# What torchattacks calls the norms.
_NORMS: Final = {"l2": "L2", "linf": "Linf"}


class Torchattacks(Attack):
    """One class of torchattacks.

    ``norm``, ``eps=radius``, ``n_classes`` and ``seed`` are passed where the constructor has them and the options do
    not. What comes back is clipped to [0, 1] and counts only inside the ball: an attack that knows another norm alone
    (FGSM and PGD know no L2) runs, and breaks only what it happens to break within the ball. NaN counts as not broken.

    Attacks that draw at random draw for a whole batch, so an image's outcome depends on the images beside it.

    Args:
        name: ``torchattacks.NAME``.
        options: Keyword arguments of the class's constructor.

    Raises:
        ValueError: The class takes no such argument.
    """

    def __init__(self, name: str, options: Mapping[str, float | int | bool | str] | None = None) -> None:
        import torchattacks  # only who asks for one of its attacks pays for the import

        self._attack_class: Any = getattr(torchattacks, name.removeprefix(TORCHATTACKS_PREFIX))
        self._options = dict(options or {})
        known = [parameter for parameter in inspect.signature(self._attack_class).parameters if parameter != "model"]
        for option in self._options:
            if option not in known:
                remedy = nearest(option, known) if known else "it takes none"
                raise ValueError(f"options must be arguments of {name}, got {option}; {remedy}")
        self._known = known

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Run the attack on one batch after another, each from the same seed."""
        parts = batch.split(batch_size)
        for done, part in enumerate(parts, start=1):
            found = self._perturb(victim, part, seed).clamp(0.0, 1.0)
            inside = part.ball.holds(part.ball.distance(found, part.clean))
            found = torch.where(inside.view(-1, 1, 1, 1), found, part.clean)
            with torch.no_grad():
                correct = victim.correct(found, victim.logits(found), part.labels)
            yield replace(part, images=found).take(~correct)
            victim.progress(done / len(parts))

    def _perturb(self, victim: Victim, batch: Batch, seed: int) -> Tensor:
        with _quiet(), isolated_randomness(seed):
            norm = _NORMS[batch.ball.norm]
            given = {"norm": norm, "eps": batch.radius, "n_classes": batch.clean_logits.shape[1], "seed": seed}
            arguments = {name: value for name, value in given.items() if name in self._known} | self._options
            # In evaluation mode as a whole, or torchattacks would leave it, and the model inside, in training mode.
            attack = self._attack_class(_PlainLayout(victim).eval(), **arguments)
            attack.set_device(batch.clean.device)
            found: Tensor = attack(batch.clean.contiguous(), batch.labels.clone())
        return found.detach()


class _PlainLayout(nn.Module):
    """Hands torchattacks row-major gradients: it calls ``view`` on them, which a channels_last one refuses."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.victim(_RowMajorGradient.apply(images))
        return logits


class _RowMajorGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # noqa: ARG004
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.contiguous()


@contextmanager
def _quiet() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
