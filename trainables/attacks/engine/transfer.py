"""Attacks by way of another model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.attacks.base import Attack, Batch, Victim, predict, rescaling, untouched
from trainables.attacks.eot import EOT
from trainables.attacks.randomness import isolated_randomness


class Transfer(Attack):
    """Another attack that follows a surrogate's logits and gradients, while the victim says who has fallen.

    Of the victim it asks for labels alone, those of every iterate that the attack looks at, so that an image the
    surrogate no longer gets right goes on moving until the victim gets it wrong too. Passes of both models count. The
    surrogate sees all images, those it gets wrong from the start too.

    It has no name in configurations: a checkpoint says neither which network it holds nor what it was trained on.

    Args:
        attack: What is run.
        surrogate: Maps images to logits z, with the victim's classes, on its device; as it was found afterwards.

    Raises:
        ValueError: The attack is EOT, which averages the model that it is called on.

    Source:
        Papernot et al. 2017, "Practical black-box attacks against machine learning".
    """

    def __init__(self, attack: Attack, surrogate: nn.Module) -> None:
        if isinstance(attack, EOT):
            raise ValueError("attack must not be EOT, got one; write EOT(Transfer(...)) to average the victim")
        self.attack = attack
        self.surrogate = surrogate
        self.norms = attack.norms
        self.minimum_norm = attack.minimum_norm
        self.unit_free = attack.unit_free
        self.scale_free = attack.scale_free

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
        model: Whose logits are seen.
        victim: Who judges; the view is the same.
        scale: Of the view ``rescaled``.
    """

    def __init__(self, model: nn.Module, victim: Victim, scale: float) -> None:
        super().__init__(model, victim.view_name, scale, victim.progress)
        self.victim = victim

    @torch.no_grad()
    def correct(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the label survives on the victim, bool (n,)."""
        del logits
        return self.victim.correct(images, self.victim.logits(images), labels)
