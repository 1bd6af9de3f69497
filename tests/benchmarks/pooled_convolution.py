"""LeNet-5's convolutions against torch's own convolution and pooling, alternating on one processor.

    python -m tests.benchmarks.pooled_convolution

Prints the median seconds of a training step (batches of 64) and of an attack's step (the images' gradient, 128 images)
of the whole LeNet-5 with either layer, and the ratio of the medians.
"""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from trainables.models.layers.pooled_convolution import PooledConvolution
from trainables.models.lenet5 import LeNet5

REPETITIONS = 100


def plain(model: nn.Sequential) -> nn.Sequential:
    """The same network with torch's layers, in the memory format that is quickest for them."""
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(model):
        if isinstance(layer, PooledConvolution):
            convolution = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
            convolution.load_state_dict(layer.state_dict())
            layers += [convolution, nn.MaxPool2d(2)]
        else:
            layers.append(layer)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def training_step(model: nn.Module) -> Callable[[], object]:
    """Gradients of all parameters on 64 images."""
    images, labels = torch.rand(64, 1, 28, 28), torch.randint(10, (64,))

    def step() -> None:
        model.requires_grad_(True).zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]

    return step


def attack_step(model: nn.Module) -> Callable[[], object]:
    """The gradient of 128 images."""
    clean, labels = torch.rand(128, 1, 28, 28), torch.randint(10, (128,))

    def step() -> None:
        images = clean.detach().requires_grad_(True)
        model.requires_grad_(False)
        torch.autograd.grad(F.cross_entropy(model(images), labels, reduction="sum"), images)

    return step


def main() -> int:
    """Runs both and prints."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = LeNet5().build((1, 28, 28), 10)
    models = {"ours": ours, "torch": plain(ours)}
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, n = {REPETITIONS}, one thread")
    for name, make in (("training step", training_step), ("attack step", attack_step)):
        steps = {side: make(model) for side, model in models.items()}
        seconds: dict[str, list[float]] = {side: [] for side in steps}
        for _ in range(REPETITIONS):
            for side, step in steps.items():
                began = time.perf_counter()
                step()
                seconds[side].append(time.perf_counter() - began)
        medians = {side: median(values) for side, values in seconds.items()}
        print(
            f"{name:14} ours {1e3 * medians['ours']:6.2f} ms   torch {1e3 * medians['torch']:6.2f} ms   "
            f"torch / ours {medians['torch'] / medians['ours']:.2f}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
