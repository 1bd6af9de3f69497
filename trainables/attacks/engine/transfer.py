"""Attacks by way of another model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainables.attacks.engine.attack import Attack
from trainables.attacks.engine.batch import Batch
from trainables.attacks.engine.randomness import isolated_randomness
from trainables.attacks.engine.victim import Victim, predict, rescaling, untouched


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Another attack that follows a surrogate's logits and gradients, while the victim decides which images fall.

    It asks the victim for labels alone, those of every iterate that the attack evaluates, so that an image that the
    surrogate no longer classifies correctly keeps moving until the victim misclassifies it too. Passes of both models
    count. The surrogate sees all images, including those that it gets wrong from the start.

    It has no name in configurations: a checkpoint says neither which network it holds nor what it was trained on.

    Args:
        attack: The attack to run.
        surrogate: Maps images to logits z, with the victim's classes, on its device; unchanged afterwards.

    Raises:
        ValueError: ``attack`` averages evaluations; the surrogate's average is of no use.

    Source:
        Papernot et al. 2017, "Practical black-box attacks against machine learning".
    """

    attack: Attack
    surrogate: nn.Module

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attack.eot > 1:
            raise ValueError(
                f"attack.eot must be 1 in a transfer, got {self.attack.eot}; set the transfer's own instead"
            )
        # What a class says of other attacks depends on the inner attack here.
        object.__setattr__(self, "norms", self.attack.norms)
        object.__setattr__(self, "minimum_norm", self.attack.minimum_norm)

    @property
    def unit_free(self) -> bool:
        return self.attack.unit_free

    @property
    def scale_free(self) -> bool:
        return self.attack.scale_free

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """The other attack, whose finds the victim has to confirm."""
        with untouched(self.surrogate), isolated_randomness(seed):
            probe = Victim(self.surrogate, "raw")
            logits = predict(probe.logits, batch.clean, batch_size)
            surrogate = _Surrogate(self.surrogate, victim, rescaling(logits))
            seen = replace(batch, clean_logits=logits)
            for found in self.attack.run(surrogate, seen, seed=seed, batch_size=batch_size):
                # An attack may judge by the logits that it sees, and those are the surrogate's.
                with torch.no_grad():
                    correct = victim.correct(found.images, victim.logits(found.images), found.labels)
                yield found.take(~correct)
            victim.forward_passes += probe.forward_passes + surrogate.forward_passes
            victim.backward_passes += surrogate.backward_passes


class _Surrogate(Victim):
    """The logits of one model, judged by another.

    Args:
        model: The model whose logits are seen.
        victim: The model that judges; the view is the same.
        scale: The factor of the view ``rescaled``.
    """

    def __init__(self, model: nn.Module, victim: Victim, scale: float) -> None:
        super().__init__(model, victim.view_name, scale, victim.progress)
        self.victim = victim

    @torch.no_grad()
    def correct(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the label survives on the victim, bool (n,)."""
        del logits
        return self.victim.correct(images, self.victim.logits(images), labels)
