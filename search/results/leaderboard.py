"""The results of a comparison of methods: each method's best settings on one scale, and which methods differ.

``leaderboard.json`` holds one object:

    name, profile        of the comparison; with ``quick``, the reference settings, not tuned
    setup                model, data, norm, radii (the first is audited), epochs, units and seeds, versions, hardware
    methods              a list: method, run, units (trained), seconds (of all training and attacks), audit_seconds
    rows                 a list, best first: method, number, loss, defence, parameters, seeds, clean, claimed and
                         verified (by radius), verdict, audited_seeds, robust, best_epoch, train_seconds and
                         attack_seconds (means per unit), represents (whether it represents its method: the setting
                         that the method's run recommends), on_front
    differences          a list: objective, first, second, mean, low, high, p, seeds, significant

An accuracy is {value, low, high, seeds, images}; its 95 % interval is over seeds and images, or over images with only
one seed. ``verified`` is the accuracy under the sweep's attacks and the audit together, over the audited seeds. At
radii other than the audited one, the smallest perturbations that the audit's attacks found count. ``robust`` is the
claim at the first radius, over all seeds, minus the mean loss under audit of the audited ones. The joint front is that
of ``clean`` and ``robust``. ``differences`` compare claims, which are measured for all seeds: paired over seeds and
images, all corrected together by Holm 1979.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.pareto import front_mask
from analysis.records import TrialRecord
from analysis.statistics import holm, paired_difference, seeds_and_images_interval, wilson_interval
from search.results.answer import read_answer
from search.results.audits import read_audit
from search.results.final import settings_of, worst_verdict
from search.results.front import front_of
from search.results.text import radius_title
from search.runs.folder import Run
from search.runs.layout import AUDIT_ARRAYS, AUDITS, LEADERBOARD_FILE
from trainables import files
from trainables.metrics import BEST_CLEAN, BEST_EPOCH, BEST_ROBUST, CLEAN, ROBUST
from trainables.robustness import Outcomes

Images = npt.NDArray[np.bool_]

FEWEST_SEEDS: Final = 2  # of a paired difference


@dataclass(frozen=True)
class Contestant:
    """A finished sweep of one method."""

    method: str
    run: Run
    units: Sequence[TrialRecord]


@dataclass(frozen=True)
class Measured:
    """The outcomes of one unit on each image."""

    clean: Images  # (N,)
    kept: Images  # by radius, (E, n)
    verified: Images | None  # by radius, on the images that were both attacked and audited; None without an audit
    verdict: str | None
    audit_seconds: float


@dataclass(frozen=True)
class Row:
    """One setting of a method, with its units' outcomes by seed index."""

    contestant: Contestant
    setting: TrialRecord
    units: Mapping[int, tuple[TrialRecord, Measured]]
    represents: bool

    def images(self, name: str, seeds: Iterable[int]) -> Images:
        """Whether each image is classified correctly, clean or as claimed at the first radius, (seeds, images)."""
        measured = [self.units[seed][1] for seed in seeds]
        return np.stack([each.clean if name == CLEAN else each.kept[0] for each in measured])

    @cached_property
    def audited(self) -> list[Measured]:
        return [measured for _, measured in self.units.values() if measured.verified is not None]

    @property
    def robust(self) -> float:
        """The mean claim of all seeds, minus the mean loss under audit of the audited ones."""
        claim = float(self.images(ROBUST, self.units).mean())
        losses = [
            each.kept[0, : each.verified.shape[1]].mean() - each.verified[0].mean()
            for each in self.audited
            if each.verified is not None
        ]
        return claim - float(np.mean(losses)) if losses else claim

    def to_json(self, on_front: bool) -> dict[str, Any]:
        """The row in ``leaderboard.json``."""
        radii = self.contestant.run.config.robustness.epsilons
        kept = np.stack([measured.kept for _, measured in self.units.values()], axis=1)
        verified = [each.verified for each in self.audited if each.verified is not None]
        records = [record for record, _ in self.units.values()]
        values = [replicate for record in records for replicate in record.replicates]
        best = {
            name: float(np.mean([each[name] for each in values]))
            for name in (BEST_CLEAN, BEST_ROBUST, BEST_EPOCH)
            if all(name in each for each in values)
        }
        verified_by_radius = {
            f"{radius:g}": accuracy(np.stack([each[e] for each in verified])) if verified else None
            for e, radius in enumerate(radii)
        }
        return {
            "method": self.contestant.method,
            "number": self.setting.number,
            "loss": self.setting.loss,
            "defence": self.setting.defence,
            "parameters": dict(self.setting.parameters),
            "seeds": len(self.units),
            "clean": accuracy(self.images(CLEAN, self.units)),
            "claimed": {f"{radius:g}": accuracy(kept[e]) for e, radius in enumerate(radii)},
            "verified": verified_by_radius,
            "verdict": worst_verdict([each.verdict for each in self.audited]) if verified else None,
            "audited_seeds": len(verified),
            "robust": self.robust,
            "best_epoch": best or None,
            "train_seconds": float(np.mean([record.train_seconds for record in records])),
            "attack_seconds": float(np.mean([record.attack_seconds for record in records])),
            "represents": self.represents,
            "on_front": on_front,
        }


def leaderboard(name: str, profile: str, contestants: Sequence[Contestant]) -> dict[str, Any]:
    """The contents of ``leaderboard.json``. The sweeps must be finished, with the same data, evaluation and budget."""
    rows = sorted((row for each in contestants for row in _rows(each)), key=lambda row: -row.robust)
    points = [(float(row.images(CLEAN, row.units).mean()), row.robust) for row in rows]
    audited = [bool(row.audited) for row in rows]
    front = front_mask(points, ["maximize", "maximize"], None, audited)
    return {
        "name": name,
        "profile": profile,
        "setup": _setup(contestants[0].run),
        "methods": [_cost(each) for each in contestants],
        "rows": [row.to_json(bool(on_front)) for row, on_front in zip(rows, front, strict=True)],
        "differences": _differences([row for row in rows if row.represents]),
    }


def accuracy(kept: Images) -> dict[str, Any]:
    """An accuracy with its 95 % interval, from whether each image is classified correctly, bool (seeds, images)."""
    seeds, images = kept.shape
    interval = seeds_and_images_interval(kept) if seeds > 1 else wilson_interval(int(kept.sum()), images)
    return {"value": float(kept.mean()), "low": interval.low, "high": interval.high, "seeds": seeds, "images": images}


def _rows(contestant: Contestant) -> list[Row]:
    """The settings on a sweep's front and the recommended one, with their confirmed values if the sweep confirms."""
    config, answer = contestant.run.config, read_answer(contestant.run)
    settings = settings_of(contestant.units, config.bounds)
    front = front_of(settings, config, answer)
    recommended = answer["recommended"]["parameters"] if answer is not None else {}

    def is_recommended(setting: TrialRecord) -> bool:
        searched = {name: setting.parameters[name] for name in config.domains if name in setting.parameters}
        return setting.state == "complete" and setting.kind == "search" and searched == recommended

    best = next(filter(is_recommended, settings), max(front, key=lambda setting: setting.value(ROBUST)))
    records = {unit.number: unit for unit in contestant.units}
    rows = []
    for setting in [*front, *([] if best in front else [best])]:
        if config.search.confirmation_seeds and setting.confirmed is None:
            continue
        units = [records[number] for number in (setting.confirmed or setting).units]
        measured = {unit.seed_index: (unit, _measured(contestant.run, unit)) for unit in units}
        rows.append(Row(contestant, setting, measured, represents=setting is best))
    return rows


def _measured(run: Run, unit: TrialRecord) -> Measured:
    assert unit.outcomes is not None, unit.number
    outcomes, folder = Outcomes.load(run.fetched(unit.outcomes)), run.fetched(f"{AUDITS}/{unit.number}")
    kept = outcomes.kept[0].all(axis=(0, 1))
    audit = read_audit(folder)
    if audit is None:
        return Measured(outcomes.clean[0], kept, None, None, 0.0)
    with np.load(folder / AUDIT_ARRAYS, allow_pickle=False) as arrays:
        held, distance = arrays["verified"][0], arrays["distance"][0]
    images, unit_of_radius = min(kept.shape[1], len(held)), audit["radius"] / audit["epsilon"]
    verified = kept[:, :images].copy()
    for e, epsilon in enumerate(outcomes.epsilons):
        verified[e] &= distance[:images] > epsilon * unit_of_radius
        if epsilon >= audit["epsilon"]:
            verified[e] &= held[:images]
    return Measured(outcomes.clean[0], kept, verified, audit["verdict"], audit["seconds"])


def _differences(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The difference of each pair of methods in both objectives; the better one is the first."""
    differences: list[dict[str, Any]] = []
    for name, pair in itertools.product((CLEAN, ROBUST), itertools.combinations(rows, 2)):
        seeds = _common_seeds(pair)
        if len(seeds) >= FEWEST_SEEDS:
            first, second = sorted(pair, key=lambda row: -row.images(name, seeds).mean())
            difference = paired_difference(first.images(name, seeds), second.images(name, seeds))
            methods = {"first": first.contestant.method, "second": second.contestant.method}
            low, high = difference.interval
            numbers = {"mean": difference.mean, "low": low, "high": high, "p": difference.p, "seeds": len(seeds)}
            differences.append({"objective": name, **methods, **numbers})
    significant = holm([each["p"] for each in differences])
    return [{**each, "significant": rejected} for each, rejected in zip(differences, significant, strict=True)]


def _common_seeds(pair: tuple[Row, Row]) -> list[int]:
    """The seeds of both; if there are enough seeds that did not choose the settings, only those."""
    common = sorted(pair[0].units.keys() & pair[1].units.keys())
    unseen = [seed for seed in common if all(row.units[seed][0].role == "confirmation" for row in pair)]
    return unseen if len(unseen) >= FEWEST_SEEDS else common


def _cost(contestant: Contestant) -> dict[str, Any]:
    """The total cost of a method's sweep, baselines included: seconds of wall time, summed over its units."""
    units = [unit for unit in contestant.units if unit.origin is None]
    audits = [read_audit(contestant.run.folder / AUDITS / unit.number) for unit in units]
    return {
        "method": contestant.method,
        "run": contestant.run.name,
        "units": sum(unit.state in ("complete", "pruned") for unit in units),
        "seconds": sum(unit.train_seconds + unit.attack_seconds for unit in units),
        "audit_seconds": sum(audit["seconds"] for audit in audits if audit is not None),
    }


def _setup(run: Run) -> dict[str, Any]:
    config, manifest = run.config, run.manifest()
    return {
        "model": config.model.title,
        "data": config.data.dataset.title,
        "norm": radius_title(config.robustness),
        "radii": list(config.robustness.epsilons),
        "epochs": config.train.epochs,
        "units": config.budget,
        "replicates": config.train.replicates,
        "seeds": manifest["seeds"],
        "versions": manifest["versions"],
        "hardware": manifest["hardware"],
    }


def write_leaderboard(folder: Path, document: Mapping[str, Any]) -> list[Path]:
    """Writes ``leaderboard.json``, the rows as ``.csv``, the page as ``.html`` and the joint front as ``.png``."""
    import pandas as pd

    from analysis.figures.joint_front import draw, page

    path = folder / LEADERBOARD_FILE
    return [
        files.write(path, json.dumps(document, indent=2) + "\n"),
        files.write(path.with_suffix(".csv"), pd.json_normalize(document["rows"]).to_csv(index=False)),
        files.write(path.with_suffix(".html"), page(document)),
        draw(document, path.with_suffix(".png")),
    ]
