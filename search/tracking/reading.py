"""Whether what hangs on the ledger agrees with it, row by row: ``trials.csv`` and MLflow."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.frames import to_frame
from analysis.records import TrialRecord
from search.runs.folder import Run
from search.tracking.mirror import TrackedTrial, explain, metric_name, read_tracked, shown, tracked_status

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Agreement:
    """What was compared with the ledger, and what does not agree.

    Args:
        trials: Trials in the ledger, baselines included.
        differences: One line each; empty where all agrees.
    """

    trials: int
    differences: list[str]


def compare(
    run: Run, records: Sequence[TrialRecord], history: Mapping[str, Sequence[Mapping[str, float]]]
) -> Agreement:
    """Compares the ledger of a run that nobody drives with its table and with MLflow.

    Args:
        run: The run.
        records: Its ledger's trials.
        history: By number, the finished epochs of each.
    """
    return Agreement(len(records), [*_table_differences(run, records), *_tracking_differences(run, records, history)])


def _table_differences(run: Run, records: Sequence[TrialRecord]) -> list[str]:
    """What differs in ``trials.csv``, as text, for that is what other programs read."""
    path = run.folder / "trials.csv"
    if not path.is_file():
        return [f"trials.csv is not there, the ledger has {len(records)} trials"] if records else []
    there = _as_text(path.read_text(encoding="utf-8"))
    wanted = _as_text(to_frame(records).to_csv(index=False, lineterminator="\n")).set_index("number")
    lines = _presence("trials.csv", list(wanted.index), list(there["number"]))
    there = there.drop_duplicates("number").set_index("number")
    for number in wanted.index.intersection(there.index):
        ours, theirs = wanted.loc[number], there.loc[number].reindex(wanted.columns)
        columns = list(ours.index[ours.ne(theirs) & ~(ours.isna() & theirs.isna())])
        if columns:
            lines.append(f"trials.csv, trial {number}: {', '.join(columns)} differ")
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
    # A trial that waits to be resumed is shown as killed.
    wanted = "KILLED" if record.state == "running" else tracked_status(record.state)
    if child.status != wanted:
        lines.append(f"status {child.status} for a trial that is {record.state}")
    epochs = [int(epoch["epoch"]) for epoch in history]
    doubled = [step for step, count in Counter(child.epochs).items() if count > 1]
    if doubled:
        lines.append(f"epochs {', '.join(map(str, doubled))} are there more than once")
    elif sorted(child.epochs) != epochs:
        lines.append(f"{len(child.epochs)} epochs instead of {len(epochs)}")
    for name, value in record.parameters.items():
        if float(child.parameters.get(name, "nan")) != value:
            lines.append(f"{name} differs")
    for name, value in {**record.objectives, **record.accuracies}.items():
        if child.metrics.get(metric_name(name)) != value:
            lines.append(f"{name} differs")
    return lines


def _presence(where: str, wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    lines = []
    missing = [number for number in wanted if number not in set(there)]
    if missing:
        lines.append(f"{where} lacks trial {', '.join(missing)}")
    unknown = [number for number in dict.fromkeys(there) if number not in set(wanted)]
    if unknown:
        lines.append(f"{where} has trial {', '.join(unknown)}, which the ledger has not")
    doubled = [number for number, count in Counter(there).items() if count > 1]
    if doubled:
        lines.append(f"{where} has trial {', '.join(doubled)} more than once")
    return lines
