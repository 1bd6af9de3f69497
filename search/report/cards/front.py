"""The front: the settings that no other setting beats, and the probability that this is true."""

from __future__ import annotations

from analysis.matters import amount_text, label
from analysis.records import TrialRecord
from search.report.card import Card, Cell, Graphic, Table, csv, measured_cell, number_cell, share_text
from search.report.data import ReportData, seeds_note, shown
from search.results.reports.front import picture
from search.results.text import parameter_text

TITLE = "The front"


def card(data: ReportData) -> Card:
    """The front as a picture, and all settings as a table."""
    if not data.complete:
        return Card("No setting is complete yet.")
    from analysis.frames import to_frame

    front = [record.number for record in data.data.front]
    plot = picture(data.data)
    return Card(
        sentence=_sentence(data, front),
        graphics=[Graphic(plot.svg(), plot.note)],
        tables=[_table(data, front)],
        notes=_notes(data),
        downloads={"settings.csv": csv(to_frame([shown(each) for each in (*data.complete, *data.baselines)]))},
    )


def _sentence(data: ReportData, front: list[str]) -> str:
    settings = f"{len(front)} of {len(data.complete)} settings {'is' if len(front) == 1 else 'are'} on the front"
    if not data.data.front[0].feasible:
        return f"No setting meets the constraints; {len(front)} come closest."
    if data.answered is None:
        return f"{settings}."
    numbered = {data.answered.number(entry.setting): entry for entry in data.answered.answer.entries}
    chances = {number: numbered[number].probability for number in front if number in numbered}
    if data.answered.answer.this_network_only:
        return f"{settings} of one seed; another seed may give another front."
    if not chances:
        return f"{settings}."
    best = max(chances, key=lambda number: chances[number])
    baselines = [each for each in data.answered.answer.entries if each.is_baseline and each.on_front]
    also = f"; so is {' and '.join(str(each.setting) for each in baselines)}, a baseline" if baselines else ""
    probability = share_text(chances[best])
    return f"{settings}{also}. The most certain is trial {best}: nothing beats it with a probability of {probability}."


def _notes(data: ReportData) -> list[str]:
    if data.answered is None:
        return []
    sizes = " or ".join(
        f"{amount_text(name, data.answered.effects[name])} in {label(name)}" for name in data.answered.objectives
    )
    return [
        f"Probability: that no other setting or baseline of this sweep is at least as good in every objective and "
        f"better by {sizes}. Tied with the best: cannot be told apart from the best one in that objective."
    ]


def _table(data: ReportData, front: list[str]) -> Table:
    objectives, parameters = data.objectives, list(data.config.domains)
    ordered = sorted((*data.complete, *data.baselines), key=lambda each: each.number not in front)
    return Table(
        "All settings and baselines",
        [
            "trial",
            *parameters,
            *map(label, objectives),
            "on the front",
            "probability",
            "tied with the best in",
            "audit",
            "seeds",
        ],
        [_row(data, each, parameters, _on_front(data, each, front)) for each in ordered],
    )


def _on_front(data: ReportData, setting: TrialRecord, front: list[str]) -> bool:
    entry = data.entry(setting)
    return setting.number in front or (setting.is_baseline and entry is not None and entry.on_front)


def _row(data: ReportData, setting: TrialRecord, parameters: list[str], on_front: bool) -> list[Cell]:
    record, entry = shown(setting), data.entry(setting)
    values = [setting.parameters.get(name) for name in parameters]
    tied = [] if entry is None else [label(name) for name, each in entry.tied_with_best.items() if each]
    return [
        Cell(data.name(setting) if setting.is_baseline else f"trial {setting.number}"),
        *(
            Cell(
                "" if value is None else parameter_text(value), float(value) if isinstance(value, int | float) else None
            )
            for value in values
        ),
        *(measured_cell(record, name) for name in data.objectives),
        Cell("yes" if on_front else "no", float(on_front)),
        Cell("") if entry is None else number_cell(entry.probability, share_text(entry.probability)),
        Cell(", ".join(tied)),
        Cell(record.verdict or "not audited", style=record.verdict or ""),
        Cell(seeds_note(setting), float(len(record.replicates))),
    ]
