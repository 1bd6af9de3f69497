"""The table of all records that a run keeps: ``trials.csv`` and ``trials.parquet``."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis.records import NO_INTERVAL, TrialRecord, in_order, value_text
from trainables import files
from trainables.metrics import COSTS, ROBUST, is_accuracy, is_under_attack, of_seed

_LEADING: Final = ("number", "kind", "state", "loss", "defence")
_COUNTS: Final = ("feasible", "violation", "replicates", "seeds", "epochs")
_TIMES: Final = ("train_seconds", "attack_seconds", "seconds", "started", "finished")
_TRAILING: Final = ("failure", "checkpoint", "outcomes", "origin", "extends", "verdict")

if TYPE_CHECKING:
    import pandas as pd  # takes a second to import, which a reader of the ledger need not wait for

    Column = pd.Series[Any]


def to_frame(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """The records as a table with one row per trial.

    Returns:
        The trials ``in_order``. The columns are always in this order: number, kind (search, baseline or replicates),
        state, loss, defence; each parameter (float64, Int64, boolean or string, by the values that occur); each
        objective, then each accuracy, as NAME, NAME_low, NAME_high; NAME[r] for each replicate r; feasible, violation
        (of complete trials); replicates (how many), seeds; images_NAME; epochs, train_seconds, attack_seconds,
        seconds; started, finished (ISO 8601, UTC); failure, checkpoint, outcomes, origin, extends, verdict. What a
        trial does not have is missing (NaN, NA).

    Raises:
        ValueError: A parameter has the name of another column.
    """
    import pandas as pd

    ordered = in_order(records)
    parameters = {
        name: _parameter([record.parameters.get(name) for record in ordered])
        for name in _names(record.parameters for record in ordered)
    }
    leading, others = _attributes(ordered, _LEADING), _measured(ordered)
    for name, column in _bookkeeping(ordered).items():  # a wall time may be an objective: a mean over the replicates
        others[name] = others[name].fillna(column) if name in others else column
    for name in parameters:
        if name in leading or name in others:
            raise ValueError(f"a parameter must not have the name of another column, got {name}; rename it")
    return pd.DataFrame(leading | parameters | others)


def is_column(name: str) -> bool:
    """Whether the table of all records has, or may have, a column of this name besides the parameters."""
    measure = name.removeprefix("images_").removesuffix("_low").removesuffix("_high")
    return name in (*_LEADING, *_COUNTS, *_TIMES, *_TRAILING) or measure in COSTS or is_accuracy(measure)


def _parameter(values: Sequence[Any]) -> Column:
    """A parameter's values as a column of the narrowest type that holds them all; None is missing."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return _column(values, "boolean")
    if kinds == {int}:
        return _column(values, "Int64")
    if kinds <= {int, float}:
        return _column(values, "float64")
    return _column((None if value is None else value_text(value) for value in values), "string")


def _measured(ordered: Sequence[TrialRecord]) -> dict[str, Column]:
    """Objectives and accuracies, with their intervals and the values of each replicate."""
    names = _names([*(record.objectives for record in ordered), *(record.accuracies for record in ordered)])
    most_replicates = max((len(record.replicates) for record in ordered), default=0)
    columns: dict[str, Column] = {}
    for name in names:
        measured = [record if name in record.objectives or name in record.accuracies else None for record in ordered]
        intervals = [record.interval(name) if record else NO_INTERVAL for record in measured]
        columns[name] = _column((record.value(name) if record else math.nan for record in measured), "float64")
        columns[f"{name}_low"] = _column((interval.low for interval in intervals), "float64")
        columns[f"{name}_high"] = _column((interval.high for interval in intervals), "float64")
    for name in names:
        for r in range(most_replicates):
            each = [record.replicates[r] if r < len(record.replicates) else {} for record in ordered]
            columns[of_seed(name, r)] = _column((replicate.get(name, math.nan) for replicate in each), "float64")
    return columns


def _bookkeeping(ordered: Sequence[TrialRecord]) -> dict[str, Column]:
    complete = [record if record.state == "complete" else None for record in ordered]
    images = _names(record.images for record in ordered)
    train = _column((record.train_seconds for record in ordered), "float64")
    attack = _column((record.attack_seconds for record in ordered), "float64")
    return {
        "feasible": _column((record and record.feasible for record in complete), "boolean"),
        "violation": _column((record.violation if record else math.nan for record in complete), "float64"),
        "replicates": _column((len(record.replicates) or None for record in ordered), "Int64"),
        "seeds": _column((" ".join(map(str, record.seeds)) for record in ordered), "string"),
        **{f"images_{name}": _column((record.images.get(name) for record in ordered), "Int64") for name in images},
        "epochs": _column((record.epochs for record in ordered), "Int64"),
        "train_seconds": train,
        "attack_seconds": attack,
        "seconds": train + attack,
        "started": _column((_iso(record.started) for record in ordered), "string"),
        "finished": _column((_iso(record.finished) for record in ordered), "string"),
        **_attributes(ordered, _TRAILING),
    }


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries of Python's own types."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def measures(frame: pd.DataFrame) -> list[str]:
    """The measured columns of a table made by ``to_frame``: the objectives first, then each attack's accuracy."""
    return [name for name in frame.columns if f"{name}_low" in frame.columns and f"{name}_high" in frame.columns]


def images_of(frame: pd.DataFrame, measure: str) -> pd.Series[float] | None:
    """The number of images behind a measured column, row by row (NaN where unknown); None if it is no share of any."""
    for column in (f"images_{measure}", f"images_{ROBUST}" if is_under_attack(measure) else ""):
        if column in frame.columns:
            return frame[column].astype("Float64").astype("float64")
    return None


def write_frame(records: Iterable[TrialRecord], folder: Path) -> None:
    """Writes ``trials.csv`` and ``trials.parquet`` of all trials into a run's folder, each replaced atomically."""
    frame = to_frame(records)
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    files.write(folder / "trials.parquet", parquet.getvalue())
    files.write(folder / "trials.csv", frame.to_csv(index=False, lineterminator="\n"))


def settings_frame(
    settings: Sequence[TrialRecord], front: Iterable[TrialRecord], answer: Mapping[str, Any] | None
) -> pd.DataFrame:
    """One row per setting and baseline as the search sees it, then one for each that was confirmed.

    Args:
        settings: One record per setting.
        front: The settings on the front.
        answer: The contents of ``answer.json``; None if there is none yet.

    Returns:
        The columns of ``to_frame``, then confirmed (whether the row is from new seeds and images) and on_front
        (boolean), and probability (float64): that no other setting or baseline beats the setting; see ``answer.json``.
    """
    import pandas as pd

    searched = to_frame(settings).assign(confirmed=False)
    confirmed = to_frame([each.confirmed for each in settings if each.confirmed is not None]).assign(confirmed=True)
    frame = pd.concat([searched, confirmed], ignore_index=True) if len(confirmed) else searched
    numbers = list(frame["number"])
    best = {setting.number for setting in front}
    known = {entry["number"]: entry["probability"] for entry in answer["entries"]} if answer is not None else {}
    return frame.assign(
        on_front=_column((number in best for number in numbers), "boolean"),
        probability=_column((known.get(number, math.nan) for number in numbers), "float64"),
    )


def write_settings(
    settings: Sequence[TrialRecord], front: Iterable[TrialRecord], answer: Mapping[str, Any] | None, folder: Path
) -> None:
    """Writes ``settings_frame`` as ``settings.parquet`` into a run's folder, atomically."""
    content = io.BytesIO()
    settings_frame(settings, front, answer).to_parquet(content, index=False)
    files.write(folder / "settings.parquet", content.getvalue())


def tidied(frame: pd.DataFrame, objectives: Iterable[str]) -> pd.DataFrame:
    """A table for the figures: adds the columns of ``to_frame`` that a plain table lacks.

    A plain table has a column for each parameter and objective, and one row per complete trial.
    """
    import pandas as pd

    rows = len(frame)
    missing = {
        "number": pd.Series(map(str, frame.index), dtype="string"),
        "kind": pd.Series(["search"] * rows, dtype="string"),
        "state": pd.Series(["complete"] * rows, dtype="string"),
        "loss": pd.Series([""] * rows, dtype="string"),
        "defence": pd.Series(["none"] * rows, dtype="string"),
        "violation": pd.Series([0.0] * rows),
        "replicates": pd.Series([1] * rows, dtype="Int64"),
        "verdict": pd.Series([None] * rows, dtype="string"),
        **{f"{name}{end}": pd.Series([math.nan] * rows) for name in objectives for end in ("_low", "_high")},
    }
    added = {name: column for name, column in missing.items() if name not in frame.columns}
    return frame.reset_index(drop=True).assign(**added) if added else frame


def read_frame(folder: Path) -> pd.DataFrame:
    """Reads the table that ``write_frame`` left in a run's folder, with the types that ``to_frame`` gives."""
    import pandas as pd

    return pd.read_parquet(folder / "trials.parquet")


def _attributes(ordered: Sequence[TrialRecord], names: Iterable[str]) -> dict[str, Column]:
    return {name: _column((getattr(record, name) for record in ordered), "string") for name in names}


def _column(values: Iterable[Any], dtype: Literal["string", "float64", "Int64", "boolean"]) -> Column:
    import pandas as pd

    return pd.Series(list(values), dtype=dtype)


def _names(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _iso(unix_time: float | None) -> str | None:
    return None if unix_time is None else datetime.fromtimestamp(unix_time, UTC).isoformat(timespec="milliseconds")
