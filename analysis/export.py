"""The Pareto-optimal settings as JSON, YAML, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from analysis.records import TrialRecord, value_text
from analysis.statistics import Interval, difference_interval
from trainables.metrics import CLAIMED, is_accuracy

Format = Literal["json", "yaml", "csv", "latex"]


@dataclass(frozen=True)
class ResultsOnTest:
    """Results on the test split."""

    trials: Mapping[str, TrialRecord]  # by number: each setting evaluated on it, its accuracies there as objectives
    openings: int  # how often it has been opened for the run, by any command


def flattered(record: TrialRecord, tested: TrialRecord) -> list[str]:
    """The objectives in which a setting does worse on test images than on validation images, by more than chance.

    Settings are chosen by their validation numbers, which favours the lucky ones.

    Returns:
        The objectives where the 95 % interval of the difference of two independent proportions lies above 0. Each is
        judged alone: by chance, one in forty is named. The replicates saw the same images, so their mean counts as
        the accuracy of one model.

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


def constraints_text(record: TrialRecord) -> str:
    """Whether a trial meets its constraints, for people: ``met``, or ``missed by 0.012``."""
    return "met" if record.feasible else f"missed by {record.violation:.4g}"


def train_command(record: TrialRecord, config: str) -> str:
    """The command that trains a trial's candidate again, with every parameter in full precision and all replicates.

    ``config`` is the path of the configuration of its sweep.
    """
    words = []
    for name, value in record.parameters.items():
        words += ["--param", f"{name}={repr(value) if isinstance(value, float) else value_text(value)}"]
    if record.extensions:
        words += ["--set", f"train.replicates={len(record.replicates)}"]
    return shlex.join(["robustfront", "train", config, *words])


def pareto_entries(
    front: Sequence[TrialRecord],
    objectives: Iterable[str],
    config: str | None,
    on_test: ResultsOnTest | None = None,
    answer: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The front for programs: the content of the JSON and YAML files.

    ``config`` is the path of the configuration, for the commands; None for an imported run, which leaves out loss,
    defence and command. ``answer`` holds the contents of ``answer.json``.

    Returns:
        One entry per trial: number, loss, defence, params; each objective, and NAME_interval as [low, high] (None
        without an interval); replicates (how many), seeds, command. If it was confirmed, these numbers and seeds are
        those of the confirmation, and search_NAME is the search's value. For an audited setting also claimed_accuracy
        and verdict; robust_accuracy is then the audited number. With an answer: probability (that no other tried
        setting or baseline is better by an effect of interest) and tied_with_best (for each objective, whether it is
        indistinguishable from the best). With constraints: feasible and violation. For a trial taken over from another
        run: origin. Once the test split has been opened: test_openings, and for each setting evaluated on it test_NAME
        and test_NAME_interval for each accuracy, and below_validation, the objectives that ``flattered`` names.
    """
    answered = {entry["number"]: entry for entry in answer["entries"]} if answer is not None else {}
    names = list(objectives)
    entries = []
    for searched in front:
        record = searched.confirmed or searched
        entry: dict[str, Any] = {
            "number": int(record.number),
            **({} if config is None else {"loss": record.loss, "defence": record.defence}),
            "params": dict(record.parameters),
        }
        for name in names:
            entry |= _measured(name, record.objectives[name], record.interval(name))
            if searched.confirmed is not None:
                entry[f"search_{name}"] = searched.objectives[name]
        if record.verdict is not None:
            entry |= {CLAIMED: record.accuracies[CLAIMED], "verdict": record.verdict}
        if record.number in answered:
            entry |= {name: answered[record.number][name] for name in ("probability", "tied_with_best")}
        if on_test is not None and on_test.openings:
            entry |= _test_entry(record, names, on_test)
        if record.constraints:
            entry |= {"feasible": record.feasible, "violation": record.violation}
        if record.origin is not None:
            entry["origin"] = record.origin
        entry |= {"replicates": len(record.replicates), "seeds": list(record.seeds)}
        if config is not None:
            entry["command"] = train_command(searched, config)
        entries.append(entry)
    return entries


def export_front(
    front: Sequence[TrialRecord],
    objectives: Iterable[str],
    style: Format,
    config: str | None,
    on_test: ResultsOnTest | None = None,
    answer: Mapping[str, Any] | None = None,
) -> str:
    """The front as the text of a file.

    JSON and YAML hold ``pareto_entries``, whose arguments these are. CSV has one column per parameter, and NAME_low and
    NAME_high for each objective. LaTeX is a table for the package booktabs, accuracies in percent.
    """
    entries = pareto_entries(front, objectives, config, on_test, answer)
    if style == "json":
        return json.dumps(entries, indent=2) + "\n"
    if style == "latex":
        return _latex(entries, list(objectives))
    text = io.StringIO()
    if style == "yaml":
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe")
        yaml.default_flow_style = None  # one line per key; intervals, parameters and seeds within their line
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


def _latex(entries: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> str:
    """A LaTeX table: parameters, objectives with their intervals, and the number of seeds."""
    parameters = list(dict.fromkeys(name for entry in entries for name in entry["params"]))
    heading = ["trial", *parameters]
    heading += [f"{name.replace('_', ' ')}{' (%)' if is_accuracy(name) else ''}" for name in objectives] + ["seeds"]
    probable = any("probability" in entry for entry in entries)
    heading += ["probability"] if probable else []
    rows = []
    for entry in entries:
        row = [str(entry["number"])]
        row += [value_text(entry["params"][name]) if name in entry["params"] else "" for name in parameters]
        row += [_latex_value(name, entry[name], entry[f"{name}_interval"]) for name in objectives]
        row += [str(entry["replicates"])]
        row += [f"{entry['probability']:.2f}" if "probability" in entry else ""] if probable else []
        rows.append(row)
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (heading, *rows)]
    body = [lines[0], r"\midrule", *lines[1:]]
    columns = "l" + "r" * (len(heading) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}", ""])


def _latex_value(name: str, value: float, interval: Sequence[float] | None) -> str:
    factor, digits = (100, ".1f") if is_accuracy(name) else (1, ".4g")
    text = f"{factor * value:{digits}}"
    return text if interval is None else f"{text} ({factor * interval[0]:{digits}}--{factor * interval[1]:{digits}})"


def _escaped(text: str) -> str:
    return re.sub(r"([%&_#$])", r"\\\1", text)


def _test_entry(record: TrialRecord, objectives: Iterable[str], on_test: ResultsOnTest) -> dict[str, Any]:
    entry: dict[str, Any] = {"test_openings": on_test.openings}
    tested = on_test.trials.get(record.number)
    if tested is not None:
        for name in objectives:
            if name in tested.objectives:
                entry |= _measured(f"test_{name}", tested.objectives[name], tested.interval(name))
        entry["below_validation"] = flattered(record, tested)
    return entry


def _measured(name: str, value: float, interval: Interval) -> dict[str, Any]:
    return {name: value, f"{name}_interval": None if math.isnan(interval.low) else list(interval)}


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in entry.items():
        if name == "params":
            row |= value
        elif name == "tied_with_best":
            row |= {f"{objective}_tied": tied for objective, tied in value.items()}
        elif name in ("seeds", "below_validation"):
            row[name] = " ".join(map(str, value))
        elif name.endswith("_interval"):
            objective = name.removesuffix("_interval")
            row[f"{objective}_low"], row[f"{objective}_high"] = value or (None, None)
        else:
            row[name] = value
    return row
