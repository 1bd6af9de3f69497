"""How close a worst case of few steps comes to AutoAttack, and at what share of its cost.

    python -m tests.benchmarks.cheap_worst_case [--images 250] [--epsilon 1.5] [--steps 10,20,30] [--json FILE]

The four reference networks of the tests (LeNet-5 on MNIST digits and on Fashion-MNIST, trained with cross entropy and
with I-SCE), the same images for all, L2, batches of 128, one thread. AutoAttack, at its authors' settings, sees z. The
cheap worst cases climb cross entropy on f and on z and the difference of logits ratio, which is invariant to scale.
Each attack gets the images that the earlier ones left standing. ``likeliest`` targets each of the nine likeliest wrong
classes.

The goal is at most 0.5 points above AutoAttack at no more than a fifth of its cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch

from tests.benchmarks.sweep_vs_naive import environment
from tests.trainables.reference_models import reference_model
from trainables.attacks import Attack, attack_seed
from trainables.attacks.apgd import APGD
from trainables.attacks.autoattack import AutoAttack
from trainables.settings import View

BATCH: Final = 128
AUTOATTACK: Final = "autoattack on z"
MODELS: Final = (("mnist5k", "sce"), ("mnist5k", "i-sce"), ("fashion-mnist", "sce"), ("fashion-mnist", "i-sce"))

WorstCase = tuple[tuple[Attack, View], ...]


def worst_cases(steps: Sequence[int]) -> dict[str, WorstCase]:
    """AutoAttack, and the cheap worst cases with each number of steps, by name."""
    cases: dict[str, WorstCase] = {AUTOATTACK: ((AutoAttack(), "raw"),)}
    for count in steps:
        ce = APGD(loss="ce", steps=count)
        dlr = APGD(loss="dlr", steps=count)
        for attack in (dlr, replace(dlr, target="likeliest")):
            cases[f"{ce.label} on f and z, {attack.label}"] = ((ce, "normalized"), (ce, "raw"), (attack, "raw"))
    return cases


@dataclass(frozen=True)
class Cost:
    """How many of a network's images one worst case left standing, and its cost.

    Args:
        network: Data and loss.
        worst_case: Its name.
        images: How many.
        kept: How many still stand.
        passes: Images passed forward and backward.
        seconds: Wall time.
    """

    network: str
    worst_case: str
    images: int
    kept: int
    passes: int
    seconds: float


def measure(network: tuple[str, str], name: str, worst_case: WorstCase, count: int, epsilon: float) -> Cost:
    """Runs one worst case on the first images."""
    model, validation = reference_model(*network)  # type: ignore[arg-type]
    images, labels = validation.images[:count], validation.labels[:count]
    standing = None
    passes = 0
    started = time.perf_counter()
    for attack, view in worst_case:
        seed = attack_seed(0, attack.label)
        result = attack(
            model, images, labels, radius=epsilon, view=view, seed=seed, batch_size=BATCH, standing=standing
        )
        standing = result.kept
        passes += result.forward_passes + result.backward_passes
    seconds = time.perf_counter() - started
    return Cost(" ".join(network), name, len(images), int(result.kept.sum()), passes, seconds)


def pooled(costs: Sequence[Cost]) -> list[Cost]:
    """The sums over all networks, one per worst case."""
    sums = []
    for name in dict.fromkeys(cost.worst_case for cost in costs):
        same = [cost for cost in costs if cost.worst_case == name]
        sums.append(
            Cost(
                "all networks",
                name,
                sum(cost.images for cost in same),
                sum(cost.kept for cost in same),
                sum(cost.passes for cost in same),
                sum(cost.seconds for cost in same),
            )
        )
    return sums


def table(costs: Sequence[Cost]) -> str:
    """One network's costs as text, each compared with AutoAttack's."""
    [best] = [cost for cost in costs if cost.worst_case == AUTOATTACK]
    lines = [
        f"{best.network}, n = {best.images}",
        f"  {'':56} {'accuracy':>8} {'above':>6} {'passes':>9} {'share':>6} {'seconds':>8} {'share':>6}",
    ]
    for cost in costs:
        above = 100 * (cost.kept - best.kept) / cost.images
        lines.append(
            f"  {cost.worst_case:56} {cost.kept / cost.images:8.1%} {above:+6.1f} "
            f"{cost.passes:9,} {cost.passes / best.passes:6.3f} {cost.seconds:8.2f} {cost.seconds / best.seconds:6.3f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every worst case on every network and prints the costs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.cheap_worst_case", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=250, help="per network, at most 1000")
    parser.add_argument("--epsilon", type=float, default=1.5)
    parser.add_argument("--steps", default="10,20,30", help="of the cheap worst cases")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where = environment() | {"threads": str(torch.get_num_threads())}
    cases = worst_cases([int(count) for count in options.steps.split(",")])
    costs: list[Cost] = []
    print(f"L2 {options.epsilon:g}; " + ", ".join(f"{name} {value}" for name, value in where.items()))
    for network in MODELS:
        reference_model(*network)  # type: ignore[arg-type]
        costs += [measure(network, name, case, options.images, options.epsilon) for name, case in cases.items()]
        print(table(costs[-len(cases) :]), flush=True)
    print(table(pooled(costs)))
    if options.json:
        result = {"environment": where, "epsilon": options.epsilon, "costs": [asdict(cost) for cost in costs]}
        options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
