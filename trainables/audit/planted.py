"""The active test: do attacks find an adversarial example that is known to exist?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trainables.attacks import Attack
from trainables.attacks.engine.ball import Ball
from trainables.attacks.engine.victim import untouched
from trainables.settings import Norm

INNER: Final = 256  # points inside the ball that the readout must call harmless
INNER_RADIUS: Final = 0.95  # their largest distance, in radii
CLOSENESS: Final = 0.99  # where the decision boundary lies between the worst inner point (0) and the planted one (1)
LOGIT: Final = 10.0  # the harmless class's; the other one's is 0 at the worst inner point
RIDGE: Final = 1e-3  # the share of the features' mean variance added to each, against a readout that fits rounding


@dataclass(frozen=True)
class Planted:
    """What attacks broke of planted adversarial examples."""

    planted: int  # images for which one could be planted
    broken: int  # how many of them the attacks broke


def plant_and_search(
    model: nn.Module,
    images: Tensor,
    usable: NDArray[np.bool_],
    attacks: Sequence[Attack],
    *,
    radius: float,
    norm: Norm,
    count: int,
    seed: int,
    batch_size: int,
    progress: Callable[[float], None],
) -> Planted | str:
    """A small binarization test: one boundary point per image, a readout by ridge regression.

    For each image, the model's last linear layer is replaced by a readout for two classes that calls the image and
    random points around it harmless, and one random point at the radius adversarial. One adversarial example therefore
    exists for certain, and an attack that finds none fails where it need not. Whatever the model does after its last
    linear layer, it still does.

    Args:
        usable: Images that may be used, bool (n,); the first ``count`` of them are tried.
        attacks: One of them must succeed. They see the raw logits: with two classes, no other view is of use.
        progress: Receives the completed share.

    Returns:
        The outcome, or why the test could not be run.

    Source:
        Zimmermann et al. 2022, "Increasing confidence in adversarial robustness evaluations". Theirs has a
        readout by logistic regression, 999 inner points and a boundary still closer to the planted point.
    """
    layer = _readout_layer(model, images[:1])
    if layer is None:
        return "the model's logits do not come from a linear layer that could be replaced"
    planted = broken = 0
    chosen = np.flatnonzero(usable)[:count]
    label = torch.zeros(1, dtype=torch.int64, device=images.device)
    settings = {"radius": radius, "norm": norm, "seed": seed, "batch_size": batch_size}
    for done, i in enumerate(chosen):
        rng = np.random.default_rng([seed, int(i)])
        image = images[i : i + 1].contiguous()
        point = _on_sphere(image, Ball(radius, norm), rng)
        inner = torch.cat([image, _inside(image, Ball(INNER_RADIUS * radius, norm), rng)])
        with untouched(model), torch.no_grad():
            readout = _readout(_features(model, layer, torch.cat([inner, point])))
        if readout is None:
            continue
        with _replaced(layer, *readout):
            with untouched(model), torch.no_grad():
                logits = model(torch.cat([image, point]))
            if logits.shape != (2, 2) or logits.argmax(1).tolist() != [0, 1]:
                continue  # what follows the layer undoes the readout
            results = [_breaks(attack, model, image, label, **settings) for attack in attacks]
            if all(result is None for result in results):
                return "its attacks do not run on two classes"
            planted += 1
            broken += any(results)
        progress((done + 1) / len(chosen))
    return Planted(planted, broken) if planted else "no adversarial example could be planted"


def _breaks(attack: Attack, model: nn.Module, image: Tensor, label: Tensor, **settings: Any) -> bool | None:
    """Whether an attack breaks the image; None if it cannot be run on two classes."""
    try:
        result = attack(model, image, label, **settings)
    except (ValueError, IndexError):  # a loss or a target that needs more classes
        return None
    except RuntimeError as error:  # a missing gradient; torch raises the same for too few classes
        return None if "out of range" in str(error) else False
    return not bool(result.kept)


def _on_sphere(image: Tensor, ball: Ball, rng: np.random.Generator) -> Tensor:
    """A random point at the radius and inside the pixel box."""
    change = _directions(image, 1, ball, rng)
    for _ in range(20):  # the rest makes up for what the box takes away
        change = (image + change).clamp(0, 1) - image
        change = change * (ball.radius / ball.size(change).clamp_min(torch.finfo(change.dtype).tiny))
    return ball.project(image + change, image)


def _inside(image: Tensor, ball: Ball, rng: np.random.Generator) -> Tensor:
    """Points uniform in the ball, pushed into the pixel box, (INNER, c, h, w)."""
    change = _directions(image, INNER, ball, rng)
    if ball.norm == "l2":
        lengths = rng.random((INNER, 1, 1, 1)) ** (1 / image.numel())
        change = change / ball.size(change) * torch.from_numpy(lengths).to(change)
    return ball.project(image + ball.radius * change, image)


def _directions(image: Tensor, count: int, ball: Ball, rng: np.random.Generator) -> Tensor:
    """Random directions: of any length in L2, uniform in the unit cube in Linf."""
    shape = (count, *image.shape[1:])
    draws = rng.standard_normal(shape) if ball.norm == "l2" else rng.uniform(-1, 1, shape)
    return torch.from_numpy(draws).to(image)


def _readout_layer(model: nn.Module, image: Tensor) -> nn.Linear | None:
    """The last linear layer that a pass uses, if the model also runs with two outputs there; None otherwise.

    It does not where logits are distances or cosines of what that layer gives.
    """
    used: list[nn.Linear] = []
    with ExitStack() as hooks, untouched(model), torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hooks.enter_context(module.register_forward_pre_hook(lambda layer, _: used.append(layer)))
        model(image)
    if not used:
        return None
    layer = used[-1]
    weights = torch.zeros(2, layer.in_features).to(layer.weight)
    try:
        with _replaced(layer, weights, weights[:, 0]), untouched(model), torch.no_grad():
            logits = model(image)
    except (RuntimeError, ValueError, IndexError):  # what follows the layer needs its own number of outputs
        return None
    return layer if logits.shape == (1, 2) else None  # a loss's head may read the features instead


def _features(model: nn.Module, layer: nn.Linear, images: Tensor) -> Tensor:
    """The layer's inputs, (n, d)."""
    caught: list[Tensor] = []
    with layer.register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0])):
        model(images)
    return caught[-1].flatten(1)


def _readout(features: Tensor) -> tuple[Tensor, Tensor] | None:
    """Weights (2, d) and bias (2,) that separate the last point from all before it; None if no hyperplane does."""
    points = features.double()
    inner, planted = points[:-1], points[-1]
    centre = inner.mean(0)
    spread = (inner - centre).T @ (inner - centre) / len(inner)
    ridge = RIDGE * spread.diagonal().mean()
    if not ridge > 0:
        return None
    direction = torch.linalg.solve(spread + ridge * torch.eye(len(spread)).to(spread), planted - centre)
    worst, reached = (inner @ direction).max(), planted @ direction
    gap = reached - worst
    if not gap > 0:
        return None
    # The harmless class has a constant logit, which the other one reaches at the boundary.
    scale = LOGIT / (CLOSENESS * gap)
    weights = torch.stack([torch.zeros_like(direction), direction]) * scale
    bias = torch.stack([torch.full_like(worst, LOGIT), -worst * scale])
    return weights.to(features.dtype), bias.to(features.dtype)


def _replaced(layer: nn.Linear, weights: Tensor, bias: Tensor) -> RemovableHandle:
    """Makes the layer read out two classes, as long as the handle is open."""
    return layer.register_forward_hook(lambda _, inputs, __: nn.functional.linear(inputs[0].flatten(1), weights, bias))
