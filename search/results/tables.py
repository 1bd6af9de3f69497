"""A run's results on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from analysis.export import Verification, flattered, train_command
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.config import SweepConfig
from search.results.standing import Standing
from search.results.text import clock, parameter_text, short, value_text
from search.results.writing import Results
from search.runs.folder import Run, command, relative
from search.runs.layout import SWEEP_FILE
from trainables.metrics import CLAIMED, ROBUST, is_accuracy

_WIDEST: Final = 10_000
VERDICT_STYLES: Final = {"sound": "green", "suspicious": "yellow", "masked": "red"}


def print_summary(console: Console, run: Run, results: Results, seconds: float) -> None:
    """The end of a sweep for a person: the front, the baselines, the pictures, what to type next."""
    standing = results.standing
    counts = f"{standing.finished} settings and {standing.baselines} baselines in {clock(seconds)}"
    failed = f", {standing.failed} failed and were replaced" if standing.failed else ""
    pruned = f" ({standing.pruned} stopped early)" if standing.pruned else ""
    further = f", {standing.extensions} of them with further replicates" if standing.extensions else ""
    missed = f", {standing.infeasible} miss a constraint" if standing.infeasible else ""
    console.print(f"\n[bold]{run.name}[/bold]: {counts}{pruned}{further}{missed}{failed}", highlight=False)
    print_table(console, front_table(run, results.settings, results.front))
    console.print(
        f"Hypervolume {standing.hypervolume:.4f}{_reference_note(standing)}. "
        f"Intervals are 95 %: {_interval_kind(results)}.",
        highlight=False,
    )
    for note in results.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    if results.stopped is not None:
        console.print(stop_note(run, results.stopped), highlight=False, markup=False, soft_wrap=True)
    console.print()
    shown = relative(run.folder)
    overview = ", ".join(name for name in ("surfaces.png", "pareto.png") if (run.folder / "figures" / name).is_file())
    for what, text in (
        ("Pictures", f"{shown / 'figures'}  (overview: {overview}; interactive: the .html files)"),
        ("Records", f"{shown / 'trials.csv'}, {shown / 'pareto.yaml'}"),
        ("MLflow", command("ui", run.argument)),
        ("Train the first", _train_first(run, results.front)),
    ):
        console.print(f"{what:<16}{text}", highlight=False, soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """Prints a table in full. If it is wider than the console it runs over the edge, but no number is cut."""
    natural = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    if natural > console.width:
        table.width = natural
    console.print(table, crop=False, no_wrap=True, overflow="ignore")


def _reference_note(standing: Standing) -> str:
    reference = standing.reference
    if reference is None:
        return ", for want of a baseline"
    point = ", ".join(f"{value:.4g}" for value in reference.point.values())
    scale = ", ".join(f"{value:.4g}" for value in reference.scale.values())
    return f" over the reference point ({point}), in units of ({scale})"


def stop_note(run: Run, reason: str) -> str:
    """Why a search ended before its budget was spent, and how to continue."""
    return (
        f"Ended before its {run.config.budget} settings by {reason}; to continue, raise or remove it in "
        f"{relative(run.folder / SWEEP_FILE)} and `{command('resume', run.argument)}`"
    )


def front_table(
    run: Run,
    records: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    verification: Verification | None = None,
) -> Table:
    """The Pareto-optimal settings, then the baselines, each accuracy with its interval; what misses a constraint.

    Args:
        run: Where they are from.
        records: All its settings.
        front: The Pareto-optimal ones.
        verification: What the test split said: below each setting, its accuracies there.
    """
    config = run.config
    baselines = [record for record in records if record.is_baseline and record.state == "complete"]
    none = bool(front) and not front[0].feasible
    title = "No setting meets the constraints: the nearest" if none else "Pareto-optimal settings"
    table = Table(title=f"{title}, and the baselines", box=SIMPLE_HEAD, min_width=64)
    table.title_justify = table.caption_justify = "left"
    table.caption = "; ".join(f"{record.number}: {_baseline_note(record, config)}" for record in baselines)
    lost = _lost_their_place(records, front, config)
    audited = any(record.verdict for record in [*front, *lost, *baselines])
    # With three objectives or parameters, or with claims, a row would be too wide for a terminal.
    gap = "\n" if audited or len(config.objectives) > 2 or len(config.domains) > 2 else " "
    seeds = ["seeds"] if _shows_seeds(config) else []
    for name in ("trial", *config.domains, *seeds):
        table.add_column(name.replace(".", ".\n"), justify="right", no_wrap=True)
    for name in config.objectives:
        unit = f"{gap}% (95 %)" if is_accuracy(name) else ""
        table.add_column(f"{short(name).replace(' ', gap)}{unit}", justify="right", no_wrap=True)
    if config.constraints:
        table.add_column("missed\nby", justify="right", no_wrap=True)
    if audited:
        table.add_column("claimed %,\nverdict", justify="right", no_wrap=True)
        table.caption += "\nrobust: what the audit verified; claimed: what the sweep's own attacks left"
        table.caption += "\n-: on the front by what it claimed, off it by what holds" if lost else ""
    tested = verification.trials if verification is not None else {}
    marked = False
    for section in (front, lost, baselines):
        for record in section:
            cells = _row(record, config, gap, "-" if section is lost else "")
            cells += [_audit_cell(record)] if audited else []
            table.add_row(*cells, style="dim" if section is lost else None)
            if record.number in tested:
                below = flattered(record, tested[record.number])
                table.add_row(*_test_row(tested[record.number], below, config, gap), style="dim")
                marked |= bool(below)
        table.add_section()
    if verification is not None and verification.openings:
        times = "once" if verification.openings == 1 else f"{verification.openings} times"
        table.caption += f"\ntest: the test split, opened {times} so far"
        table.caption += "\n*: below validation by more than chance; selection flatters" if marked else ""
    return table


def _test_row(tested: TrialRecord, below: Sequence[str], config: SweepConfig, gap: str) -> list[str]:
    """A setting's accuracies on the test split; those ``below`` the validation numbers by more than chance marked."""
    cells = ["test", *("" for _ in config.domains), *([""] if _shows_seeds(config) else [])]
    for name in config.objectives:
        known = name in tested.objectives
        cells.append(_accuracy(tested, name, gap, "*" if name in below else "") if known else "")
    return cells


def _accuracy(record: TrialRecord, name: str, gap: str, mark: str = "") -> str:
    low, high = record.interval(name)
    return f"{100 * record.objectives[name]:.1f}{mark}{gap}({100 * low:.1f} to {100 * high:.1f})"


def _lost_their_place(
    records: Sequence[TrialRecord], front: Sequence[TrialRecord], config: SweepConfig
) -> list[TrialRecord]:
    """The settings that are on the front by what they claim alone."""

    def as_claimed(record: TrialRecord) -> TrialRecord:
        if CLAIMED not in record.accuracies or ROBUST not in record.objectives:
            return record
        return replace(record, objectives={**record.objectives, ROBUST: record.accuracies[CLAIMED]})

    there, by_number = {record.number for record in front}, {record.number: record for record in records}
    claimed = pareto_front(map(as_claimed, records), config.objectives)
    return [by_number[record.number] for record in claimed if record.number not in there]


def _audit_cell(record: TrialRecord) -> str:
    if record.verdict is None:
        return "not audited"
    style = VERDICT_STYLES[record.verdict]
    return f"{100 * record.accuracies[CLAIMED]:.1f}\n[{style}]{record.verdict}[/{style}]"


def _row(record: TrialRecord, config: SweepConfig, gap: str, mark: str = "") -> list[str]:
    cells = [f"{mark}{record.number}"]
    cells += [parameter_text(record.parameters[name]) if name in record.parameters else "" for name in config.domains]
    if _shows_seeds(config):
        cells.append(str(len(record.replicates)))
    for name in config.objectives:
        accuracy = is_accuracy(name)
        cells.append(_accuracy(record, name, gap) if accuracy else value_text(name, record.objectives[name]))
    if config.constraints:
        cells.append("" if record.feasible else f"{record.violation:.4g}")
    return cells


def _shows_seeds(config: SweepConfig) -> bool:
    """Whether rows may rest on different numbers of replicates, each with a seed of its own."""
    return config.search.replicates_for_front is not None


def _baseline_note(record: TrialRecord, config: SweepConfig) -> str:
    """What a baseline is, and for which contender's values it was trained, if for any."""
    known = [each for each in config.loss.baselines if each.loss == record.loss]
    matching = [each for each in known if each.parameters.items() <= record.parameters.items()]
    note = (matching[-1].note if matching else "") or record.loss
    others = [name for name in record.parameters if "." in name]
    return f"{note} at {', '.join(others)} of a contender" if others else note


def _interval_kind(results: Results) -> str:
    shown = [*results.front, *(record for record in results.settings if record.is_baseline)]
    several = {len(record.replicates) > 1 for record in shown if record.state == "complete"}
    if several == {True}:
        return "Student's t over the seeds"
    one = "Wilson over the images, one seed a setting"
    return f"Student's t over the seeds where there are several, {one} elsewhere" if True in several else one


def _train_first(run: Run, front: Sequence[TrialRecord]) -> str:
    config = relative(run.folder / SWEEP_FILE)
    return command(*train_command(front[0], str(config)).split()[1:])
