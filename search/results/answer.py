"""What a sweep answers: which setting to use, how certain that is, and whether the parameters matter at all.

The units of the search choose, by the noise model of `analysis.noise`; those of the confirmation only say how good the
choice is. Both count by what they claim, which is measured in the same way for all of them. ``answer.json`` holds the
answer of the last driver that ended the sweep:

    sentence             the answer in English
    seeds                how many different seeds the search's units have
    recommended          {parameters, certainty}
    verdict              by objective {matters, effect, over_baseline}: see `analysis.matters.Matter` and
                         `analysis.verdict.Advantage`; ``over_baseline`` is null where nothing was confirmed
    components           by objective {seed, interaction, images_shared, images_per_unit}: standard deviations in
                         points; null where it is unknown
    entries              a list, settings first: parameters (or baseline), means, intervals, on_front, probability,
                         tied_with_best
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.matters import label
from analysis.records import TrialRecord
from search.config import SweepConfig
from search.results.final import pooled
from search.results.text import baseline_note
from search.runs.folder import Run
from search.runs.layout import ANSWER_FILE
from trainables import files
from trainables.metrics import CLEAN, ROBUST
from trainables.robustness import Outcomes

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.noise import NoiseModel, Observation, Setting
    from analysis.verdict import Answer

# The smallest difference that is of interest; other objectives have one only if the configuration gives it.
SMALLEST_EFFECT: Final[Mapping[str, float]] = {CLEAN: 0.005, ROBUST: 0.02}


@dataclass(frozen=True)
class Answered:
    """A sweep's answer, and the noise model behind it for each objective."""

    answer: Answer
    models: Mapping[str, NoiseModel]

    @property
    def lines(self) -> list[str]:
        """The answer and the noise, for people."""
        answer = f"Answer: {self.answer.sentence}"
        if self.answer.this_network_only:
            return [f"{answer}; train.replicates and search.replicates_for_front add seeds."]
        noise = [f"Noise of {label(name)}: {model.components.sentence}" for name, model in self.models.items()]
        return [f"{answer}.", *noise]

    def to_json(self) -> dict[str, Any]:
        """The contents of ``answer.json``."""
        answer, (first, *_) = self.answer, self.models.values()
        return {
            "sentence": answer.sentence,
            "seeds": len(first.seeds),
            "recommended": {"parameters": answer.recommended.setting, "certainty": answer.certainty},
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


def answer_of(run: Run, units: Sequence[TrialRecord]) -> Answered | None:
    """A run's answer; None before there is a complete setting that meets the constraints.

    Trials taken over from other runs count like others, by their own seeds.

    Args:
        run: Its configuration says which objectives are compared, and its folder holds the per-image outcomes.
        units: The records of all units.
    """
    config = run.config
    effects = {**SMALLEST_EFFECT, **config.search.smallest_effect}
    objectives = {name: direction for name, direction in config.objectives.items() if name in effects}
    settings = {
        record.number: _setting(record, config)
        for record in pooled(units, config.bounds)
        if record.state == "complete" and (record.is_baseline or record.feasible)
    }
    _tell_apart(settings)
    complete = [unit for unit in units if unit.state == "complete" and (unit.extends or unit.number) in settings]
    if not objectives or all(isinstance(setting, str) for setting in settings.values()):
        return None

    from analysis.noise import Observation, fit
    from analysis.verdict import answer

    outcomes = {unit.number: _outcomes(run, unit) for unit in complete}
    shapes = {None if each is None else (each[CLEAN].shape[1], each[ROBUST].shape[1]) for each in outcomes.values()}
    whole = len(shapes) == 1 and None not in shapes

    def observed(name: str, role: str) -> list[Observation]:
        return [
            Observation(
                setting=settings[unit.extends or unit.number],
                seed=seed,
                value=replicate[name],
                outcomes=kept[name][r] if whole and (kept := outcomes[unit.number]) and name in kept else None,
            )
            for unit in complete
            if unit.role == role
            for r, (seed, replicate) in enumerate(zip(unit.seeds, unit.replicates, strict=True))
        ]

    models = {name: fit(observed(name, "search"), config.domains) for name in objectives}
    confirmation = {name: observed(name, "confirmation") for name in objectives}
    return Answered(answer(models, objectives, effects, confirmation, config.search.seed), models)


def write_answer(run: Run, answered: Answered) -> None:
    """Writes ``answer.json``."""
    files.write(run.folder / ANSWER_FILE, json.dumps(answered.to_json(), indent=2) + "\n")
    run.share(run.folder / ANSWER_FILE)


def read_answer(run: Run) -> dict[str, Any] | None:
    """The contents of ``answer.json``; None before a driver has ended the sweep."""
    path = run.folder / ANSWER_FILE
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _setting(record: TrialRecord, config: SweepConfig) -> Setting:
    """A point of the space, or a baseline's name."""
    if record.is_baseline:
        return baseline_note(record, config)
    return {name: record.parameters[name] for name in config.domains}


def _tell_apart(settings: dict[str, Setting]) -> None:
    """Adds their numbers to the names of baselines that several have."""
    names = Counter(setting for setting in settings.values() if isinstance(setting, str))
    for number, setting in settings.items():
        if isinstance(setting, str) and names[setting] > 1:
            settings[number] = f"{setting} ({number})"


def _outcomes(run: Run, unit: TrialRecord) -> dict[str, npt.NDArray[np.bool_]] | None:
    """What a unit did on each image, by objective, bool (replicates, images); None where its file is not here."""
    path = run.folder / unit.outcomes if unit.outcomes else None
    if path is None or not path.is_file():
        return None
    found = Outcomes.load(path)
    return {CLEAN: found.clean, ROBUST: np.asarray(found.kept[:, :, :, 0].all(axis=(1, 2)))}
