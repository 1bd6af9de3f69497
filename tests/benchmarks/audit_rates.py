"""How often an audit is wrong: false alarms on sound pairs, missed ones on masked pairs, with Wilson intervals.

    uv run python -m tests.benchmarks.audit_rates [--seeds 5] [--masked-seeds 1] [--i-sce-images 500]

Thresholds were frozen on the calibration cases (MNIST digits). The judged cases differ (Fashion-MNIST, other seeds,
another radius). ``sound`` for a masked pair is a missed alarm; any other verdict for a sound pair is a false alarm.

The construction of these pairs determines whether they are sound. For networks trained with I-SCE this is unknown, so
there a claim is truly masked if the audit's rule gives that verdict with the reference of ``audit_truth`` in place of
the audit's attacks. These claims come from attacks that the quick audit does not run.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch

from analysis.statistics import wilson_interval
from tests.benchmarks.audit_truth import RECIPES, REFERENCE, cached, libraries, network, reference
from tests.trainables.audit.planted_pairs import (
    IMAGES,
    MASKED_MODELS,
    MODELS,
    RADII,
    SOUND_MODELS,
    Data,
    Pair,
    audited,
    claim,
)
from trainables.attacks import attack_seed
from trainables.attacks.ddn import DDN
from trainables.attacks.fab import FAB
from trainables.attacks.torchattacks import Torchattacks
from trainables.audit import Audit, Claim, audit
from trainables.audit.evidence import QUICK
from trainables.audit.verdict import Gap
from trainables.data import cache_folder

# Data sets with their first seeds. Calibration and judged cases share neither data nor seeds.
CALIBRATION: Final[tuple[Data, int]] = ("mnist5k", 0)
JUDGED: Final[tuple[Data, int]] = ("fashion-mnist", 100)

# Claims on networks trained with I-SCE, from attacks that the quick audit does not run.
I_SCE: Final = ",".join(
    f"{JUDGED[0]}/{recipe}/{seed}"
    for seed in range(JUDGED[1], JUDGED[1] + 3)
    for recipe in RECIPES
    if recipe.startswith("isce")
)
OTHER_CLAIMS: Final = (
    Pair("PGDL2", (Torchattacks(attack="PGDL2", options={"steps": 50}),), ("raw", "normalized")),
    Pair("foolbox", tuple(step.attack for step in libraries()["foolbox"])),
    Pair("FAB", (FAB(),), ("raw", "normalized")),
    Pair("DDN", (DDN(),), ("raw", "normalized")),
)


@dataclass(frozen=True)
class Outcome:
    """One pair's verdict, and whether it is right."""

    sound: bool
    word: str

    @property
    def wrong(self) -> bool:
        return (self.word != "sound") if self.sound else (self.word == "sound")


def run(data: Data, first: int, seeds: int, masked_seeds: int) -> list[Outcome]:
    """Audits every model with every seed and prints each verdict."""
    outcomes = []
    for name in MODELS:
        for seed in range(first, first + (seeds if name in SOUND_MODELS else masked_seeds)):
            for pair, result, position in audited(name, data, seed):
                outcomes.append(outcome(f"{data:13} seed {seed:3}  {name:21}", result, position, pair.sound))
    return outcomes


def run_i_sce(networks: Sequence[str], images: int, cache: Path) -> list[Outcome]:
    """As ``run``, for networks trained with I-SCE, named as in ``audit_truth``; their references are cached."""
    outcomes = []
    profile = replace(QUICK, images=images)
    for name in networks:
        net = network(name, cache, images)
        kept = cached(net, REFERENCE, reference(), cache).standing
        claims = [claim(pair, net.model, net.images, net.labels, net.radius, 0) for pair in OTHER_CLAIMS]
        attacks = tuple(attack for each in claims for attack in each.attacks)
        kept_by_all = np.logical_and.reduce([each.kept for each in claims])
        claims.append(Claim("all of these", attacks, ("raw", "normalized"), kept_by_all))
        seed = attack_seed(0, f"audit/{name}")
        result = audit(net.model, net.images, net.labels, claims, radius=net.radius, profile=profile, seed=seed)
        for position, each in enumerate(claims):
            gap = Gap.between(each.kept, each.kept & kept)
            outcomes.append(outcome(f"{name:31} {gap.lost:3} fall to the reference", result, position, not gap.counts))
    return outcomes


def outcome(what: str, result: Audit, position: int, sound: bool) -> Outcome:
    """Prints and returns the verdict on one of an audit's claims."""
    verdict = result.verdicts[position]
    failed = [check for check in result.checks if check.state == "failed"]
    concerned = [check for check in failed if check.claim in (None, verdict.claim.name)]
    checks = ", ".join(f"{check.name} {check.value:.3g}" for check in concerned)
    print(
        f"{what} {verdict.claim.name:13} {'sound' if sound else 'masked':6} -> "
        f"{verdict.word:10} claimed {100 * verdict.claim.accuracy:5.1f} lost {verdict.gap.lost:3} "
        f"({result.seconds:.0f} s)  {checks}",
        flush=True,
    )
    return Outcome(sound, verdict.word)


def rates(outcomes: Sequence[Outcome]) -> list[str]:
    """False and missed alarms with their 95 % intervals."""
    lines = []
    for sound, what in ((True, "false alarms on sound pairs"), (False, "missed alarms on masked pairs")):
        wrong = [outcome.wrong for outcome in outcomes if outcome.sound == sound]
        if wrong:
            low, high = wilson_interval(sum(wrong), len(wrong))
            lines.append(f"{what}: {sum(wrong)} of {len(wrong)} (95 %: {100 * low:.1f} to {100 * high:.1f} %)")
    return lines


def main() -> None:
    """Runs the calibration cases, then the judged ones, I-SCE last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="per sound model and data set")
    parser.add_argument("--masked-seeds", type=int, default=1, help="per masked model and data set")
    parser.add_argument("--i-sce", default=I_SCE, help="networks trained with I-SCE, with commas")
    parser.add_argument("--i-sce-images", type=int, default=IMAGES, help="of each network trained with I-SCE")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "audit-truth", help="of references")
    parser.add_argument("--only", choices=("calibration", "judged", "i-sce"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"quick audit of LeNet-5, {IMAGES} images, L2 radii {RADII}; models: {', '.join(MODELS)}; "
        f"{len(MASKED_MODELS)} of them masked under any evaluation"
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchattacks", "numpy"))
    print(
        f"python {platform.python_version()}, {packages}; {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} CPUs, one torch thread"
    )
    for title, (data, first) in (("calibration", CALIBRATION), ("judged", JUDGED)):
        if arguments.only in (None, title):
            outcomes = run(data, first, arguments.seeds, arguments.masked_seeds)
            for line in rates(outcomes):
                print(f"{title}: {line}", flush=True)
    if arguments.only in (None, "i-sce"):
        arguments.cache.mkdir(parents=True, exist_ok=True)
        print(f"I-SCE: {arguments.i_sce_images} images, claims by {', '.join(pair.name for pair in OTHER_CLAIMS)}")
        for line in rates(run_i_sce(arguments.i_sce.split(","), arguments.i_sce_images, arguments.cache)):
            print(f"I-SCE: {line}", flush=True)


if __name__ == "__main__":
    main()
