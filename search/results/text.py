"""Trials, values, times and axes as text for people, the same in every table, panel and message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from analysis.matters import range_text
from analysis.records import TrialRecord
from analysis.records import value_text as plain_text
from analysis.statistics import Interval
from search.config import ImportConfig, StudyConfig, SweepConfig
from trainables.metrics import BEST_EPOCH, is_accuracy
from trainables.settings import RobustnessSettings
from trainables.settings.space import Value

_SMALL: Final = 0.001


def describe(record: TrialRecord) -> str:
    """A trial in a few words, e.g. ``trial 7   s=1.2341 m=0.0456`` or ``baseline B0  cross-entropy``."""
    return f"{title(record):<11} {parameters_text(record.parameters) or record.loss:<24}"


def title(record: TrialRecord) -> str:
    """``trial 7``, ``baseline B0``, or ``R3 of 7`` for further replicates of trial 7."""
    if record.extends is not None:
        return f"{record.number} of {record.extends}"
    return f"baseline {record.number}" if record.is_baseline else f"trial {record.number}"


def parameters_text(parameters: Mapping[str, Value]) -> str:
    """``s=1.2341 m=0.0456``."""
    return " ".join(f"{name}={parameter_text(value)}" for name, value in parameters.items())


def parameter_text(value: Value) -> str:
    """A parameter's value in a column of others: ``1.2341``, ``0.0456``, ``3``, ``none``."""
    return f"{value:.4f}" if isinstance(value, float) and abs(value) >= _SMALL else plain_text(value)


def short(objective: str) -> str:
    """``clean`` for ``clean_accuracy``."""
    return objective.removesuffix("_accuracy").replace("_", " ")


def value_text(measure: str, value: float, digits: int = 1) -> str:
    """A measured value: an accuracy (a fraction) in percent, a wall time with ``digits`` decimals, a loss, an epoch."""
    if is_accuracy(measure):
        return f"{100 * value:.{digits}f} %"
    if measure.endswith("_seconds"):
        return f"{value:.{digits}f} s"
    return f"{value:g}" if measure == BEST_EPOCH else f"{value:.4f}"


def measured_text(measure: str, value: float, interval: Interval | Sequence[float]) -> str:
    """A value and its interval, if it has one: ``29.4 % (19.9 to 38.8)``."""
    low, high = interval
    has_unit = is_accuracy(measure) or measure.endswith("_seconds")
    text = value_text(measure, value) if has_unit else f"{value:.4g}"
    return text if low != low else f"{text} ({range_text(measure, (low, high))})"  # NaN without an interval


def settings_text(units: int, config: SweepConfig) -> str:
    """A number of search units as text: ``24 settings``, or ``24 units (8 settings)`` with several seeds each."""
    seeds = config.train.replicates
    return f"{units} settings" if seeds == 1 else f"{units} units ({units // seeds} settings)"


def clock(seconds: float) -> str:
    """``2:05``, or ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def radius_title(robustness: RobustnessSettings) -> str:
    """What an epsilon is, e.g. ``L2 epsilon (rms)`` with the Greek letter."""
    norm = {"l2": "L2", "linf": "L\N{INFINITY}"}[robustness.norm]
    unit = " (rms)" if robustness.eps_convention == "rms" else ""
    return f"{norm} \N{GREEK SMALL LETTER EPSILON}{unit}"


def run_title(config: StudyConfig) -> str:
    """What was measured, e.g. ``quickstart: lenet5 on mnist5k, 6 epochs; L2 epsilon = 1.5, 500 images``."""
    if isinstance(config, ImportConfig):
        return f"{config.name}: imported from the {config.source.title}"
    assert isinstance(config, SweepConfig)
    robustness = config.robustness
    return (
        f"{config.name}: {config.model.title} on {config.data.dataset.title}, {config.train.epochs} epochs; "
        f"{radius_title(robustness)} = {robustness.epsilons[0]:g}, {robustness.images} images"
    )


def baseline_note(record: TrialRecord, config: StudyConfig) -> str:
    """A baseline's name, and the parameters that it shares with a contender, if any."""
    assert isinstance(config, SweepConfig), "an imported run has no baselines"
    known = [each for each in config.loss.baselines if each.loss == record.loss]
    matching = [each for each in known if each.parameters.items() <= record.parameters.items()]
    note = (matching[-1].note if matching else "") or record.loss
    if record.defence != config.defence.name:
        note += f" without {config.defence.title}"
    others = [name for name in record.parameters if "." in name]
    return f"{note} at {', '.join(others)} of a contender" if others else note
