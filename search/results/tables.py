"""A run's results on the terminal."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from analysis.export import ResultsOnTest, flattered, train_command
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.config import StudyConfig
from search.results.standing import Standing
from search.results.text import (
    baseline_note,
    clock,
    parameter_text,
    parameters_text,
    settings_text,
    short,
    value_text,
)
from search.results.writing import Results
from search.runs.folder import Run, RunFolder, command, relative
from search.runs.layout import FIGURES, FRONT_FILE, REPORT_FILE, SWEEP_FILE, TABLE_FILE
from trainables.metrics import CLAIMED, ROBUST, is_accuracy

_WIDEST: Final = 10_000
VERDICT_STYLES: Final = {"sound": "green", "suspicious": "yellow", "masked": "red"}


def print_summary(console: Console, run: Run, results: Results, seconds: float) -> None:
    """Prints the end of a sweep: the front, the baselines, the answer, the pictures, and what to type next."""
    standing = results.standing
    searched = settings_text(standing.finished, run.config)
    counts = f"{searched} and {standing.baselines} baselines in {clock(seconds)}"
    failed = f", {standing.failed} failed and were replaced" if standing.failed else ""
    pruned = f" ({standing.pruned} stopped early)" if standing.pruned else ""
    confirmed = sum(record.confirmed is not None for record in results.settings)
    further = f", {confirmed} of them confirmed" if confirmed else ""
    missed = f", {standing.infeasible} miss a constraint" if standing.infeasible else ""
    console.print(f"\n[bold]{run.name}[/bold]: {counts}{pruned}{further}{missed}{failed}")
    print_table(console, front_table(run, results.settings, results.front))
    intervals = f"Intervals are 95 %: {_interval_kind(results)}."
    hypervolume = _hypervolume(standing, _shows_seeds(run.config))
    console.print(f"Hypervolume {hypervolume}. {intervals}")
    for line in results.answered.lines if results.answered is not None else []:
        console.print(line, markup=False, soft_wrap=True)
    for note in [*results.notes, *([stop_note(run, results.stopped)] if results.stopped is not None else [])]:
        console.print(note, markup=False, soft_wrap=True)
    console.print()
    folder = relative(run.folder)
    overview = ", ".join(name for name in ("surfaces.png", "pareto.png") if (run.figures / name).is_file())
    chosen = results.recommended
    train = train_command(chosen or results.front[0], str(folder / SWEEP_FILE)).split()[1:]
    for what, text in (
        *([("Recommended", _recommendation(chosen, results))] if chosen is not None else []),
        *([("Report", f"{folder / REPORT_FILE}")] if (run.folder / REPORT_FILE).is_file() else []),
        ("Pictures", f"{folder / FIGURES}  (overview: {overview}; interactive: the .html files)"),
        ("Records", f"{folder / TABLE_FILE}, {folder / FRONT_FILE}"),
        ("MLflow", command("ui", run.argument)),
        ("Train the first" if chosen is None else "Train it", command(*train)),
    ):
        console.print(f"{what:<16}{text}", soft_wrap=True)


def _recommendation(chosen: TrialRecord, results: Results) -> str:
    """The recommended setting, and whether it is known to be better than any other."""
    assert results.answered is not None
    parameters = ", ".join(f"{name} = {parameter_text(value)}" for name, value in chosen.parameters.items())
    unsure = "" if results.answered.answer.told_apart else "; no measured setting can be distinguished from the best"
    return f"trial {chosen.number}: {parameters}{unsure}"


def print_table(console: Console, table: Table) -> None:
    """Prints a table in full. If it is wider than the console it runs over the edge, but no number is cut."""
    natural = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    if natural > console.width:
        table.width = natural
    console.print(table, crop=False, no_wrap=True, overflow="ignore")


def stop_note(run: Run, reason: str) -> str:
    """Why a search ended before its budget was spent, and how to continue."""
    return (
        f"Ended before its {run.config.budget} settings by {reason}; to continue, raise or remove it in "
        f"{relative(run.folder / SWEEP_FILE)} and `{command('resume', run.argument)}`"
    )


def front_table(
    run: RunFolder,
    settings: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    on_test: ResultsOnTest | None = None,
) -> Table:
    """The Pareto-optimal settings, then the baselines: accuracies with intervals, on the test split too if known."""
    config, on_test = run.config, on_test or ResultsOnTest({}, 0)
    baselines = [record for record in settings if record.is_baseline and record.state == "complete"]
    confirms = bool(config.search.confirmation_seeds)
    lost = [] if confirms else _lost_their_place(settings, front, config)
    numbers = {record.number for record in front}
    compared = [r for r in settings if r.confirmed and not r.is_baseline and r.number not in numbers]
    shown = [*front, *lost, *compared, *baselines]
    audited = any(record.verdict for each in shown for record in (each, each.confirmed) if record is not None)
    # With three objectives or parameters, or with claims, a row would be too wide for a terminal.
    gap = "\n" if audited or len(config.objectives) > 2 or len(config.domains) > 2 else " "
    table = _headed_table(config, gap, audited)
    none_feasible = bool(front) and not front[0].feasible
    title = "No setting meets the constraints: the nearest" if none_feasible else "Pareto-optimal settings"
    table.title = f"{title}, and the baselines" if config.baselines else title
    caption = ["; ".join(f"{record.number}: {baseline_note(record, config)}" for record in baselines)]
    if audited:
        verified = "robust, confirmed" if confirms else "robust"
        caption.append(f"{verified}: under the sweep's attacks and the audit; claimed: under the sweep's attacks alone")
        caption += ["-: on the front as claimed, but not as audited"] if lost else []
    if confirms:
        caption.append("confirmed: with new seeds and images; what to expect of a new training run")
        caption += ["-: not on the front; confirmed as an extreme of the search, for comparison"] if compared else []
    marked = False
    for section in (front, lost, compared, baselines):
        style, mark = ("dim", "-") if section in (lost, compared) else (None, "")
        for record in section:
            table.add_row(*_row(record, config, gap, f"{mark}{record.number}", audited), style=style)
            if record.confirmed is not None:
                bare = replace(record.confirmed, parameters={})
                table.add_row(*_row(bare, config, gap, "confirmed", audited), style="bold")
            tested = on_test.trials.get(record.number)
            if tested is not None:
                below = flattered(record, tested)
                unused = [""] * (len(config.domains) + _shows_seeds(config))
                table.add_row("test", *unused, *_measured(tested, config, gap, below), style="dim")
                marked |= bool(below)
        table.add_section()
    if on_test.openings:
        times = "once" if on_test.openings == 1 else f"{on_test.openings} times"
        caption.append(f"test: the test split, opened {times} so far")
        caption += ["*: below validation by more than chance; selection flatters"] if marked else []
    table.caption = "\n".join(caption)
    return table


def leaderboard_table(document: Mapping[str, Any]) -> Table:
    """A ``leaderboard.json`` as a table, best first."""
    radii, first = sorted(document["setup"]["radii"]), f"{document['setup']['radii'][0]:g}"
    others = [f"{radius:g}" for radius in radii if f"{radius:g}" != first]
    tuned = "not tuned: reference settings" if document["profile"] == "quick" else "each tuned by its own search"
    table = Table(box=SIMPLE_HEAD, title=f"{document['name']}, {tuned}", title_justify="left", caption_justify="left")
    table.add_column("method", no_wrap=True)
    shares = [f"claimed %\nat {first}", f"verified %\nat {first}", f"claimed %\nat {', '.join(others)}"]
    for heading in ("seeds", "clean %", *shares[: 2 + bool(others)], "verdict", "worse,\nbetter", "seconds\nper unit"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in document["rows"]:
        counts = [_decided(document, row, place) for place in ("first", "second")] if row["represents"] else []
        verdict = row["verdict"] or "not audited"
        table.add_row(
            f"{row['method']}{' *' if row['on_front'] else ''}\n[dim]{parameters_text(row['parameters'])}[/dim]",
            str(row["seeds"]),
            *map(_share, (row["clean"], row["claimed"][first], row["verified"][first])),
            *([" ".join(f"{100 * row['claimed'][radius]['value']:.1f}" for radius in others)] if others else []),
            f"[{VERDICT_STYLES.get(verdict, 'dim')}]{verdict}[/]",
            ", ".join(map(str, counts)),
            f"{row['train_seconds'] + row['attack_seconds']:.0f}",
        )
    table.caption = (
        "*: on the joint front of clean and verified robust accuracy. Verified: over the audited seeds.\n"
        "worse, better: number of methods with significantly lower, higher claimed robust accuracy (paired, Holm)"
    )
    return table


def _decided(document: Mapping[str, Any], row: Mapping[str, Any], place: str) -> int:
    """How many significant differences in robust accuracy have a row's method as the ``first`` or ``second``."""
    return sum(
        each["significant"] and each["objective"] == ROBUST and each[place] == row["method"]
        for each in document["differences"]
    )


def _share(accuracy: Mapping[str, float] | None) -> str:
    if accuracy is None:
        return "-"
    return f"{100 * accuracy['value']:.1f}\n[dim]{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}[/dim]"


def _headed_table(config: StudyConfig, gap: str, audited: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, min_width=64, title_justify="left", caption_justify="left")
    headings = [name.replace(".", ".\n") for name in ("trial", *config.domains)]
    headings += ["seeds"] if _shows_seeds(config) else []
    for name in config.objectives:
        headings.append(short(name).replace(" ", gap) + (f"{gap}% (95 %)" if is_accuracy(name) else ""))
    headings += ["missed\nby"] if config.constraints else []
    headings += ["claimed %,\nverdict"] if audited else []
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _row(record: TrialRecord, config: StudyConfig, gap: str, name: str, audited: bool) -> list[str]:
    cells = [name]
    cells += [parameter_text(record.parameters[name]) if name in record.parameters else "" for name in config.domains]
    cells += [str(len(record.replicates))] if _shows_seeds(config) else []
    cells += _measured(record, config, gap)
    if config.constraints:
        cells.append("" if record.feasible else f"{record.violation:.4g}")
    if audited and record.verdict is None:
        searched = record.role == "search" and bool(config.search.confirmation_seeds)
        cells.append("" if searched else "not audited")
    elif audited and record.verdict is not None:
        style = VERDICT_STYLES[record.verdict]
        cells.append(f"{100 * record.accuracies[CLAIMED]:.1f}\n[{style}]{record.verdict}[/{style}]")
    return cells


def _measured(record: TrialRecord, config: StudyConfig, gap: str, below: Collection[str] = ()) -> list[str]:
    """The objectives that a record has; those ``below`` the validation numbers by more than chance are marked."""
    cells = []
    for name in config.objectives:
        if name not in record.objectives:
            cells.append("")
        elif is_accuracy(name):
            low, high = record.interval(name)
            mark = "*" if name in below else ""
            interval = "" if math.isnan(low) else f"{gap}({100 * low:.1f} to {100 * high:.1f})"
            cells.append(f"{100 * record.objectives[name]:.1f}{mark}{interval}")
        else:
            cells.append(value_text(name, record.objectives[name]))
    return cells


def _lost_their_place(
    settings: Sequence[TrialRecord], front: Sequence[TrialRecord], config: StudyConfig
) -> list[TrialRecord]:
    """The settings that are on the front by what they claim alone."""

    def as_claimed(record: TrialRecord) -> TrialRecord:
        if CLAIMED not in record.accuracies or ROBUST not in record.objectives:
            return replace(record, verdict=None)
        return replace(record, objectives={**record.objectives, ROBUST: record.accuracies[CLAIMED]}, verdict=None)

    on_front, by_number = {record.number for record in front}, {record.number: record for record in settings}
    claimed = pareto_front(map(as_claimed, settings), config.objectives)
    return [by_number[record.number] for record in claimed if record.number not in on_front]


def _shows_seeds(config: StudyConfig) -> bool:
    """Whether rows may rest on different numbers of replicates, each with a seed of its own."""
    return config.search.confirmation_seeds > 0


def _hypervolume(standing: Standing, confirms: bool) -> str:
    """The hypervolume, and what it is measured from."""
    reference = standing.reference
    if reference is None:
        return f"{standing.hypervolume:.4f}, because a baseline is missing"
    point, scale = (", ".join(f"{value:.4g}" for value in axis.values()) for axis in (reference.point, reference.scale))
    size = f"{standing.hypervolume:.4f} over the reference point ({point}), in units of ({scale})"
    if confirms:
        return f"{size}, by the claims of the search units"
    if not standing.audits:
        return f"{size}, by claimed numbers"
    return f"{size}, by audited numbers of the units that were audited ({standing.audits}) and claims of the others"


def _interval_kind(results: Results) -> str:
    """The population to which the intervals of a table apply."""
    baselines = [record for record in results.settings if record.is_baseline and record.state == "complete"]
    several = [record for record in [*results.front, *baselines] if len(record.replicates) > 1]
    if not several:
        return "for the same network and other images, since there is one seed per setting"
    text = "for another seed and other images"
    if len(several) < len(results.front) + len(baselines):
        text += ", or for the same network and other images where there is one seed"
    wide = any(is_accuracy(name) and name not in record.intervals for record in several for name in record.objectives)
    return f"{text}; too wide (up to 99 %) for audited and other numbers without outcomes per image" if wide else text
