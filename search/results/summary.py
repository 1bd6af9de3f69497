"""The end of a sweep as Markdown and as a table, for programs that show a run's description, such as MLflow."""

from __future__ import annotations

import csv
import io
import json

from analysis.export import export_front
from analysis.records import TrialRecord
from search.config import StudyConfig
from search.results.answer import read_answer
from search.results.text import baseline_note, measured_text, parameter_text, short, value_text
from search.results.writing import Results
from search.runs.layout import REPORT_FILE, SWEEP_FILE
from trainables.metrics import CLAIMED


def summary_text(results: Results) -> str:
    """What a sweep has found: the answer, then a table of the front and the baselines, with 95 % intervals."""
    data, config = results.data, results.data.run.config
    baselines = [each for each in results.settings if each.is_baseline and each.state == "complete"]
    heading = [
        "",
        *config.domains,
        "seeds",
        *(f"{short(name)} (95 %)" for name in config.objectives),
        "claimed, verdict",
    ]
    rows = [heading, ["---"] * len(heading)]
    for setting in [*results.front, *baselines]:
        name = baseline_note(setting, config) if setting.is_baseline else f"trial {setting.number}"
        rows.append(_row(name, setting, config))
        if setting.confirmed is not None:
            rows.append(_row("confirmed", setting.confirmed, config))
    answer = [f"{line}\n" for line in results.answered.lines] if results.answered is not None else []
    table = ["| " + " | ".join(row) + " |" for row in rows]
    files = f"All details: {REPORT_FILE} among the artifacts. Configuration: {SWEEP_FILE}. Folder: `{data.run.folder}`"
    return "\n".join([f"{data.title}\n", *answer, *table, "", files])


def front_json(results: Results) -> str:
    """The front as JSON that pandas reads with ``orient="split"``: the columns and rows of the front as CSV."""
    run = results.data.run
    text = export_front(results.front, run.config.objectives, "csv", SWEEP_FILE, answer=read_answer(run))
    columns, *rows = csv.reader(io.StringIO(text))
    return json.dumps({"columns": columns, "data": [[_number(cell) for cell in row] for row in rows]})


def _row(name: str, record: TrialRecord, config: StudyConfig) -> list[str]:
    parameters = record.parameters
    cells = [parameter_text(parameters[name]) if name in parameters else "" for name in config.domains]
    claimed = "" if record.verdict is None else f"{value_text(CLAIMED, record.accuracies[CLAIMED])}, {record.verdict}"
    return [
        name,
        *cells,
        str(len(record.seeds)),
        *(measured_text(name, record.objectives[name], record.interval(name)) for name in config.objectives),
        claimed,
    ]


def _number(cell: str) -> str | float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
