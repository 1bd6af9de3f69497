"""The results of an experiment as one tidy table, the source of its figures, text and verdicts.

One row per accuracy, and one per comparison that decides a claim. Columns:

    experiment, profile
    kind            ``measured``, ``network`` (one number per network), or ``claim``
    panel           the panel of the experiment
    member, method  the method's name in the pool, and its title
    setting         the values of the searched parameters (``s=1, m=0.1``)
    evaluation      ``clean``; ``attack``: the paper's attack, on the logits that the method decides by; ``worst``: the
                    worst case over the sound evaluation and all of the paper's attacks; or a measure without an attack
    attack          the attack's label; empty for clean images and measures
    radius, rms     the L2 radius, and the same divided by the square root of the numbers per image
    value, low, high    a fraction, or a claim's difference, with its 95 % interval over seeds and images
    seeds, images   how many seeds and images the value is from
    by_seed         the value of each seed, separated by spaces
    claim, against  for a claim: its name, and what the method is compared with
    network, data, in_place_of    what was trained, and the replacements of the paper's network and data
    units, seconds  the number of networks in the panel, and the sum of their training and attack times
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
# Measures of a setting's networks that need no attack, by name; shape (seeds, images) or (seeds,).
Measures = Mapping[str, Array]

CLEAN: Final = "clean"
ATTACK: Final = "attack"
COLUMNS: Final = (
    *("experiment", "profile", "kind", "panel", "member", "method", "setting", "evaluation", "attack", "radius", "rms"),
    *("value", "low", "high", "seeds", "images", "by_seed", "claim", "against"),
    *("network", "data", "in_place_of", "units", "seconds", "versions", "hardware"),
)
_DIGITS: Final = 6
# The versions that the numbers depend on most; the runs' manifests list all.
_VERSIONS: Final = ("robustfront", "python", "torch", "numpy")


@dataclass(frozen=True)
class MeasuredSetting:
    """One setting of a method, and the results of its networks."""

    method: str  # the member's name
    title: str
    parameters: Mapping[str, Any]
    config: SweepConfig
    outcomes: Sequence[Outcomes]  # one per seed, in order
    measures: Measures

    def kept(self, attack: str | None, radius: float | None, evaluation: str) -> Array:
        """Whether each image was classified correctly, bool (seeds, images); or the measure named ``evaluation``."""
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
        """Whether the selection includes this setting."""
        return self.method == selection.method and all(
            name in self.parameters and math.isclose(float(self.parameters[name]), value)
            for name, value in selection.where.items()
        )


@dataclass(frozen=True)
class MeasuredPanel:
    """A panel and its finished sweeps. ``sweeps`` maps each member to its title and its sweep."""

    title: str
    panel: Panel
    values: int  # numbers per image
    in_place_of: str
    sweeps: Mapping[str, tuple[str, Contestant]]
    measures: Callable[[Contestant, Sequence[str]], Measures]  # for units, one per seed

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
        """The columns that have the same value in all rows of the panel."""
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
    """The table of an experiment, as described in the module. All sweeps must be finished."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for panel in panels:
        about = {"experiment": name, "profile": profile, **panel.about()}
        claims = [claim for claim in experiment.claims if claim.panel == panel.title]
        rows += [{**about, **row} for setting in panel.settings for row in _measured_rows(panel, setting)]
        rows += [{**about, **row} for claim in claims for row in _claim_rows(panel, claim)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measured_rows(panel: MeasuredPanel, setting: MeasuredSetting) -> Iterator[dict[str, Any]]:
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
    """A mean and its interval, over seeds and images if there are several of both."""
    seeds, images = len(kept), kept.shape[1] if kept.ndim == 2 else 0
    if not images:
        low, high = student_interval(kept) if seeds > 1 else (math.nan, math.nan)
    elif kept.dtype != np.bool_:
        low, high = student_interval(kept.mean(axis=1)) if seeds > 1 else (math.nan, math.nan)
    elif seeds > 1:
        low, high = seeds_and_images_interval(kept)
        if low == high:  # all networks agree: use the interval for the images of one
            low, high = wilson_interval(int(kept[0].sum()), images)
    else:
        low, high = wilson_interval(int(kept.sum()), images)
    by_seed = kept.mean(axis=1) if images else kept
    return _numbers(float(kept.mean()), low, high, seeds, images, by_seed)


def _numbers(value: float, low: float, high: float, seeds: int, images: int, by_seed: Array) -> dict[str, Any]:
    numbers = {name: round(number, _DIGITS) for name, number in {"value": value, "low": low, "high": high}.items()}
    return {**numbers, "seeds": seeds, "images": images, "by_seed": " ".join(f"{value:.4f}" for value in by_seed)}


def _claim_rows(panel: MeasuredPanel, claim: Claim) -> Iterator[dict[str, Any]]:
    """The rows that decide a claim: one per comparison and evaluation."""
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
            against = "its largest value" if claim.kind == "peak" else "its worst setting"
            yield {
                **first,
                "setting": "at its best setting",
                "against": against,
                **_difference(*_best(own, claim.kind)),
            }
        else:
            for other in claim.others:
                title = " ".join(filter(None, (panel.sweeps[other.method][0], values_text(other.where))))
                yield {**first, "against": title, **_difference(_mean(own), _mean(outcomes(other)))}


def _mean(arrays: Sequence[Array]) -> Array:
    return np.asarray(np.mean(arrays, axis=0))


def _best(settings: Sequence[Array], kind: str) -> tuple[Array, Array]:
    """Results of the best setting and of the setting that it is compared with, each (seeds, images).

    For each seed, the settings are chosen by the other seeds, so that the choice does not bias the difference. Settings
    are in the order of the parameter. A peak lies strictly between the smallest and the largest value of the parameter,
    and is compared with the largest.
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
    """First minus second, paired over seeds and images; without an interval if there is only one seed."""
    differences = first - second
    seeds, images = len(differences), differences.shape[1] if differences.ndim == 2 else 0
    by_seed = differences.mean(axis=1) if images else differences
    if seeds < 2:
        return _numbers(float(differences.mean()), math.nan, math.nan, seeds, images, by_seed)
    mean, (low, high), _ = paired_difference(first, second)
    return _numbers(mean, low, high, seeds, images, by_seed)
