"""How many times faster our attacks are than those of other libraries, for the same work.

    python -m tests.benchmarks.attacks [--images 256] [--repeats 3] [--only deepfool] [--json FILE]

``CONTESTS`` lists the comparisons, one per row. Both sides attack the same images of the same network (LeNet-5 on MNIST
digits, trained like the reference models of the tests), frozen and row-major in memory, on one thread and in batches of
128. If the other side runs image by image, our batches hold 256. Each row says what else is equal. The sides alternate:
ours, theirs, ours. A ratio is their seconds divided by the mean of ours before and after; the median over the repeats
counts. Seconds are CPU seconds of the process, so that other work on the machine matters only through the caches.

Speed means little without the outcome: each row also shows the accuracy left within the radius, the median norm over
the images that both sides fool, and the images that a side leaves unfooled at any norm. They need not be equal: our
side judges every point that it evaluates, theirs sometimes only the last.

What our attacks save depends on how soon images break, so each row shows the share still standing by step.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import numpy as np
import torch
import torchattacks
from torch import Tensor, nn

from tests.benchmarks.sweep_vs_naive import environment
from tests.trainables.attacks.naive_simba import naive_simba
from tests.trainables.reference_models import reference_model
from trainables.attacks import Attack, Batch
from trainables.attacks.apgd import APGD
from trainables.attacks.ddn import DDN
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.engine.attack import AttackLoss
from trainables.attacks.engine.ball import Ball
from trainables.attacks.fmn import FMN
from trainables.attacks.pgd import PGD, RELATIVE_STEP
from trainables.attacks.simba import SimBA, random_orders
from trainables.logits import normalize_logits
from trainables.settings import View

BATCH: Final = 128
TORCHATTACKS_LOSSES: Final[tuple[AttackLoss, ...]] = ("ce", "dlr")  # those that its APGD offers
LARGE_BATCH: Final = 256  # our images per pass if the other side runs image by image
SIMBA_QUERIES: Final = 300
# When the share of standing images is shown, as fractions of all steps.
MOMENTS: Final = (0.02, 0.04, 0.1, 0.2, 0.5, 1.0)

Loss = Literal["sce", "i-sce"]
AttackFunction = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Case:
    """What both sides of a contest attack.

    Args:
        loss: The network's loss.
        view: The logits that both sides see.
        epsilon: The radius, L2 in pixel units; a minimum-norm attack's accuracy is the share of norms beyond it.
        goal: Replaces the contest's goal.
    """

    loss: Loss
    view: View
    epsilon: float
    goal: float | None = None

    def __str__(self) -> str:
        return f"{self.loss} on {'f' if self.view == 'normalized' else 'z'}, L2 {self.epsilon:g}"


@dataclass(frozen=True)
class Contest:
    """Our attack against another.

    Args:
        name: Our attack, as ``--only`` names it.
        against: Their attack.
        ours: Makes our attack.
        theirs: Maps model (to logits in the view), images, labels and radius to adversarial images; images are
            (n, c, h, w).
        equal: What is equal besides images, network, threads and batches.
        goal: The ratio to reach.
        cases: What is attacked.
        batch: Images per pass.
    """

    name: str
    against: str
    ours: Callable[[], Attack]
    theirs: AttackFunction
    equal: str
    goal: float
    cases: tuple[Case, ...]
    batch: int = BATCH


def torchattacks_deepfool(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Image by image."""
    del epsilon
    adversarial: Tensor = torchattacks.DeepFool(model, steps=50, overshoot=0.02)(images, labels)
    return adversarial


def foolbox_attack(name: str, **settings: float) -> AttackFunction:
    """Batched; every image continues until all are fooled or the steps run out."""

    def run(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        import foolbox

        del epsilon
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, name)(**settings)
        adversarial: Tensor = attack.run(wrapped, images, foolbox.criteria.Misclassification(labels))
        return adversarial

    return run


def torchattacks_pgd(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Batched; every image takes all steps."""
    attack = torchattacks.PGDL2(model, eps=epsilon, alpha=RELATIVE_STEP * epsilon / 50, steps=50)
    adversarial: Tensor = attack(images, labels)
    return adversarial


def torchattacks_apgd(loss: AttackLoss) -> AttackFunction:
    """Batched; misclassified images leave the batch after each restart, and there is only one."""

    def run(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        adversarial: Tensor = torchattacks.APGD(model, norm="L2", eps=epsilon, steps=50, loss=loss)(images, labels)
        return adversarial

    return run


def plain_simba(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Image by image, one query at a time, as in the paper's listing."""
    adversarial = images.clone()
    orders = random_orders(len(images), np.zeros(images[0].numel()), np.random.default_rng(0)).tolist()
    with torch.no_grad():
        standing = (model(images).argmax(1) == labels).nonzero().flatten().tolist()
    for i in standing:
        result = naive_simba(
            model, images[i : i + 1], int(labels[i]), orders[i], radius=epsilon, queries=SIMBA_QUERIES, step=0.2
        )
        if result.broken:
            adversarial[i] = result.image[0]
    return adversarial


EVERY_VIEW: Final = tuple(Case(loss, view, 1.5) for loss in ("sce", "i-sce") for view in ("raw", "normalized"))

# At radius 3 most images break in the first half of the steps. At 0.5 few break at all, so there is nothing to save.
EASY_AND_HARD: Final = tuple(
    Case(loss, "raw", epsilon, goal) for loss in ("sce", "i-sce") for epsilon, goal in ((3.0, None), (0.5, 1.0))
)

CONTESTS: Final = (
    Contest(
        "deepfool",
        "torchattacks.DeepFool",
        lambda: DeepFool(steps=50, candidates=10, overshoot=0.02),
        torchattacks_deepfool,
        "50 steps, 10 classes, overshoot 0.02",
        40.0,
        EVERY_VIEW,
        LARGE_BATCH,
    ),
    Contest(
        "deepfool",
        "foolbox.L2DeepFoolAttack",
        lambda: DeepFool(steps=50, candidates=10, overshoot=0.02),
        foolbox_attack("L2DeepFoolAttack", steps=50, candidates=10, overshoot=0.02),
        "50 steps, 10 classes, overshoot 0.02",
        1.0,
        EVERY_VIEW,
    ),
    Contest(
        "ddn",
        "foolbox.DDNAttack",
        DDN,
        foolbox_attack("DDNAttack", init_epsilon=1.0, steps=100, gamma=0.05),
        "100 steps, gamma 0.05, first norm 1",
        1.0,
        EVERY_VIEW,
    ),
    Contest(
        "fmn",
        "foolbox.L2FMNAttack",
        FMN,
        # foolbox 3.3.4 never projects in L2: the factor of its projection is a norm divided by itself.
        foolbox_attack("L2FMNAttack", steps=100, gamma=0.05),
        "100 steps, gamma 0.05",
        1.0,
        EVERY_VIEW,
    ),
    Contest(
        "pgd50",
        "torchattacks.PGDL2",
        lambda: PGD(steps=50),
        torchattacks_pgd,
        "50 steps of 2.5 epsilon / 50, cross entropy, one random start",
        2.0,
        EASY_AND_HARD,
    ),
    *(
        Contest(
            f"apgd50-{loss}",
            "torchattacks.APGD",
            lambda loss=loss: APGD(loss=loss, steps=50),  # type: ignore[misc]
            torchattacks_apgd(loss),
            "50 steps, one random start",
            2.0,
            EASY_AND_HARD,
        )
        for loss in TORCHATTACKS_LOSSES
    ),
    Contest(
        "simba",
        "a plain transcription",
        lambda: SimBA(queries=SIMBA_QUERIES, step=0.2),
        plain_simba,
        f"{SIMBA_QUERIES} queries of steps of 0.2 along pixels",
        20.0,
        (Case("sce", "raw", 1.5), Case("i-sce", "raw", 1.5)),
        LARGE_BATCH,
    ),
)


@dataclass(frozen=True)
class Result:
    """One case of a contest.

    Args:
        contest: Ours against theirs.
        case: What was attacked.
        equal: What was equal.
        goal: The ratio to reach.
        images: How many images the network classifies correctly; the others do not count.
        ratios: Their seconds divided by ours, one per repeat.
        seconds: The median CPU seconds of ours and of theirs.
        forward: Images passed forward through the model, ours and theirs.
        accuracy: Share of all images whose label survives within the radius, under ours and under theirs.
        unfooled: Images whose label survives at any norm, ours and theirs.
        norm: Median norm over the images that both fool, ours and theirs; None if there are none.
        standing: Share of the attacked images that still stand after each of ``MOMENTS`` of our steps.
    """

    contest: str
    case: str
    equal: str
    goal: float
    images: int
    ratios: tuple[float, ...]
    seconds: tuple[float, float]
    forward: tuple[int, int]
    accuracy: tuple[float, float]
    unfooled: tuple[int, int]
    norm: tuple[float, float] | None
    standing: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median over the repeats."""
        return median(self.ratios)


class InView(nn.Module):
    """A network's logits in a view, for libraries that have no views."""

    def __init__(self, model: nn.Module, view: View) -> None:
        super().__init__()
        self.model = model
        self.view = normalize_logits if view == "normalized" else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.view(self.model(images))
        return logits


def compare(contest: Contest, case: Case, count: int, repeats: int) -> Result:
    """Runs both sides alternately."""
    trained, validation = reference_model("mnist5k", case.loss)
    model = copy.deepcopy(trained).requires_grad_(False)
    images, labels = validation.images[:count].contiguous(), validation.labels[:count]
    theirs_sees = InView(model, case.view).eval()
    passed = 0

    def count_images(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        nonlocal passed
        passed += len(inputs[0])

    def ours(attack: Attack) -> Tensor:
        return attack(model, images, labels, radius=case.epsilon, view=case.view, batch_size=contest.batch).distance

    def theirs() -> Tensor:
        parts = zip(images.split(contest.batch), labels.split(contest.batch), strict=True)
        return torch.cat([contest.theirs(theirs_sees, *part, case.epsilon) for part in parts]).detach()

    def timed(side: Callable[[], Tensor]) -> tuple[float, int, Tensor]:
        before, start = passed, time.process_time()
        outcome = side()
        return time.process_time() - start, passed - before, outcome

    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        handle = model.register_forward_hook(count_images)
        with torch.enable_grad():
            # The curve and a few images for the other side come first, untimed, to warm both sides up.
            standing = curve(contest.ours(), ours)
            contest.theirs(theirs_sees, images[:4], labels[:4], case.epsilon)
            our_times = [timed(lambda: ours(contest.ours()))]
            their_times = []
            for _ in range(repeats):
                their_times.append(timed(theirs))
                our_times.append(timed(lambda: ours(contest.ours())))
        handle.remove()
        correct = model(images).argmax(1) == labels
        adversarial = their_times[-1][2]
        their_distance = torch.where(
            model(adversarial).argmax(1) != labels, (adversarial - images).flatten(1).norm(dim=1), torch.inf
        )[correct]
    our_distance = our_times[-1][2][correct]
    both = our_distance.isfinite() & their_distance.isfinite()
    pairs = zip(pairwise(our_times), their_times, strict=True)
    sides = (our_distance, their_distance)
    return Result(
        contest=f"{contest.name} against {contest.against}",
        case=str(case),
        equal=contest.equal,
        goal=contest.goal if case.goal is None else case.goal,
        images=int(correct.sum()),
        ratios=tuple(2 * other[0] / (before[0] + after[0]) for (before, after), other in pairs),
        seconds=(median(t[0] for t in our_times), median(t[0] for t in their_times)),
        forward=(our_times[-1][1], their_times[-1][1]),
        accuracy=tuple(float((~Ball(case.epsilon).holds(side)).sum()) / len(images) for side in sides),  # type: ignore[arg-type]
        unfooled=tuple(int(side.isinf().sum()) for side in sides),  # type: ignore[arg-type]
        norm=tuple(float(side[both].median()) for side in sides) if both.any() else None,  # type: ignore[arg-type]
        standing=standing,
    )


def curve(attack: Attack, run: Callable[[Attack], Any]) -> tuple[float, ...]:
    """Share of the attacked images that stand after each of ``MOMENTS`` of the attack's steps."""
    attacked = done = 0.0
    falls: list[tuple[float, int]] = []
    original = attack.run

    def watched(victim: Any, batch: Batch, **arguments: Any) -> Any:
        nonlocal attacked
        attacked = len(batch)

        def progress(share: float) -> None:
            nonlocal done
            done = share

        victim.progress = progress
        for broken in original(victim, batch, **arguments):
            falls.append((done, len(broken)))
            yield broken

    object.__setattr__(attack, "run", watched)  # attacks are frozen
    run(attack)
    return tuple(1 - sum(number for share, number in falls if share <= moment) / attacked for moment in MOMENTS)


def table(results: Sequence[Result]) -> str:
    """The results as text."""
    lines = []
    for result in results:
        low, high = min(result.ratios), max(result.ratios)
        reached = "reached" if result.ratio >= result.goal else "not reached"
        lines += [
            f"{result.contest}, {result.case} (n = {result.images}; equal: {result.equal})",
            f"  {result.ratio:.1f} times as fast (median of {len(result.ratios)}, {low:.1f} to {high:.1f}; goal "
            f"{result.goal:g} {reached}): {result.seconds[0]:.2f} s and {result.seconds[1]:.2f} s, "
            f"{result.forward[0]:,} and {result.forward[1]:,} images forward",
            f"  outcome: accuracy {result.accuracy[0]:.1%} and {result.accuracy[1]:.1%}, unfooled "
            f"{result.unfooled[0]} and {result.unfooled[1]}"
            + (f", median norm {result.norm[0]:.4f} and {result.norm[1]:.4f}" if result.norm else ""),
            "  standing: "
            + ", ".join(
                f"{share:.1%} after {moment:.0%} of the steps"
                for share, moment in zip(result.standing, MOMENTS, strict=True)
            ),
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the selected contests."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.attacks", description=__doc__.splitlines()[0])
    names = sorted({contest.name for contest in CONTESTS})
    parser.add_argument("--images", type=int, default=256, help="images to attack, at most 1000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=names, help="one of our attacks")
    parser.add_argument("--against", help="only attacks whose name begins with this, such as foolbox")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where = environment() | {"foolbox": version("foolbox"), "threads": str(torch.get_num_threads())}
    results = []
    for contest in CONTESTS:
        if options.only not in (None, contest.name) or not contest.against.startswith(options.against or ""):
            continue
        for case in contest.cases:
            results.append(compare(contest, case, options.images, options.repeats))
            print(table(results[-1:]), flush=True)
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if options.json is not None:
        report = {"environment": where, "results": [asdict(result) | {"ratio": result.ratio} for result in results]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
