"""Reading a sweep back from MLflow, and the comparison of the ledger with ``trials.csv`` and MLflow, row by row."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from analysis.frames import to_frame
from analysis.records import TrialRecord
from search.config import sqlite_file
from search.runs.folder import Run
from search.runs.layout import TABLE_FILE
from search.tracking.client import NUMBER_TAG, client_of, explain, runs_of, shown
from search.tracking.mirror import STATUS, metric_name, parameter_text

if TYPE_CHECKING:
    import pandas as pd


class TrackedTrial(NamedTuple):
    """A trial as MLflow shows it: metrics by their MLflow names, and parameters as text.

    ``epochs`` has the step of every point of the training loss; a doubled point is listed twice.
    """

    number: str
    status: str
    epochs: tuple[int, ...]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]


def read_tracked(uri: str, experiment: str, identity: str) -> tuple[list[str], list[TrackedTrial]]:
    """The status of each run of the sweep itself in MLflow (one, if all is well), and the trials.

    Waits for MLflow and for its import; raises whatever either raises.
    """
    database = sqlite_file(uri)
    if database is not None and not database.exists():
        raise FileNotFoundError(f"{database} does not exist")
    client = client_of(uri)
    known = client.get_experiment_by_name(experiment)
    parents: list[str] = []
    trials: list[TrackedTrial] = []
    for run in runs_of(client, str(known.experiment_id), identity) if known is not None else ():
        number = run.data.tags.get(NUMBER_TAG)
        if number is None:
            parents.append(run.info.status)
            continue
        points = client.get_metric_history(run.info.run_id, "train_loss")
        steps = tuple(point.step for point in points)
        trials.append(TrackedTrial(number, run.info.status, steps, run.data.metrics, run.data.params))
    return parents, trials


def reconcile(
    run: Run, records: Sequence[TrialRecord], history: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[str]:
    """Compares the ledger of a run that has no driver with its table and with MLflow: one line per difference.

    ``history`` has the finished epochs of each trial, by number.
    """
    return [*_table_differences(run, records), *_tracking_differences(run, records, history)]


def _table_differences(run: Run, records: Sequence[TrialRecord]) -> list[str]:
    """Compares ``trials.csv`` as text, as other programs read it."""
    path = run.folder / TABLE_FILE
    if not path.is_file():
        return [f"{TABLE_FILE} is missing, the ledger has {len(records)} trials"] if records else []
    table = _as_text(path.read_text(encoding="utf-8"))
    ledger = _as_text(to_frame(records).to_csv(index=False, lineterminator="\n")).set_index("number")
    lines = _presence(TABLE_FILE, list(ledger.index), list(table["number"]))
    table = table.drop_duplicates("number").set_index("number")
    for number in ledger.index.intersection(table.index):
        ours, theirs = ledger.loc[number], table.loc[number].reindex(ledger.columns)
        columns = list(ours.index[ours.ne(theirs) & ~(ours.isna() & theirs.isna())])
        if columns:
            lines.append(f"{TABLE_FILE}, trial {number}: {', '.join(columns)} differ")
    return lines


def _as_text(csv: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(io.StringIO(csv), dtype=str)


def _tracking_differences(
    run: Run, records: Sequence[TrialRecord], history: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[str]:
    try:
        parents, children = read_tracked(run.tracking_uri, run.config.tracking.experiment, run.manifest()["id"])
    except Exception as error:  # whatever MLflow or a database driver raises
        return [f"MLflow at {shown(run.tracking_uri)} cannot be read: {explain(run.tracking_uri, error)}"]
    lines = [] if len(parents) == 1 else [f"MLflow has {len(parents)} runs of the sweep itself"]
    lines += [f"MLflow has the sweep's run as {status}" for status in parents if status == "RUNNING"]
    lines += _presence("MLflow", [record.number for record in records], [child.number for child in children])
    by_number = {child.number: child for child in children}
    for record in records:
        child = by_number.get(record.number)
        if child is not None:
            different = _child_differences(record, history[record.number], child)
            if different:
                lines.append(f"MLflow, trial {record.number}: {', '.join(different)}")
    return lines


def _child_differences(record: TrialRecord, history: Sequence[Mapping[str, float]], child: TrackedTrial) -> list[str]:
    lines = []
    # Without a driver, MLflow shows a running trial as killed.
    expected = "KILLED" if record.state == "running" else STATUS[record.state]
    if child.status != expected:
        lines.append(f"status {child.status} for a trial that is {record.state}")
    epochs = [int(epoch["epoch"]) for epoch in history]
    doubled = [step for step, count in Counter(child.epochs).items() if count > 1]
    if doubled:
        lines.append(f"epochs {', '.join(map(str, doubled))} are recorded more than once")
    elif sorted(child.epochs) != epochs:
        lines.append(f"{len(child.epochs)} epochs instead of {len(epochs)}")
    parameters, accuracies = record.parameters, {**record.objectives, **record.accuracies}
    different = [name for name in parameters if child.parameters.get(name) != parameter_text(parameters[name])]
    different += [name for name in accuracies if child.metrics.get(metric_name(name)) != accuracies[name]]
    return lines + [f"{name} differs" for name in different]


def _presence(where: str, expected: Sequence[str], present: Sequence[str]) -> list[str]:
    """Which trials are missing, unknown or doubled."""
    missing = [number for number in expected if number not in set(present)]
    unknown = [number for number in dict.fromkeys(present) if number not in set(expected)]
    doubled = [number for number, count in Counter(present).items() if count > 1]
    lines = {
        f"{where} lacks trial {', '.join(missing)}": missing,
        f"{where} has trial {', '.join(unknown)}, which the ledger does not have": unknown,
        f"{where} has trial {', '.join(doubled)} more than once": doubled,
    }
    return [line for line, numbers in lines.items() if numbers]
