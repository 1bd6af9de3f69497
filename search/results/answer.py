"""The answer of a sweep: which setting to use, how certain that is, and whether the parameters matter at all.

The search units make the choice, by the noise model of `analysis.noise`. The confirmation units only measure how good
it is. Claimed values are compared, because they are measured in the same way for all units. ``answer.json`` holds the
answer of the last driver that ended the sweep:

    sentence             the answer in English
    units                how many complete search units, of settings and baselines, it rests on
    seeds                how many distinct seeds these have
    recommended          {number, parameters, certainty}
    verdict              by objective {matters, effect, over_baseline}: see `analysis.matters.Matter` and
                         `analysis.verdict.Advantage`; ``over_baseline`` is null where nothing was confirmed
    components           by objective {seed, interaction, images_shared, images_per_unit}: standard deviations in
                         points; null if unknown
    entries              a list, settings first: number, parameters (or baseline), means, intervals, on_front,
                         probability, tied_with_best
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.matters import label
from analysis.records import TrialRecord
from search.config import StudyConfig
from search.results.final import pooled
from search.results.intervals import Kept, outcomes_of
from search.results.text import baseline_note
from search.runs.folder import RunFolder
from search.runs.layout import ANSWER_FILE
from trainables import files
from trainables.metrics import ATTACK_PASSES, CLEAN, ROBUST, TRAIN_PASSES, Direction

if TYPE_CHECKING:
    from collections.abc import Hashable

    from analysis.noise import NoiseModel, Observation, Setting
    from analysis.verdict import Answer

# The default smallest differences of interest. Other objectives have one only if the configuration gives it.
SMALLEST_EFFECT: Final[Mapping[str, float]] = {CLEAN: 0.005, ROBUST: 0.02}


@dataclass(frozen=True)
class Choice:
    """The numbers of the settings and baselines that a search has chosen to confirm, the most important first.

    ``settings`` are the recommendation, the settings with the highest and lowest posterior mean of each objective, and
    the rest of the front. ``baselines`` are the best in robust accuracy, and those that are better than it by an effect
    of interest in another objective.
    """

    settings: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """A sweep's answer, with the models and numbers behind it.

    ``effects`` are the smallest effects of interest by objective, ``numbers`` the records' numbers by setting.
    ``images`` is the number of attacked images per unit that this search used, and the number that gives the most
    certainty per unit of work; None if unknown.
    """

    answer: Answer
    objectives: Mapping[str, Direction]
    effects: Mapping[str, float]
    models: Mapping[str, NoiseModel]
    numbers: Mapping[Hashable, str]
    images: tuple[int, int] | None = None

    @property
    def lines(self) -> list[str]:
        """The answer and the noise, as lines of text."""
        answer = f"Answer: {self.answer.sentence}"
        if self.answer.this_network_only:
            return [f"{answer}; train.replicates and search.confirmation_seeds add seeds."]
        noise = [f"Noise of {label(name)}: {model.components.sentence}" for name, model in self.models.items()]
        if self.images is not None:
            used, best = self.images
            noise.append(f"About {best} attacked images per unit are most efficient; this search used {used}.")
        return [f"{answer}.", *noise]

    def number(self, setting: Setting) -> str:
        """The number of the first unit of a setting or baseline."""
        from analysis.noise import setting_key

        return self.numbers[setting_key(setting)]

    @property
    def choice(self) -> Choice:
        """What to confirm."""
        from analysis.matters import extremes

        answer = self.answer
        objectives = sorted(self.models, key=lambda name: name != ROBUST)  # robust accuracy first
        settings = [answer.recommended.setting]
        settings += [setting for name in objectives for setting in extremes(self.models[name])]
        settings += [entry.setting for entry in answer.entries if entry.on_front and not entry.is_baseline]
        measured = [entry for entry in answer.entries if entry.is_baseline]
        baselines: list[Setting] = []
        for name in objectives if measured else ():
            sign = 1 if self.objectives[name] == "maximize" else -1
            value = {entry.setting: sign * entry.means[name] for entry in measured}
            best = max(value, key=value.__getitem__)
            if value[best] >= max((value[each] for each in baselines), default=-math.inf) + self.effects[name]:
                baselines.append(best)
        return Choice(tuple(dict.fromkeys(map(self.number, settings))), tuple(map(self.number, baselines)))

    def to_json(self) -> dict[str, Any]:
        """The contents of ``answer.json``."""
        answer, (first, *_) = self.answer, self.models.values()
        return {
            "sentence": answer.sentence,
            "units": first.units,
            "seeds": len(first.seeds),
            "recommended": {
                "number": self.number(answer.recommended.setting),
                "parameters": answer.recommended.setting,
                "certainty": answer.certainty,
            },
            "verdict": {
                name: {
                    "matters": matter.matters,
                    "effect": list(matter.effect),
                    "over_baseline": list(answer.over_baseline[name].interval)
                    if name in answer.over_baseline
                    else None,
                }
                for name, matter in answer.matters.items()
            },
            "components": {name: asdict(model.components) for name, model in self.models.items()},
            "entries": [
                {
                    "number": self.number(entry.setting),
                    "baseline" if entry.is_baseline else "parameters": entry.setting,
                    "means": dict(entry.means),
                    "intervals": {name: list(interval) for name, interval in entry.intervals.items()},
                    "on_front": entry.on_front,
                    "probability": entry.probability,
                    "tied_with_best": dict(entry.tied_with_best),
                }
                for entry in answer.entries
            ],
        }


def answer_of(config: StudyConfig, folder: Path | None, units: Sequence[TrialRecord]) -> Answered | None:
    """A run's answer; None before there is a complete setting that meets the constraints.

    Trials taken over from other runs count like others, with their own seeds.

    Args:
        config: The run's configuration, which says which objectives are compared.
        folder: The run's folder, which holds the per-image outcomes; None if there are none.
        units: The records of all units.
    """
    effects = {**SMALLEST_EFFECT, **config.search.smallest_effect}
    objectives = {name: direction for name, direction in config.objectives.items() if name in effects}
    settings = {
        record.number: _setting(record, config)
        for record in pooled(units, config.bounds)
        if record.state == "complete" and (record.is_baseline or record.feasible)
    }
    _make_names_unique(settings)
    complete = [unit for unit in units if unit.state == "complete" and (unit.extends or unit.number) in settings]
    if not objectives or all(isinstance(setting, str) for setting in settings.values()):
        return None

    from analysis.noise import Observation, fit, setting_key
    from analysis.verdict import answer

    def observed(name: str, role: str) -> list[Observation]:
        measured = [unit for unit in complete if unit.role == role]
        outcomes = _comparable(outcomes_of(folder, unit) for unit in measured)
        return [
            Observation(
                setting=settings[unit.extends or unit.number],
                seed=seed,
                value=replicate[name],
                outcomes=kept[name][r] if kept is not None and name in kept else None,
            )
            for unit, kept in zip(measured, outcomes, strict=True)
            for r, (seed, replicate) in enumerate(zip(unit.seeds, unit.replicates, strict=True))
        ]

    models = {name: fit(observed(name, "search"), config.domains) for name in objectives}
    confirmation = {name: observed(name, "confirmation") for name in objectives}
    numbers = {setting_key(setting): number for number, setting in settings.items()}
    return Answered(
        answer(models, objectives, effects, confirmation, config.search.seed),
        objectives,
        effects,
        models,
        numbers,
        _images([unit for unit in complete if unit.role == "search"], models),
    )


def _images(units: Sequence[TrialRecord], models: Mapping[str, NoiseModel]) -> tuple[int, int] | None:
    """How many images the units attacked, and the most efficient number; None if it is unknown."""
    from analysis.noise import best_images

    counts = [(values, unit.images[ROBUST]) for unit in units for values in unit.replicates if ATTACK_PASSES in values]
    if ROBUST not in models or not counts:
        return None
    used = counts[0][1]
    training = sum(values[TRAIN_PASSES] for values, _ in counts) / len(counts)
    attack = sum(values[ATTACK_PASSES] for values, _ in counts) / len(counts) / used
    best = best_images(models[ROBUST].components, used, training, attack) if attack > 0 else None
    return None if best is None else (used, best)


def write_answer(run: RunFolder, answered: Answered) -> None:
    """Writes ``answer.json``."""
    files.write(run.folder / ANSWER_FILE, json.dumps(answered.to_json(), indent=2) + "\n")
    run.share(run.folder / ANSWER_FILE)


def read_answer(run: RunFolder) -> dict[str, Any] | None:
    """The contents of ``answer.json``; None before a driver has ended the sweep."""
    path = run.folder / ANSWER_FILE
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _setting(record: TrialRecord, config: StudyConfig) -> Setting:
    """A point of the space, or a baseline's name."""
    if record.is_baseline:
        return baseline_note(record, config)
    return {name: record.parameters[name] for name in config.domains}


def _make_names_unique(settings: dict[str, Setting]) -> None:
    """Appends the number to every baseline's name that is not unique."""
    names = Counter(setting for setting in settings.values() if isinstance(setting, str))
    for number, setting in settings.items():
        if isinstance(setting, str) and names[setting] > 1:
            settings[number] = f"{setting} ({number})"


def _comparable(outcomes: Iterable[Kept | None]) -> list[Kept | None]:
    """The outcomes if all units have them, on the same number of images; else None for every unit."""
    units = list(outcomes)
    shapes = {None if kept is None else (kept[CLEAN].shape[1], kept[ROBUST].shape[1]) for kept in units}
    return units if len(shapes) == 1 else [None] * len(units)
