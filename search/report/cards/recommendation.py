"""What to use: the recommended setting, its gain over the baselines, and how certain both are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from analysis.export import train_command
from analysis.matters import amount_text, label
from analysis.noise import setting_text
from analysis.records import TrialRecord
from analysis.verdict import Advantage, Entry
from search.report.card import (
    Card,
    Cell,
    Graphic,
    Table,
    csv_of,
    difference_text,
    measured_cell,
    number_cell,
    share_text,
)
from search.report.data import ReportData, seeds_note, shown
from search.results.tables import stop_note
from search.results.text import measured_text
from search.results.writing import trainable
from search.runs.folder import command
from trainables.metrics import CLAIMED, ROBUST, is_accuracy

TITLE = "What to use"

VERDICTS: Final = {
    "sound": "which the audit confirms",
    "suspicious": "which the audit doubts",
    "masked": "which the audit refutes: the sweep's attacks missed many adversarial examples",
    None: "which is a claim that no audit has checked",
}

_EFFECTS: Final = "search.smallest_effect in the configuration, or --smallest-effect of an import, says so."
_SEEDS: Final = "train.replicates: 3 and search.confirmation_seeds: 5 in a new sweep"
_SEEDS_OF_IMPORT: Final = (
    "train its settings again in the study, with the seed as a parameter named seed, and import it"
)


def card(data: ReportData) -> Card:
    """The recommendation in plain words, and the evidence for it."""
    if data.answered is None and any(setting.feasible for setting in data.complete):
        names = ", ".join(map(label, data.objectives))
        return Card(
            f"Nothing is recommended, because it is not known which differences in {names} are of interest. {_EFFECTS}"
        )
    if data.answered is None:
        progress = f"{data.standing.finished} of {data.config.budget} units have finished"
        return Card(f"Nothing can be recommended yet: no complete setting meets the constraints ({progress}).")
    chosen = data.recommended
    unfinished = _unfinished(data)
    if chosen is None:
        return _one_seed(data, unfinished)
    entry = data.answered.answer.recommended
    compared = [chosen, *data.baselines]
    return Card(
        sentence=_sentence(data, chosen, entry),
        tone=_tone(data),
        facts=_facts(data, chosen),
        graphics=[_graphic(data, compared)],
        tables=[_table(data, chosen, compared)],
        commands=_commands(data, chosen),
        notes=unfinished,
        downloads={"recommendation.csv": csv_of([_row(data, each) for each in compared])},
    )


def _commands(data: ReportData, setting: TrialRecord) -> list[tuple[str, str]]:
    """How to train a setting again; nothing for an imported run."""
    config = trainable(data.data.run)
    if config is None:
        return []
    return [("Trains it again with the same result; use it in the run's folder", train_command(setting, config))]


def _one_seed(data: ReportData, notes: Sequence[str]) -> Card:
    """The card for one seed per setting: the results of these networks, without a recommendation."""
    assert data.answered is not None
    best = data.by_number[data.answered.number(data.answered.answer.recommended.setting)]
    value = measured_text(data.aim, shown(best).objectives[data.aim], shown(best).interval(data.aim))
    compared = [best, *data.baselines]
    return Card(
        sentence=(
            f"No setting can be recommended from one seed each: another seed may change the order. Among these "
            f"networks with high clean accuracy, that of {data.name(best)} has the best {label(data.aim)}: {value}."
        ),
        tone="unsure",
        facts=[("To be certain", f"add seeds: {_SEEDS if trainable(data.data.run) else _SEEDS_OF_IMPORT}")],
        graphics=[_graphic(data, compared)],
        tables=[_table(data, best, compared)],
        commands=_commands(data, best),
        notes=notes,
        downloads={"recommendation.csv": csv_of([_row(data, each) for each in compared])},
    )


def _sentence(data: ReportData, chosen: TrialRecord, entry: Entry) -> str:
    """Which setting to use, its value, whether it beats the baselines, and whether an audit confirms the value."""
    assert data.answered is not None
    aim, answer, setting = data.aim, data.answered.answer, setting_text(entry.setting)
    matter, gain, record = answer.matters[aim], answer.over_baseline.get(aim), shown(chosen)
    value = measured_text(aim, record.objectives[aim], record.interval(aim))
    if gain is not None and gain.interval.high < 0:
        return (
            f"Use {gain.baseline}, not a setting of this search: the {label(aim)} of its best one, {setting}, is "
            f"{value}, which differs from the baseline's by {difference_text(aim, *_difference(data, gain))}."
        )
    if matter.matters:
        choice = f"Use {setting}"
    elif matter.matters is False:
        choice = f"Use any setting, for example {setting}: {matter.sentence}"
    elif matter.seen:
        choice = f"Use {setting}; the choice matters in the search, though its extremes were not confirmed"
    else:
        choice = f"This sweep cannot tell whether the choice matters; if you need a setting, use {setting}"
    return f"{choice}. Its {label(aim)} is {value}, {VERDICTS[record.verdict]}; {_gain_text(data, entry, gain)}."


def _gain_text(data: ReportData, entry: Entry, gain: Advantage | None) -> str:
    aim = data.aim
    if gain is not None:
        text = difference_text(aim, *_difference(data, gain))
        if gain.interval.low > 0:
            return f"it beats {gain.baseline}, a baseline, by {text}"
        return f"it has not been shown to differ from that of {gain.baseline}, a baseline: {text}"
    if not entry.beats:
        return "no baseline was trained to compare it with"
    name, chances = min(entry.beats.items(), key=lambda pair: pair[1][aim])
    return f"the probability that it is better than that of {name}, a baseline, is {share_text(chances[aim])}"


def _difference(data: ReportData, gain: Advantage) -> tuple[float, tuple[float, float]]:
    """The advantage over the baseline as a difference of the objective's values, with its interval."""
    if data.config.objectives[data.aim] == "maximize":
        return gain.mean, tuple(gain.interval)  # type: ignore[return-value]
    return -gain.mean, (-gain.interval.high, -gain.interval.low)


def _tone(data: ReportData) -> str:
    assert data.answered is not None
    chosen, answer = data.recommended, data.answered.answer
    assert chosen is not None
    gain = answer.over_baseline.get(data.aim)
    if shown(chosen).verdict == "masked" or (gain is not None and gain.interval.high < 0):
        return "bad"
    sure = answer.matters[data.aim].matters and gain is not None and gain.interval.low > 0
    return "good" if sure and shown(chosen).verdict == "sound" else "unsure"


def _facts(data: ReportData, chosen: TrialRecord) -> list[tuple[str, str]]:
    assert data.answered is not None
    answer, record = data.answered.answer, shown(chosen)
    facts = [("Setting", data.name(chosen))]
    for name in data.objectives:
        value = measured_text(name, record.objectives[name], record.interval(name))
        verified = ", by the audit" if name == ROBUST and record.verdict is not None else ""
        facts.append((label(name).capitalize(), f"{value}{verified}"))
    for name, gain in ((name, gain) for name, gains in answer.against.items() for gain in gains):
        sign = 1 if data.config.objectives[name] == "maximize" else -1
        ends = sorted(sign * end for end in gain.interval)
        text = difference_text(name, sign * gain.mean, ends)
        facts.append((f"{label(name).capitalize()} against {gain.baseline}", f"{text}, over {gain.seeds} new seeds"))
    effect = data.answered.effects[data.aim]
    facts.append(
        (
            "Certainty",
            f"{share_text(answer.certainty)}: the probability that no other measured setting is better by "
            f"{amount_text(data.aim, effect)} or more in {label(data.aim)}"
            + ("" if answer.told_apart else ". No other measured setting can be told apart from it"),
        )
    )
    audits = data.audits_of(chosen)
    facts.append(("Audit", f"{record.verdict} ({_audited(chosen, len(audits))})" if record.verdict else "not done"))
    return [*facts, ("Evidence", f"{seeds_note(chosen)}; 95 % intervals, for another seed and other images")]


def _audited(chosen: TrialRecord, count: int) -> str:
    return f"{count} of {len(shown(chosen).replicates)} networks"


def _unfinished(data: ReportData) -> list[str]:
    """A note if the search is unfinished or ended early."""
    missing = data.config.budget - data.standing.finished
    if data.stopped is not None:
        return [stop_note(data.sweep, data.stopped)]
    if missing <= 0:
        return []
    resume_command = command("resume", data.data.run.argument)
    return [
        f"This sweep is not finished: {data.standing.finished} of {data.config.budget} units. "
        f"Resume it with {resume_command}."
    ]


def _graphic(data: ReportData, compared: Sequence[TrialRecord]) -> Graphic:
    from analysis.figures.plots import Intervals, Row, interval_figure
    from analysis.figures.style import BLUE, COLOURS

    panels = []
    for name in data.objectives:
        factor = 100 if is_accuracy(name) else 1
        rows = []
        for at, setting in enumerate(compared):
            record = shown(setting)
            interval = record.interval(name)
            rows.append(
                Row(
                    label=f"trial {setting.number}" if not setting.is_baseline else _short(data.name(setting)),
                    value=factor * record.objectives[name],
                    interval=type(interval)(factor * interval.low, factor * interval.high),
                    colour=BLUE if at == 0 else COLOURS[(at - 1) % len(COLOURS)],
                    hollow=setting.confirmed is None and any(each.confirmed for each in compared),
                )
            )
        panels.append(Intervals(f"{label(name).capitalize()}{' (%)' if factor == 100 else ''}", rows))
    hollow = " Hollow: not confirmed with new seeds." if any(row.hollow for row in panels[0].rows) else ""
    caption = f"The setting above and the baselines. Bars: 95 % intervals.{hollow}"
    return Graphic.of(interval_figure(panels), caption)


def _short(name: str) -> str:
    """A baseline's name on an axis, in lines of a few words."""
    import textwrap

    return textwrap.fill(name, 24)


def _row(data: ReportData, setting: TrialRecord) -> dict[str, object]:
    record = shown(setting)
    row: dict[str, object] = {"number": setting.number, "what": data.name(setting), **setting.parameters}
    for name in data.objectives:
        low, high = record.interval(name)
        row |= {name: record.objectives[name], f"{name}_low": low, f"{name}_high": high}
    row |= {CLAIMED: record.accuracies.get(CLAIMED), "verdict": record.verdict, "seeds": len(record.replicates)}
    return row


def _table(data: ReportData, chosen: TrialRecord, compared: Sequence[TrialRecord]) -> Table:
    entry = data.entry(chosen)
    assert entry is not None
    objectives = data.objectives
    rows = []
    for setting in compared:
        record = shown(setting)
        measured = [measured_cell(record, name) for name in objectives]
        chances = entry.beats.get(_setting_of(data, setting), {})
        rows.append(
            [
                Cell(data.name(setting)),
                *measured,
                Cell(record.verdict or "not audited", style=record.verdict or ""),
                Cell(seeds_note(setting), float(len(record.replicates))),
                *(
                    Cell("", None) if name not in chances else number_cell(chances[name], share_text(chances[name]))
                    for name in objectives
                ),
            ]
        )
    better = [f"{label(name)}: probability that the setting above is better" for name in objectives]
    return Table(
        "The setting above and the baselines",
        ["setting", *(label(name) for name in objectives), "audit", "seeds", *better],
        rows,
    )


def _setting_of(data: ReportData, setting: TrialRecord) -> str:
    """A baseline's name in the answer."""
    entry = data.entry(setting)
    return entry.setting if entry is not None and isinstance(entry.setting, str) else ""
