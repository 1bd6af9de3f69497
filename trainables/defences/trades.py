"""TRADES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from trainables.defences import Defence, check_radius
from trainables.logits import at_least_single
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_START: Final = 0.001  # standard deviation of the noise that the attack starts with, in pixel units


@register("trades")
@dataclass(frozen=True, kw_only=True)
class TRADES(Defence):
    """The training loss on clean images plus beta times the divergence of the predictions on attacked images.

    The divergence is KL(p(x) || p(x')) of the softmax of the deciding logits, in nats; gradients flow through both
    sides. The attack maximises it in evaluation mode, starting from slight noise, in steps of length 2.5 epsilon /
    steps. The authors' steps add up to 1.3 epsilon on MNIST and 2.3 epsilon on CIFAR-10. The first term is the
    configured training loss, which need not be cross entropy.

    Args:
        beta: Weight of the divergence, the authors' 1 / lambda; 0 turns the defence off.
        epsilon: Radius of the ball in pixel units (pixels lie in [0, 1]).
        steps: Gradient steps of the attack.
        norm: The ball's norm.
    """

    # The authors' code (yaodongyu/TRADES) on MNIST; on CIFAR-10 beta is 6, epsilon 0.031 with 10 steps.
    beta: float = searched(1.0, Range(low=0, high=20))
    epsilon: float = searched(0.3, Range(low=0, high=10))
    steps: int = searched(40, Range(low=1, high=1000, integer=True))
    norm: Literal["l2", "linf"] = "linf"

    keeps_best: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan 2019, "
        '"Theoretically principled trade-off between robustness and accuracy"'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.epsilon, self.norm)

    @property
    def passes(self) -> int:
        # The divergence takes the clean images once more and the attacked ones; the attack starts with a forward pass.
        return super().passes + (5 + 2 * self.steps if self.beta > 0 and self.epsilon > 0 else 0)

    def training_loss(
        self, model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        value: Tensor = loss(images, labels)
        if self.beta == 0 or self.epsilon == 0:
            return value
        adversarial = self._attacked(model, images, generator)
        divergence = _divergence(model(images), model(adversarial)) / len(images)
        return value + self.beta * divergence

    def _attacked(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        from trainables.attacks.engine.ball import Ball
        from trainables.defences._ascent import ascend, in_evaluation_mode

        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        with in_evaluation_mode(model):
            with torch.no_grad():
                clean = model(images)
            ball = Ball(self.epsilon, self.norm)
            start = images + _START * noise
            return ascend(model, lambda x: _divergence(clean, model(x)), start, images, ball, self.steps)


def _divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p || q) of the softmax p of the clean logits (n, k) and q of the attacked ones: the sum over the images."""
    log_p, log_q = at_least_single(clean).log_softmax(1), at_least_single(attacked).log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum()
