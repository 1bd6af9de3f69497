"""The search's Pareto-optimal settings, for people and ready to be used by programs."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analysis.records import CLAIMED, TrialRecord, in_order, is_accuracy
from analysis.statistics import difference_interval

Direction = Literal["maximize", "minimize"]
Format = Literal["json", "yaml", "csv"]


@dataclass(frozen=True)
class Verification:
    """What the test split said of a run's settings.

    Args:
        trials: Of each setting that was evaluated on it, by number: its accuracies there, as objectives.
        openings: How often the test split has been opened for the run, by whichever command.
    """

    trials: Mapping[str, TrialRecord] = field(default_factory=dict)
    openings: int = 0


def flattered(record: TrialRecord, tested: TrialRecord) -> list[str]:
    """The objectives in which a setting does worse on test images than on validation images by more than chance.

    Settings are chosen by their validation numbers, so the luckiest are chosen too.

    Args:
        record: The setting on validation images.
        tested: The same on test images.

    Returns:
        Those where the 95 % interval of the difference of two independent proportions lies above 0, each judged for
        itself: of forty numbers that chance alone lowers, one is named. The replicates saw the same images, so their
        mean counts as one model's accuracy on them.

    Source:
        Newcombe 1998, method 10 (``difference_interval``).
    """

    def counts(trial: TrialRecord, name: str) -> tuple[int, int]:
        images = trial.images_of(name)
        assert images is not None
        return round(trial.value(name) * images), images

    return [
        name
        for name in record.objectives
        if name in tested.objectives and difference_interval(counts(record, name), counts(tested, name)).low > 0
    ]


def is_nondominated(
    points: npt.ArrayLike, directions: Sequence[Direction], violation: npt.ArrayLike | None = None
) -> npt.NDArray[np.bool_]:
    """Which points no other point dominates: none is at least as good in every objective and better in one.

    Args:
        points: Objective values, finite. Shape (n, k); n may be 0.
        directions: The direction of each objective, k of them.
        violation: How far each point misses the constraints, 0 if it meets them. Shape (n,); None without constraints.
            A point that misses them by less dominates one that misses them by more, whatever their objectives.

    Returns:
        The mask of the front. Shape (n,). Of equal points all are in it, or none.

    Source:
        Deb, Pratap, Agarwal and Meyarivan 2002, IEEE TEVC 6, section VI-A: constrained domination. There, infeasible
        points of equal violation are equal; here, their objectives decide.
    """
    import moocore

    values = np.asarray(points, dtype=np.float64).reshape(-1, len(directions))
    if not len(values):
        return np.zeros(0, dtype=bool)
    mask = np.ones(len(values), dtype=bool)
    if violation is not None:
        missed = np.asarray(violation, dtype=np.float64)
        mask = missed == missed.min()
    maximise = [d == "maximize" for d in directions]
    mask[mask] = moocore.is_nondominated(values[mask], maximise=maximise, keep_weakly=True)
    return mask


def complete_search_trials(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that may stand on a front: never baselines, replicates, pruned, failed or running ones. By number."""
    return [record for record in in_order(records) if record.state == "complete" and record.kind == "search"]


def objective_matrix(records: Sequence[TrialRecord], objectives: Iterable[str]) -> npt.NDArray[np.float64]:
    """The named objectives of complete trials. Shape (trials, objectives)."""
    names = list(objectives)
    return np.array([[record.objectives[name] for name in names] for record in records]).reshape(-1, len(names))


def pareto_front(records: Iterable[TrialRecord], objectives: Mapping[str, Direction]) -> list[TrialRecord]:
    """The search's Pareto-optimal trials.

    Args:
        records: All trials of a run.
        objectives: The direction of each objective that counts.

    Returns:
        The non-dominated among the search's complete trials that meet the constraints, equal ones all kept, best in
        the first objective first (then in the second, ..., then by number). Where none meets them, those that miss
        them least: whether the first of the front is ``feasible`` says which.
    """
    candidates = complete_search_trials(records)
    values = objective_matrix(candidates, objectives)
    directions = list(objectives.values())
    mask = is_nondominated(values, directions, [record.violation for record in candidates])
    loss = values * [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    front = [(tuple(row), record) for row, record, best in zip(loss, candidates, mask, strict=True) if best]
    return [record for _, record in sorted(front, key=lambda pair: pair[0])]


def pareto_table(front: Sequence[TrialRecord], objectives: Iterable[str]) -> list[dict[str, str]]:
    """The front in text for people.

    Args:
        front: What ``pareto_front`` gave.
        objectives: The objectives to show.

    Returns:
        One row a trial: heading to cell. Fractions of images are in percent, and each objective has its 95 % interval
        in brackets. How many replicates a row rests on is said where one rests on several.
    """
    rows = []
    replicated = any(len(record.replicates) > 1 for record in front)
    for record in front:
        row = {"trial": record.number, **{name: f"{value:.4g}" for name, value in record.parameters.items()}}
        for name in objectives:
            scale, unit, style = (100.0, " %", ".1f") if is_accuracy(name) else (1.0, "", ".4g")
            low, high = record.interval(name)
            cell = f"{scale * record.objectives[name]:{style}}"
            bracket = "" if np.isnan(low) else f" [{scale * low:{style}}, {scale * high:{style}}]"
            row[f"{name.replace('_', ' ')}{unit} [95 %]"] = cell + bracket
        if replicated:
            row["replicates"] = str(len(record.replicates))
        if record.constraints:
            row["constraints"] = constraints_text(record)
        rows.append(row)
    return rows


def constraints_text(record: TrialRecord) -> str:
    """Whether a trial meets its constraints, for people: ``met``, or ``missed by 0.012``."""
    return "met" if record.feasible else f"missed by {record.violation:.4g}"


def train_command(record: TrialRecord, config: str) -> str:
    """The command that trains a trial's setting again, every parameter in full precision, with all its replicates.

    Args:
        record: The trial.
        config: Path of the configuration of its sweep.
    """
    parameters = [f"--param {name}={float(value)!r}" for name, value in record.parameters.items()]
    pooled = [f"--set train.replicates={len(record.replicates)}"] if record.extensions else []
    return " ".join(["robustfront train", shlex.quote(config), *parameters, *pooled])


def pareto_entries(
    front: Sequence[TrialRecord],
    objectives: Iterable[str],
    config: str,
    verification: Verification | None = None,
) -> list[dict[str, Any]]:
    """The front for programs: what JSON and YAML hold.

    Args:
        front: What ``pareto_front`` gave.
        objectives: The objectives to export.
        config: Path of the configuration, for the command.
        verification: What the test split said.

    Returns:
        One entry a trial: number, loss, params; each objective, and NAME_interval as [low, high] (None where there is
        no interval); of a setting that was audited, claimed_accuracy and the verdict on it, for robust_accuracy is what
        was verified then; feasible and violation where there are constraints; origin of a trial that was taken over;
        replicates (how many), their seeds; command. Where the test split has been opened: test_openings, and of each
        setting that was evaluated on it test_NAME and test_NAME_interval of each accuracy, and below_validation, the
        objectives that ``flattered`` names.
    """
    names = list(objectives)
    entries = []
    for record in front:
        entry: dict[str, Any] = {
            "number": int(record.number),
            "loss": record.loss,
            "params": {name: float(value) for name, value in record.parameters.items()},
        }
        for name in names:
            interval = record.interval(name)
            entry[name] = float(record.objectives[name])
            entry[f"{name}_interval"] = None if np.isnan(interval.low) else [float(interval.low), float(interval.high)]
        if record.verdict is not None:
            entry |= {CLAIMED: float(record.accuracies[CLAIMED]), "verdict": record.verdict}
        if verification is not None and verification.openings:
            entry |= _test_entry(record, names, verification)
        if record.constraints:
            entry |= {"feasible": record.feasible, "violation": record.violation}
        if record.origin is not None:
            entry["origin"] = record.origin
        entry["replicates"] = len(record.replicates)
        entry["seeds"] = list(record.seeds)
        entry["command"] = train_command(record, config)
        entries.append(entry)
    return entries


def _test_entry(record: TrialRecord, objectives: Iterable[str], verification: Verification) -> dict[str, Any]:
    entry: dict[str, Any] = {"test_openings": verification.openings}
    tested = verification.trials.get(record.number)
    if tested is not None:
        for name in filter(tested.objectives.__contains__, objectives):
            entry[f"test_{name}"] = float(tested.objectives[name])
            entry[f"test_{name}_interval"] = [float(end) for end in tested.interval(name)]
        entry["below_validation"] = flattered(record, tested)
    return entry


def export(
    front: Sequence[TrialRecord],
    objectives: Iterable[str],
    style: Format,
    config: str,
    verification: Verification | None = None,
) -> str:
    """The front as the text of a JSON, YAML or CSV file.

    Args:
        front: What ``pareto_front`` gave.
        objectives: The objectives to export.
        style: The format. JSON and YAML hold ``pareto_entries``; CSV has one column a parameter, and NAME_low and
            NAME_high for each objective.
        config: Path of the configuration, for the commands.
        verification: What the test split said.

    Returns:
        The text, with a newline at its end.
    """
    entries = pareto_entries(front, objectives, config, verification)
    if style == "json":
        return json.dumps(entries, indent=2) + "\n"
    text = io.StringIO()
    if style == "yaml":
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe")
        yaml.default_flow_style = None  # settings a line each, intervals and seeds within their line
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.width = 10_000
        yaml.dump(entries, text)
        return text.getvalue()
    rows = [_flat(entry) for entry in entries]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["number"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in entry.items():
        if name == "params":
            row |= value
        elif name in ("seeds", "below_validation"):
            row[name] = " ".join(map(str, value))
        elif name.endswith("_interval"):
            objective = name.removesuffix("_interval")
            row[f"{objective}_low"], row[f"{objective}_high"] = value or (None, None)
        else:
            row[name] = value
    return row
