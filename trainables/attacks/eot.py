"""Expectation over transformation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from trainables.attacks.base import Attack, AttackResult, Batch, Expectation, Victim
from trainables.attacks.randomness import isolated_randomness


class EOT(Attack):
    """Another attack, on the mean of several evaluations of a model that draws at random.

    Logits, gradients and success are the mean's (`Expectation`), that of the clean images too. Each evaluation draws
    anew, so an image next to the boundary may fall by luck, the more rarely the more draws there are; and what is drawn
    for an image depends on the images beside it if the model draws for a batch.

    Args:
        attack: What is run.
        draws: Evaluations whose mean stands for one, at least 1.

    Source:
        Athalye et al. 2018, "Obfuscated gradients give a false sense of security", section 4.2.
    """

    def __init__(self, attack: Attack, draws: int) -> None:
        self.attack = attack
        self.draws = draws
        self.norms = attack.norms
        self.minimum_norm = attack.minimum_norm
        self.unit_free = attack.unit_free
        self.scale_free = attack.scale_free

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        seed: int = 0,
        logits: Tensor | None = None,
        **others: Any,
    ) -> AttackResult:
        """As `Attack.__call__`, but for ``logits``, which are asked for anew: the caller's may be of one evaluation."""
        del logits
        with isolated_randomness(seed):
            return super().__call__(Expectation(model, self.draws), images, labels, seed=seed, **others)

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """The other attack, on a victim that is the mean."""
        return self.attack.run(victim, batch, seed=seed, batch_size=batch_size)
