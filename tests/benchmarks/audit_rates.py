"""How often an audit is wrong: false alarms on sound pairs, missed ones on masked pairs, with Wilson intervals.

    uv run python -m tests.benchmarks.audit_rates [--seeds 5] [--masked-seeds 1]

Thresholds were frozen on the calibration cases (MNIST digits); the judged cases are others (Fashion-MNIST, other
seeds, another radius). ``sound`` for a masked pair is a missed alarm; anything else for a sound pair is a false one.
"""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import torch

from analysis.statistics import wilson_interval
from tests.trainables.audit.planted_pairs import IMAGES, MASKED_MODELS, MODELS, RADII, SOUND_MODELS, Data, audited

# Data sets with their first seeds; the two share neither.
CALIBRATION: Final[tuple[Data, int]] = ("mnist5k", 0)
JUDGED: Final[tuple[Data, int]] = ("fashion-mnist", 100)


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
                verdict = result.verdicts[position]
                outcomes.append(Outcome(pair.sound, verdict.word))
                failed = [check for check in result.checks if check.state == "failed"]
                concerned = [check for check in failed if check.claim in (None, pair.name)]
                checks = ", ".join(f"{check.name} {check.value:.3g}" for check in concerned)
                print(
                    f"{data:13} seed {seed:3}  {name:21} {pair.name:13} {'sound' if pair.sound else 'masked':6} -> "
                    f"{verdict.word:10} claimed {100 * verdict.claim.accuracy:5.1f} lost {verdict.gap.lost:3} "
                    f"({result.seconds:.0f} s)  {checks}",
                    flush=True,
                )
    return outcomes


def rates(outcomes: list[Outcome]) -> list[str]:
    """False and missed alarms with their 95 % intervals."""
    lines = []
    for sound, what in ((True, "false alarms on sound pairs"), (False, "missed alarms on masked pairs")):
        wrong = [outcome.wrong for outcome in outcomes if outcome.sound == sound]
        if wrong:
            low, high = wilson_interval(sum(wrong), len(wrong))
            lines.append(f"{what}: {sum(wrong)} of {len(wrong)} (95 %: {100 * low:.1f} to {100 * high:.1f} %)")
    return lines


def main() -> None:
    """Runs the calibration cases, then the judged ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="per sound model and data set")
    parser.add_argument("--masked-seeds", type=int, default=1, help="per masked model and data set")
    parser.add_argument("--only", choices=("calibration", "judged"))
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


if __name__ == "__main__":
    main()
