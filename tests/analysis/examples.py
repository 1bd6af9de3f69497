"""Made-up runs that look like real ones: LeNet-5 on 5,000 digits, clean 96-98 %, robust 30-55 %."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from analysis.records import TrialRecord
from trainables.metrics import Direction
from trainables.settings.space import Choices, Domain, Range, Value

SM_RANGES = {"s": Range(low=1.0, high=2.0), "m": Range(low=0.0, high=0.1, low_exclusive=True)}
SM_DOMAINS: dict[str, Domain] = {**SM_RANGES}
MIXED_DOMAINS: dict[str, Domain] = {
    **SM_RANGES,
    "train.learning_rate": Range(low=1e-4, high=1e-1, log=True),
    "model.width": Range(low=1, high=4, integer=True),
    "defence.name": Choices(choices=("none", "adversarial-training")),
    "train.augment": Choices(choices=(False, True)),
}
OBJECTIVES: dict[str, Direction] = {"clean_accuracy": "maximize", "robust_accuracy": "maximize"}
ATTACKS = ("pgd50-ce/normalized", "pgd50-ce/worst", "pgd50-dlr/normalized", "pgd50-dlr/worst")
IMAGES = {"clean_accuracy": 1000, "robust_accuracy": 500}


def record(
    number: str,
    parameters: Mapping[str, Value],
    generator: np.random.Generator,
    *,
    replicates: int = 1,
    loss: str = "i-sce",
    gain: float = 0.0,
) -> TrialRecord:
    """A complete trial whose accuracies rise and fall smoothly with s and m, with a seed's noise."""
    s, m = float(parameters.get("s", 1.0)), float(parameters.get("m", 0.0))
    each: list[dict[str, float]] = []
    for _ in range(replicates):
        clean = round(1000 * (0.962 + 0.016 * (s - 1) + 0.05 * m + generator.normal(0, 0.002))) / 1000
        base = 0.52 - 0.16 * (s - 1) ** 1.5 + 0.3 * m + gain + generator.normal(0, 0.01)
        attacks = {
            name: round(500 * (base + shift)) / 500
            for name, shift in zip(ATTACKS, (0.06, 0.03, 0.04, 0.0), strict=True)
        }
        each.append({"clean_accuracy": clean, "robust_accuracy": min(attacks.values()) - 0.01, **attacks})
    mean = {name: float(np.mean([replicate[name] for replicate in each])) for name in each[0]}
    index = int(number.removeprefix("B"))
    return TrialRecord(
        number=number,
        loss=loss,
        parameters=parameters,
        state="complete",
        objectives={name: mean[name] for name in OBJECTIVES},
        accuracies={name: mean[name] for name in ATTACKS},
        replicates=tuple(each),
        seeds=tuple(range(100, 100 + replicates)),
        images=IMAGES,
        epochs=15,
        train_seconds=9.5,
        attack_seconds=6.25,
        started=1_700_000_000.0 + 20 * index,
        finished=1_700_000_016.5 + 20 * index,
        checkpoint=f"checkpoints/{number}/epoch-00015.pt",
        outcomes=f"outcomes/{number}.npz",
    )


def baselines(generator: np.random.Generator, replicates: int = 1) -> list[TrialRecord]:
    """Plain cross entropy, and the normalised one with s = 1 and m = 0."""
    return [
        record("B0", {}, generator, replicates=replicates, loss="cross-entropy", gain=-0.12),
        record("B1", {"s": 1.0, "m": 0.0}, generator, replicates=replicates, gain=-0.02),
    ]


def scattered_run(seed: int = 0, trials: int = 24, replicates: int = 1) -> list[TrialRecord]:
    """What TPE leaves: the reference setting first, then scattered ones; one pruned, one failed; two baselines."""
    generator = np.random.default_rng(seed)
    settings = [{"s": 1.0, "m": 0.1}] + [
        {"s": float(s), "m": float(m)}
        for s, m in zip(
            1 + generator.beta(0.9, 1.4, trials - 1), 0.1 * generator.beta(1.2, 0.9, trials - 1), strict=True
        )
    ]
    search = [record(str(i), setting, generator, replicates=replicates) for i, setting in enumerate(settings)]
    lost = [
        TrialRecord(number=str(trials), loss="i-sce", parameters={"s": 1.2, "m": 0.05}, state="pruned", epochs=4),
        TrialRecord(
            number=str(trials + 1),
            loss="i-sce",
            parameters={"s": 1.9, "m": 0.01},
            state="failed",
            failure="the loss is not finite",
        ),
    ]
    return search + lost + baselines(generator, replicates)


def grid_run(seed: int = 0, levels: int = 5, replicates: int = 1) -> list[TrialRecord]:
    """A product grid over s and m, and two baselines."""
    generator = np.random.default_rng(seed)
    settings = [
        {"s": float(s), "m": float(m)}
        for s in np.linspace(1, 2, levels)
        for m in np.linspace(0.1 / levels, 0.1, levels)
    ]
    search = [record(str(i), setting, generator, replicates=replicates) for i, setting in enumerate(settings)]
    return search + baselines(generator, replicates)


def mixed_run(seed: int = 0, trials: int = 40) -> list[TrialRecord]:
    """A search over all of ``MIXED_DOMAINS``, whose accuracies depend on s, the learning rate and the defence."""
    generator = np.random.default_rng(seed)
    records = []
    for i in range(trials):
        defence = str(generator.choice(["none", "adversarial-training"], p=[0.3, 0.7]))
        parameters: dict[str, Value] = {
            "s": float(generator.uniform(1, 2)),
            "m": float(generator.uniform(0.001, 0.1)),
            "train.learning_rate": float(10 ** generator.uniform(-4, -1)),
            "model.width": int(generator.integers(1, 5)),
            "defence.name": defence,
            "train.augment": bool(generator.integers(2)),
        }
        rate = np.log10(float(parameters["train.learning_rate"]))
        gain = -0.06 * (rate + 2.3) ** 2 - (0.0 if defence == "adversarial-training" else 0.1)
        records.append(replace(record(str(i), parameters, generator, gain=gain), defence=defence))
    values: dict[str, Value] = {"train.learning_rate": 0.001, "model.width": 1, "train.augment": False}
    return [
        *records,
        record("B0", values, generator, loss="cross-entropy", gain=-0.2),
        record("B1", {"s": 1.0, "m": 0.0, **values}, generator, gain=-0.1),
    ]


def trial(number: str, clean: float, robust: float, **changes: object) -> TrialRecord:
    fields: dict[str, object] = {
        "number": number,
        "loss": "i-sce",
        "parameters": {"s": 1 + clean / 3, "m": 0.1 / 3},
        "state": "complete",
        "objectives": {"clean_accuracy": clean, "robust_accuracy": robust},
        "images": {"clean_accuracy": 1000, "robust_accuracy": 500},
        "seeds": (7, 8),
    }
    return TrialRecord(**{**fields, **changes})  # type: ignore[arg-type]


def constrained(number: str, clean: float, robust: float) -> TrialRecord:
    return trial(number, clean, robust, constraints={"clean_accuracy >= 0.97": 0.97 - clean})


def many_baselines(count: int = 9) -> list[TrialRecord]:
    """A search whose contenders were given baselines at their own learning rates."""
    generator = np.random.default_rng(1)
    rates = [10.0 ** -(1 + i / 4) for i in range(count)]
    return [
        *scattered_run(),
        *(record(f"B{i}", {"train.learning_rate": rates[i]}, generator, gain=-0.1) for i in range(2, count)),
    ]
