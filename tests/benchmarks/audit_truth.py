"""How far claimed and audited robust accuracies lie above that under the strongest known attacks, and at what cost.

    python -m tests.benchmarks.audit_truth [--networks mnist5k/ce,...] [--images 1000] [--cache DIR] [--only-references]

Twelve LeNet-5 networks: trained with cross entropy, with label smoothing, adversarially, and with I-SCE at three
settings, each on MNIST digits (L2 radius 1.5) and on Fashion-MNIST (L2 radius 0.5). The reference of each network is
AutoAttack at its authors' settings, followed by attacks on the surviving images: DDN and FMN on z and on f, APGD on
cross entropy of f scaled up, and targeted APGD with 5 restarts. It takes minutes per network and is cached per network,
so that the work can be spread over several runs. Ladders are the cheaper evaluations to choose from: choose on the
digits, report on Fashion-MNIST. The defaults of torchattacks and foolbox are measured too.

A cost is the number of forward and backward passes of images, as a share of the whole reference's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

import trainables
from analysis.statistics import wilson_interval
from tests.benchmarks.other_libraries import FOOLBOX_ATTACKS
from tests.benchmarks.sweep_vs_naive import environment
from trainables.attacks import Attack, attack_seed
from trainables.attacks.apgd import APGD
from trainables.attacks.autoattack import AutoAttack
from trainables.attacks.ddn import DDN
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.fmn import FMN
from trainables.attacks.pgd import PGD
from trainables.attacks.torchattacks import Torchattacks
from trainables.audit import audit, cheap_claim
from trainables.data import cache_folder
from trainables.data.splits import Split, load_splits
from trainables.logits import normalize_logits
from trainables.registry import make
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings, View
from trainables.training.loop import train
from trainables.training.replicate import make_replicates

BATCH: Final = 500
SEED: Final = 0
RADII: Final[Mapping[str, float]] = {"mnist5k": 1.5, "fashion-mnist": 0.5}

# Loss and defence by name. I-SCE has the authors' setting, one in the middle of the range, and its far corner.
RECIPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "ce": {"loss": {"name": "cross-entropy"}},
    "ls": {"loss": {"name": "label-smoothing", "epsilon": 0.1}},
    "at": {"loss": {"name": "cross-entropy"}, "at": True},
    "isce-1-0.1": {"loss": {"name": "i-sce", "s": 1.0, "m": 0.1}},
    "isce-1.5-0.05": {"loss": {"name": "i-sce", "s": 1.5, "m": 0.05}},
    "isce-2-0.1": {"loss": {"name": "i-sce", "s": 2.0, "m": 0.1}},
}
SCALE: Final = 10.0
REFERENCE: Final = "the reference"
QUICK_AUDIT: Final = "the quick audit"
CLAIM: Final = "apgd ce 20, fmn 50, 9 targets 20"  # what the shipped configurations add to the paper's attacks


class Counted(nn.Module):
    """A model that counts the images that go forward and backward through it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        self.passes += len(images)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, gradient: Tensor) -> None:
        self.passes += len(gradient)


class ScaledF(nn.Module):
    """Normalised logits times a constant: cross entropy of them is neither flat nor saturated."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return SCALE * normalize_logits(self.model(images))


@dataclass(frozen=True)
class Network:
    """One trained network and the images on which it is judged."""

    name: str
    model: nn.Module
    images: Tensor
    labels: Tensor
    radius: float
    digest: str


@dataclass(frozen=True)
class Step:
    """One attack of a cascade on one view; ``scaled`` puts `ScaledF` in front of it."""

    attack: Attack
    view: View = "raw"
    scaled: bool = False

    @property
    def label(self) -> str:
        return f"{self.attack.label}/{'scaled f' if self.scaled else self.view}"


def reference() -> tuple[Step, ...]:
    """The strongest evaluation: each attack gets the images that survived the earlier ones."""
    return (
        Step(AutoAttack()),
        Step(DDN(steps=200)),
        Step(DDN(steps=200), "normalized"),
        Step(FMN(steps=200)),
        Step(FMN(steps=200), "normalized"),
        Step(APGD(steps=100), "normalized"),
        Step(APGD(steps=100), scaled=True),
        Step(APGD(loss="dlr", target="likeliest", steps=100, restarts=5)),
    )


def network(name: str, cache: Path, images: int) -> Network:
    """Trains a network, or loads it from the cache.

    ``name`` is data and recipe, ``mnist5k/ce``, and a seed if it is another than `SEED`: ``mnist5k/ce/100``.
    """
    data, recipe, *seed = name.split("/")
    settings = RECIPES[recipe]
    radius = RADII[data]
    document: dict[str, Any] = {"name": data, "train_size": 3500, "validation_size": 1000}
    problem = Problem(
        data=DataSettings.from_document(document),
        model=make("model", "lenet5"),
        loss=make("loss", settings["loss"]["name"], {k: v for k, v in settings["loss"].items() if k != "name"}),
        defence=make("defence", "adversarial-training", {"epsilon": radius, "steps": 10, "norm": "l2"})
        if settings.get("at")
        else make("defence", "none"),
        train=TrainSettings(
            epochs=8, batch_size=64, learning_rate=0.004, schedule="cosine", seed=int(seed[0]) if seed else SEED
        ),
        robustness=RobustnessSettings(images=images, epsilon=radius),
    )
    splits: Mapping[str, Split] = load_splits(problem.data, "cpu")
    [replicate] = make_replicates(problem, splits)
    path = cache / f"{name.replace('/', '-')}.pt"
    if path.is_file():
        replicate.model.load_state_dict(torch.load(path, weights_only=True))
    else:
        for _ in train([replicate], splits, problem):
            pass
        torch.save(replicate.model.state_dict(), path)
    model = replicate.model.eval()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()[:16]
    validation = splits["validation"]
    return Network(name, model, validation.images[:images], validation.labels[:images], radius, digest)


@dataclass(frozen=True)
class Result:
    """The images of one network that survived a cascade.

    Args:
        network: Its name.
        cascade: The cascade's name.
        clean: Whether the clean image is classified correctly, as a string of 0 and 1.
        kept: Which images stand at the end.
        steps: By step: label, images left, passes.
        seconds: Wall time.
    """

    network: str
    cascade: str
    clean: str
    kept: str
    steps: tuple[tuple[str, int, int], ...]
    seconds: float

    @property
    def passes(self) -> int:
        return sum(passes for _, _, passes in self.steps)

    @property
    def accuracy(self) -> float:
        return self.kept.count("1") / len(self.kept)

    @property
    def standing(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.array([bit == "1" for bit in self.kept])


def cached(net: Network, name: str, cascade: Sequence[Step], cache: Path) -> Result:
    """Runs a cascade; attacks that a cached cascade on the same network began with are not repeated."""
    if not cascade:
        with torch.no_grad():
            clean = _bits(net.model(net.images).argmax(1) == net.labels)
        return Result(net.name, name, clean, clean, (), 0.0)
    key = json.dumps(
        [
            net.digest,
            len(net.images),
            net.radius,
            [step.attack.to_document() | {"view": step.view, "scaled": step.scaled} for step in cascade],
        ]
    )
    path = cache / f"{net.name.replace('/', '-')}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    if path.is_file():
        return _read(path, name)
    *earlier, step = cascade
    before = cached(net, name, earlier, cache)
    started = time.perf_counter()
    done = step.attack(
        ScaledF(net.model) if step.scaled else net.model,
        net.images,
        net.labels,
        radius=net.radius,
        view=step.view,
        seed=attack_seed(SEED, step.label),
        batch_size=BATCH,
        standing=torch.from_numpy(before.standing),
    )
    passes = done.forward_passes + done.backward_passes
    result = replace(
        before,
        kept=_bits(done.kept),
        steps=(*before.steps, (step.label, int(done.kept.sum()), passes)),
        seconds=before.seconds + time.perf_counter() - started,
    )
    path.write_text(json.dumps(asdict(result)))
    return result


def audited(net: Network, cache: Path) -> Result:
    """The images that survive the quick audit of the default evaluation, and its cost on top of that evaluation."""
    sources = sorted(Path(trainables.__file__).parent.glob("a*/**/*.py"))  # attacks and audit
    key = net.digest.encode() + b"".join(path.read_bytes() for path in sources) + str(len(net.images)).encode()
    path = cache / f"{net.name.replace('/', '-')}-{hashlib.sha256(key).hexdigest()[:12]}-audit.json"
    if path.is_file():
        return _read(path, QUICK_AUDIT)
    started = time.perf_counter()
    claim = cheap_claim(net.model, net.images, net.labels, radius=net.radius, seed=SEED, batch_size=BATCH)
    counted = Counted(net.model)
    done = audit(counted, net.images, net.labels, [claim], radius=net.radius, seed=SEED, batch_size=BATCH)
    step = (done.verdicts[0].word, int(done.verified.sum()), counted.passes)
    kept = torch.from_numpy(done.verified)
    result = Result(
        net.name, QUICK_AUDIT, _bits(torch.from_numpy(done.clean)), _bits(kept), (step,), time.perf_counter() - started
    )
    path.write_text(json.dumps(asdict(result)))
    return result


def _read(path: Path, cascade: str) -> Result:
    document = json.loads(path.read_text())
    return Result(**{**document, "cascade": cascade, "steps": tuple(tuple(step) for step in document["steps"])})


def _bits(mask: Tensor) -> str:
    return "".join("1" if bit else "0" for bit in mask.tolist())


def ladders() -> dict[str, tuple[Step, ...]]:
    """The cheaper evaluations to choose from, by name; each attack gets the images that survived the earlier ones."""

    def likeliest(steps: int, targets: int = 9, restarts: int = 1) -> Step:
        return Step(APGD(loss="dlr", target="likeliest", targets=targets, steps=steps, restarts=restarts))

    def both(attack: Attack) -> tuple[Step, Step]:
        return Step(attack, "normalized"), Step(attack)

    pgd = both(PGD(steps=50))
    deepfool = Step(DeepFool(), "normalized")
    old_quick = (*both(APGD(steps=50)), likeliest(50, 3))
    found = {
        "default until now: pgd50 ce, dlr": (*pgd, Step(PGD(loss="dlr", steps=50))),
        "quickstart until now: 3 targets": (
            *pgd,
            deepfool,
            *both(APGD(steps=20)),
            Step(PGD(loss="dlr", steps=50)),
            likeliest(30, 3),
        ),
        "quick audit until now: 3 targets": old_quick,
    }
    for steps in (15, 20, 30, 50):
        found[f"apgd ce {steps}, 9 targets {steps}"] = (*both(APGD(steps=steps)), likeliest(steps))
    found["apgd pm 20, 9 targets 20"] = (*both(APGD(loss="pm", steps=20)), likeliest(20))
    found["apgd ce 20, fmn 50, 9 targets 20"] = (*both(APGD(steps=20)), Step(FMN(steps=50)), likeliest(20))
    found["apgd ce 20, 9 targets 20, fmn 50"] = (*both(APGD(steps=20)), likeliest(20), Step(FMN(steps=50)))
    found["apgd ce 50, 9 targets 50, fmn 100"] = (*both(APGD(steps=50)), likeliest(50), *both(FMN()))
    found["apgd ce 50, 9 targets 50 x 3"] = (*both(APGD(steps=50)), likeliest(50), likeliest(50, restarts=2))
    return found


def libraries() -> dict[str, tuple[Step, ...]]:
    """The default evaluations of other libraries, on raw logits."""
    theirs = "tests.benchmarks.other_libraries"
    return {
        "torchattacks": (
            Step(Torchattacks(attack="PGDL2")),
            Step(make("attack", f"{theirs}:torchattacks_autoattack")),
        ),
        "foolbox": tuple(
            Step(make("attack", f"{theirs}:foolbox_attack", {"attack": name})) for name in FOOLBOX_ATTACKS
        ),
    }


@dataclass(frozen=True)
class Row:
    """One ladder over the networks of one data set: gaps to the reference in points, costs as shares of its cost."""

    ladder: str
    gaps: Mapping[str, float]
    costs: Mapping[str, float]

    @property
    def gap(self) -> float:
        return float(np.mean([*self.gaps.values()]))

    @property
    def cost(self) -> float:
        return float(np.mean([*self.costs.values()]))

    @property
    def bias(self) -> float:
        """The mean gap of I-SCE minus that of cross entropy: the bias in favour of the loss under search."""
        i_sce = [gap for name, gap in self.gaps.items() if "/isce" in name]
        plain = [gap for name, gap in self.gaps.items() if name.endswith("/ce")]
        return float(np.mean(i_sce) - np.mean(plain)) if i_sce and plain else float("nan")


def compare(references: Mapping[str, Result], results: Mapping[str, Mapping[str, Result]], data: str) -> list[Row]:
    """One row per ladder. What a ladder finds beyond the reference counts for the reference too."""
    rows = []
    for ladder, by_network in results.items():
        gaps, costs = {}, {}
        for name, result in by_network.items():
            if name.startswith(data):
                best = references[name].standing
                for other in results.values():
                    if name in other:
                        best = best & other[name].standing
                gaps[name] = 100 * float((result.standing & ~best).mean())
                costs[name] = result.passes / references[name].passes
        if gaps:
            rows.append(Row(ladder, gaps, costs))
    return rows


def accuracies(results: Mapping[str, Result]) -> list[str]:
    """The accuracy of one network by evaluation, in %, with intervals over the images and passes per image."""
    n = len(results[REFERENCE].kept)
    standing = {CLAIM: "claimed", QUICK_AUDIT: "quick audit", REFERENCE: "reference"}
    best = np.logical_and.reduce([result.standing for result in results.values()])
    lines = []
    for name, title in [*standing.items(), (None, "strongest"), *((name, name) for name in libraries())]:
        left = int(best.sum() if name is None else results[name].standing.sum())
        low, high = wilson_interval(left, n)
        passes = f", {results[name].passes / n:,.0f} passes per image" if name else ", by any of the evaluations"
        lines.append(f"{title:13} {100 * left / n:5.1f} ({100 * low:.1f} to {100 * high:.1f}){passes}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all evaluations that are not cached, and prints a table per data set."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.audit_truth")
    parser.add_argument("--networks", default=",".join(f"{data}/{recipe}" for data in RADII for recipe in RECIPES))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--cache", type=Path, default=cache_folder() / "audit-truth")
    parser.add_argument("--only-references", action="store_true", help="leave out the ladders")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    references: dict[str, Result] = {}
    cascades = ladders() | libraries()
    results: dict[str, dict[str, Result]] = {name: {} for name in (*cascades, QUICK_AUDIT)}
    for name in options.networks.split(","):
        net = network(name, options.cache, options.images)
        references[name] = result = cached(net, REFERENCE, reference(), options.cache)
        print(
            f"{name}: n {len(result.kept)}, clean {100 * result.clean.count('1') / len(result.clean):.1f}, "
            f"reference {100 * result.accuracy:.1f} %, {result.passes / len(result.kept):,.0f} passes per image, "
            f"{result.seconds:.0f} s; left by step: " + ", ".join(f"{label} {left}" for label, left, _ in result.steps),
            flush=True,
        )
        if not options.only_references:
            for cascade, steps in cascades.items():
                results[cascade][name] = cached(net, cascade, steps, options.cache)
            results[QUICK_AUDIT][name] = audited(net, options.cache)
            own = {cascade: by_network[name] for cascade, by_network in results.items()}
            print(*accuracies({REFERENCE: result, **own}), sep="\n", flush=True)
    for data in RADII:
        rows = compare(references, results, data)
        if rows:
            names = [name for name in references if name.startswith(data)]
            print(f"\n{data}: gap in points, mean, largest, I-SCE minus cross entropy, cost; then each network's gap")
            for row in rows:
                each = " ".join(f"{row.gaps[name]:5.1f}" for name in names)
                print(
                    f"{row.ladder:46} {row.gap:5.2f} {max(row.gaps.values()):5.2f} {row.bias:+5.2f} "
                    f"{100 * row.cost:5.1f} %   {each}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
