"""Attacks by way of another model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainables.attacks.engine.attack import Attack, Batch
from trainables.attacks.engine.victim import Victim, isolated_randomness, predict, rescaling, untouched


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Another attack that follows a surrogate's logits and gradients, while the victim decides which images fall.

    It asks the victim for labels alone, those of every iterate that the attack evaluates, so that an image that the
    surrogate no longer classifies correctly keeps moving until the victim misclassifies it too. Passes of both models
    count. The surrogate sees all images, including those that it gets wrong from the start. It maps images to logits z,
    with the victim's classes, on its device, and is unchanged afterwards.

    It has no name in configurations: a checkpoint says neither which network it holds nor what it was trained on.

    Source:
        Papernot et al. 2017, "Practical black-box attacks against machine learning".
    """

    attack: Attack
    surrogate: nn.Module

    def __post_init__(self) -> None:
        super().__post_init__()
        # What a class says of other attacks depends on the inner attack here.
        for name in ("norms", "minimum_norm", "invariance"):
            object.__setattr__(self, name, getattr(self.attack, name))

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        surrogate = _Surrogate(self.surrogate, victim)
        with untouched(self.surrogate), isolated_randomness(seed):
            logits = predict(surrogate.logits, batch.clean, batch_size)
            surrogate.scale = rescaling(logits)
            seen = replace(batch, clean_logits=logits)
            for broken in self.attack.run(surrogate, seen, seed=seed, batch_size=batch_size):
                # An attack may judge by the logits that it sees, and those are the surrogate's.
                with torch.no_grad():
                    correct = victim.correct(broken.images, victim.logits(broken.images), broken.labels)
                yield broken.take(~correct)
            victim.forward_passes += surrogate.forward_passes
            victim.backward_passes += surrogate.backward_passes


class _Surrogate(Victim):
    """The logits of one model, in the victim's view, judged by the victim."""

    def __init__(self, model: nn.Module, victim: Victim) -> None:
        super().__init__(model, victim.seen, progress=victim.progress)
        self.victim = victim

    @torch.no_grad()
    def correct(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        del logits
        return self.victim.correct(images, self.victim.logits(images), labels)
