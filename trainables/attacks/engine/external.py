"""An attack of the user's own that is a plain function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.attacks.engine.attack import Attack
from trainables.registry import External, external

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.attacks.engine.batch import Batch
    from trainables.attacks.engine.victim import Victim


@external
@dataclass(frozen=True, kw_only=True)
class ExternalAttack(Attack, External):
    """A factory of the user's own that makes an attack.

    Called with its settings, the factory returns a callable ``(model, images, labels, *, radius, norm, seed) ->
    adversarial images``. ``model`` maps images (b, c, h, w) to the logits (b, k) of the view, in evaluation mode. The
    images that come back are projected into ball and box and judged here, so such an attack cannot claim more than it
    achieves. The global random states are seeded for it.
    """

    judged_at_end: ClassVar[bool] = True

    @property
    def description(self) -> str:
        """The factory's name and its settings."""
        return "-".join([self.path.rpartition(":")[2], *(f"{key}={value}" for key, value in self.arguments.items())])

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        from trainables.attacks.engine.foreign import judged

        attack = self.call()
        if not callable(attack):
            raise ValueError(
                f"robustness.attacks must name factories of attacks, got {self.path}, which returned "
                f"{type(attack).__name__}; return a callable"
            )

        def perturb(model: nn.Module, part: Batch) -> Tensor:
            images, labels = part.clean.clone().contiguous(), part.labels.clone()
            found: Tensor = attack(model, images, labels, radius=part.radius, norm=part.ball.norm, seed=seed)
            return found

        return judged(perturb, victim, batch, seed=seed, batch_size=batch_size, project=True)
