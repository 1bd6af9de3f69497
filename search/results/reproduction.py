"""What the networks of an experiment did, as one tidy table from which figures, text and verdicts are made.

One row per accuracy, and one per comparison that decides a claim. Columns:

    experiment, profile
    kind            ``measured``, ``network`` (of one number per network), or ``claim``
    panel           of the experiment
    member, method  the method's name in the pool, and its title
    setting         the values of what was searched (``s=1, m=0.1``)
    evaluation      ``clean``; ``attack``: the paper's attack, on the logits that the method decides by; ``worst``: what
                    the sound evaluation and all of the paper's attacks leave together; or a measure without an attack
    attack          its label; empty for clean images and measures
    radius, rms     in plain L2, and divided by the root of the numbers per image
    value, low, high    a fraction, or a claim's difference, with its 95 % interval over seeds and images
    seeds, images   behind it
    by_seed         the value of each seed, separated by spaces
    claim, against  of a claim: its name, and whom the method is compared with
    network, data, in_place_of    what was trained, and what stands for what is in the paper
    units, seconds  of all networks of the panel, trained and attacked, seconds of one after the other
    versions, hardware
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from analysis.statistics import paired_difference, seeds_and_images_interval, student_interval, wilson_interval
from search.config.experiments import WORST, Claim, Experiment, Panel, Profile, Selection, values_text
from search.results.leaderboard import Contestant
from trainables.robustness import Outcomes

if TYPE_CHECKING:
    import pandas as pd

    from search.config import SweepConfig

Array = npt.NDArray[Any]
# Measures of a setting's networks without an attack: by name, (seeds, images), or (seeds,).
Measures = Mapping[str, Array]

CLEAN: Final = "clean"
ATTACK: Final = "attack"
COLUMNS: Final = (
    *("experiment", "profile", "kind", "panel", "member", "method", "setting", "evaluation", "attack", "radius", "rms"),
    *("value", "low", "high", "seeds", "images", "by_seed", "claim", "against"),
    *("network", "data", "in_place_of", "units", "seconds", "versions", "hardware"),
)
_DIGITS: Final = 6
# Versions that numbers depend on most; the manifests of the runs have all.
_VERSIONS: Final = ("robustfront", "python", "torch", "numpy")


@dataclass(frozen=True)
class MeasuredSetting:
    """One setting of a method, and what its networks did."""

    method: str  # the member's name
    title: str
    parameters: Mapping[str, Any]
    config: SweepConfig
    outcomes: Sequence[Outcomes]  # one per seed, in their order
    measures: Measures

    def kept(self, attack: str | None, radius: float | None, evaluation: str) -> Array:
        """Whether images were classified correctly, bool (seeds, images); or a measure by the name ``evaluation``."""
        if evaluation in self.measures:
            return self.measures[evaluation]
        if evaluation == CLEAN:
            return np.stack([outcomes.clean[0] for outcomes in self.outcomes])
        assert radius is not None
        e = int(np.argmin(np.abs(np.array(self.config.robustness.epsilons) - radius)))
        if evaluation == WORST:
            return np.stack([outcomes.kept[0, :, :, e].all(axis=(0, 1)) for outcomes in self.outcomes])
        a = [each.description for each in self.config.robustness.attacks].index(str(attack))
        # The first view is the one that the method decides by, and the only one that the paper's attacks see.
        return np.stack([outcomes.kept[0, a, 0, e] for outcomes in self.outcomes])

    def fits(self, selection: Selection) -> bool:
        """Whether it is among the selected."""
        values = {**self.parameters}
        return self.method == selection.method and all(
            name in values and math.isclose(float(values[name]), value) for name, value in selection.where.items()
        )


@dataclass(frozen=True)
class MeasuredPanel:
    """A panel, and its sweeps: by member, the title and the finished sweep."""

    title: str
    panel: Panel
    values: int  # numbers per image
    in_place_of: str
    sweeps: Mapping[str, tuple[str, Contestant]]
    measures: Callable[[Contestant, Sequence[str]], Measures]  # of the networks with these numbers, one per seed

    @cached_property
    def settings(self) -> list[MeasuredSetting]:
        """The settings of all methods, in the order of the panel."""
        return [setting for member in self.panel.methods for setting in self._settings(member)]

    def _settings(self, member: str) -> Iterator[MeasuredSetting]:
        title, contestant = self.sweeps[member]
        units = [unit for unit in contestant.units if unit.state == "complete" and not unit.is_baseline]
        numbers = dict.fromkeys(unit.extends or unit.number for unit in units)
        settings = []
        for number in numbers:
            own = sorted((u for u in units if (u.extends or u.number) == number), key=lambda unit: unit.seed_index)
            outcomes = [Outcomes.load(contestant.run.fetched(str(unit.outcomes))) for unit in own]
            measures = self.measures(contestant, [unit.number for unit in own])
            settings.append(
                MeasuredSetting(member, title, dict(own[0].parameters), contestant.run.config, outcomes, measures)
            )
        yield from sorted(settings, key=lambda setting: tuple(setting.parameters.values()))

    def about(self) -> dict[str, Any]:
        """The columns that all rows of the panel share."""
        run = next(iter(self.sweeps.values()))[1].run
        manifest = run.manifest()
        units = [unit for _, each in self.sweeps.values() for unit in each.units if unit.state == "complete"]
        known = manifest["versions"]
        hardware = manifest["hardware"]
        return {
            "panel": self.title,
            "network": run.config.model.title,
            "data": run.config.data.dataset.title,
            "in_place_of": self.in_place_of,
            "units": len(units),
            "seconds": round(sum(unit.train_seconds + unit.attack_seconds for unit in units)),
            "versions": ", ".join(f"{name} {known[name]}" for name in _VERSIONS if name in known),
            "hardware": f"{hardware['cpus']} {hardware['machine']} processors",
        }


def make_table(name: str, experiment: Experiment, profile: Profile, panels: Sequence[MeasuredPanel]) -> pd.DataFrame:
    """The table of an experiment: see above. All sweeps must be finished."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for panel in panels:
        about = {"experiment": name, "profile": profile, **panel.about()}
        claims = [claim for claim in experiment.claims if claim.panel == panel.title]
        rows += [{**about, **row} for setting in panel.settings for row in _measured(panel, setting)]
        rows += [{**about, **row} for claim in claims for row in _decided(panel, claim)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measured(panel: MeasuredPanel, setting: MeasuredSetting) -> Iterator[dict[str, Any]]:
    what = {
        "kind": "measured",
        "member": setting.method,
        "method": setting.title,
        "setting": values_text(setting.parameters),
    }
    yield {**what, "evaluation": CLEAN, **_accuracy(setting.kept(None, None, CLEAN))}
    for measure in setting.measures:
        yield {**what, "kind": "network", "evaluation": measure, **_accuracy(setting.kept(None, None, measure))}
    for radius in panel.panel.radii.in_l2(panel.values):
        where = {"radius": radius, "rms": round(radius / math.sqrt(panel.values), _DIGITS)}
        for attack in panel.panel.attack_labels:
            kept = setting.kept(attack, radius, ATTACK)
            yield {**what, "evaluation": ATTACK, "attack": attack, **where, **_accuracy(kept)}
        yield {**what, "evaluation": WORST, **where, **_accuracy(setting.kept(None, radius, WORST))}


def _accuracy(kept: Array) -> dict[str, Any]:
    """A mean with its interval, over seeds and images where there are both."""
    seeds, images = len(kept), kept.shape[1] if kept.ndim == 2 else 0
    if not images:
        low, high = student_interval(kept) if seeds > 1 else (math.nan, math.nan)
    elif kept.dtype != np.bool_:
        low, high = student_interval(kept.mean(axis=1)) if seeds > 1 else (math.nan, math.nan)
    elif seeds > 1:
        low, high = seeds_and_images_interval(kept)
        if low == high:  # the same for all: as sure as one network's images make it
            low, high = wilson_interval(int(kept[0].sum()), images)
    else:
        low, high = wilson_interval(int(kept.sum()), images)
    each = kept.mean(axis=1) if images else kept
    return _numbers(float(kept.mean()), low, high, seeds, images, each)


def _numbers(value: float, low: float, high: float, seeds: int, images: int, each: Array) -> dict[str, Any]:
    numbers = {name: round(number, _DIGITS) for name, number in {"value": value, "low": low, "high": high}.items()}
    return {**numbers, "seeds": seeds, "images": images, "by_seed": " ".join(f"{value:.4f}" for value in each)}


def _decided(panel: MeasuredPanel, claim: Claim) -> Iterator[dict[str, Any]]:
    """The rows that decide a claim: one for each comparison and each evaluation."""
    radius = None if claim.at is None else claim.at.in_l2(panel.values)
    evaluations = [CLEAN] if claim.attack is None else [WORST] if claim.attack == WORST else [ATTACK, WORST]
    for evaluation in [claim.measure] if claim.measure is not None else evaluations:
        where = {
            "kind": "claim",
            "claim": claim.name,
            "evaluation": evaluation,
            "attack": claim.attack if evaluation == ATTACK else None,
            "radius": radius,
            "rms": None if radius is None else round(radius / math.sqrt(panel.values), _DIGITS),
        }

        def outcomes(selection: Selection, evaluation: str = evaluation) -> list[Array]:
            chosen = [setting for setting in panel.settings if setting.fits(selection)]
            assert chosen, f"{claim.name}: no setting of {selection}"
            return [setting.kept(claim.attack, radius, evaluation).astype(np.float64) for setting in chosen]

        member = claim.first.method
        first = {**where, "member": member, "method": panel.sweeps[member][0]}
        first["setting"] = values_text(claim.first.where)
        own = outcomes(claim.first)
        if claim.kind == "level":
            settings = [setting for setting in panel.settings if setting.fits(claim.first)]
            yield {**first, **_accuracy(settings[0].kept(claim.attack, radius, evaluation))}
        elif claim.kind in ("peak", "spread"):
            against = "the largest value" if claim.kind == "peak" else "the worst setting"
            yield {**first, "setting": "the best setting", "against": against, **_difference(*_best(own, claim.kind))}
        else:
            for other in claim.others:
                title = " ".join(filter(None, (panel.sweeps[other.method][0], values_text(other.where))))
                yield {**first, "against": title, **_difference(_mean(own), _mean(outcomes(other)))}


def _mean(arrays: Sequence[Array]) -> Array:
    return np.asarray(np.mean(arrays, axis=0))


def _best(settings: Sequence[Array], kind: str) -> tuple[Array, Array]:
    """What the best setting and the one it is compared with did, each (seeds, images).

    Each seed is judged by the choice of all other seeds, so that luck in the choice is no part of the difference. The
    settings are in the order of the parameter. A peak lies between the smallest value and the largest, and is compared
    with the latter.
    """
    stacked = np.stack(settings)  # (settings, seeds, images)
    first, second = [], []
    for seed in range(stacked.shape[1]):
        rest = np.delete(stacked, seed, axis=1) if stacked.shape[1] > 1 else stacked
        means = rest.mean(axis=(1, 2))
        best = 1 + int(np.argmax(means[1:-1])) if kind == "peak" else int(np.argmax(means))
        other = len(means) - 1 if kind == "peak" else int(np.argmin(means))
        first.append(stacked[best, seed])
        second.append(stacked[other, seed])
    return np.stack(first), np.stack(second)


def _difference(first: Array, second: Array) -> dict[str, Any]:
    """First minus second, paired over seeds and images; without an interval where there is one seed."""
    each = first - second
    images = each.shape[1] if each.ndim == 2 else 0
    by_seed = each.mean(axis=1) if images else each
    if len(each) < 2:
        return _numbers(float(each.mean()), math.nan, math.nan, len(each), images, by_seed)
    mean, (low, high), _ = paired_difference(first, second)
    return _numbers(mean, low, high, len(each), images, by_seed)
