"""The default attacks of torchattacks and foolbox, given by import path, so that the same ball checks all of them."""

from __future__ import annotations

from collections.abc import Callable

import torchattacks
from torch import Tensor, nn

Perturb = Callable[..., Tensor]

# The attacks of foolbox's examples/multiple_attacks_pytorch_resnet18.py, in L2.
FOOLBOX_ATTACKS = (
    "L2FastGradientAttack",
    "L2PGD",
    "L2BasicIterativeAttack",
    "L2AdditiveUniformNoiseAttack",
    "L2DeepFoolAttack",
)


def torchattacks_autoattack() -> Perturb:
    """AutoAttack with torchattacks' defaults: APGD and FAB have 10 steps instead of the authors' 100."""

    def perturb(model: nn.Module, images: Tensor, labels: Tensor, *, radius: float, norm: str, seed: int) -> Tensor:
        classes = model(images[:1]).shape[1]
        attack = torchattacks.AutoAttack(model, norm=norm.capitalize(), eps=radius, n_classes=classes, seed=seed)
        adversarial: Tensor = attack(images, labels)
        return adversarial

    return perturb


def foolbox_attack(attack: str) -> Perturb:
    """An attack of foolbox with its defaults, by class name; minimum-norm attacks are clipped to the ball."""

    def perturb(model: nn.Module, images: Tensor, labels: Tensor, *, radius: float, norm: str, seed: int) -> Tensor:
        import foolbox

        del norm, seed  # the class has a norm, and the global random states are seeded
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        criterion = foolbox.criteria.Misclassification(labels)
        clipped: Tensor
        _, clipped, _ = getattr(foolbox.attacks, attack)()(wrapped, images, criterion, epsilons=radius)
        return clipped

    return perturb
