"""``robustfront reproduce``: the list of experiments, costs, tables and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from analysis.reproduction import EVALUATIONS, verdicts
from search.cli.cluster import folded_table
from search.config.experiments import ALL, EXPERIMENTS_DIR, RESULTS, Library, Profile
from search.errors import UserError
from search.results.tables import print_table
from search.runs.folder import command
from search.sweep.reproduce import Cost, Reproduction, estimate, left, read_table, reproduce, rewrite, table_path

_HOUR, _MINUTE, _GIGABYTE = 3600, 60, 1e9


def make_job(
    name: str | None,
    lists: bool,
    profile: Profile,
    prefix: str,
    runs_dir: Path,
    overrides: Sequence[str],
    results: Path | None,
) -> tuple[Reproduction, Path]:
    """The job that the command line describes, and the folder of the tables.

    Raises:
        UserError: The name is missing (except with --list) or unknown, or --set was given without --results.
    """
    library = Library.read(EXPERIMENTS_DIR)
    if overrides and results is None:
        raise UserError(
            "--results must be given with --set, got none; the default folder is only for the declared settings"
        )
    if name is None and not lists:
        raise UserError(f"NAME must be given, got none; choose one of `{command('reproduce', '--list')}`")
    job = Reproduction(library, library.chosen(name or ALL), profile, prefix, runs_dir, overrides)
    return job, results or EXPERIMENTS_DIR / RESULTS


def run_or_rewrite(
    console: Console, job: Reproduction, results: Path, again: str | None, address: str | None, quiet: bool
) -> list[Path]:
    """Runs the experiments, or without ``again`` only writes text and figures from the tables. Prints the verdicts."""
    files = rewrite(job, results) if again is None else reproduce(job, again, results, address, console, quiet)
    if not quiet:
        _print_verdicts(console, job, results)
    return files


def list_experiments(console: Console, job: Reproduction, results: Path) -> None:
    """Prints each experiment's title, the pools and units that it needs, what is left to train, and its cost so far."""
    unfinished = left(job)
    uses = [pool for name in job.library.experiments for pool in job.library.needed([name], job.profile)]
    table = folded_table(f"Experiments, profile {job.profile}", "name", "title", "needs", "left", "table")
    for name in job.names:
        needed = job.library.needed([name], job.profile)
        needs, remaining = [], 0
        for pool, members in needed.items():
            units = sum(job.library.sweep(pool, member, job.profile, job.name).budget for member in members)
            shared = " (shared)" if uses.count(pool) > 1 else ""
            needs.append(f"{pool}: {units} networks{shared}")
            remaining += sum(unfinished[pool, member] for member in members)
        path = table_path(results, name, job.profile)
        cost = "not run"
        if path.is_file():
            rows = read_table(path).drop_duplicates("panel")
            cost = f"{rows['seconds'].sum() / _HOUR:.2g} processor-hours"
        title = job.library.experiments[name].title
        table.add_row(name, title, "\n".join(needs), f"{remaining} networks" if remaining else "-", cost)
    print_table(console, table)


def estimate_costs(console: Console, job: Reproduction) -> None:
    """Prints ranges of the time and of the disk space that the remaining sweeps need."""
    costs = estimate(job, console)
    table = folded_table(None, "pool", "networks", "time on this machine", "disk")
    for cost in costs:
        table.add_row(cost.pool, str(cost.units), _range(cost.seconds), _disk(cost.size))
    total = Cost(
        "all",
        sum(cost.units for cost in costs),
        (sum(cost.seconds[0] for cost in costs), sum(cost.seconds[1] for cost in costs)),
        (sum(cost.size[0] for cost in costs), sum(cost.size[1] for cost in costs)),
    )
    table.add_section()
    table.add_row(total.pool, str(total.units), _range(total.seconds), _disk(total.size))
    print_table(console, table)


def _print_verdicts(console: Console, job: Reproduction, results: Path) -> None:
    """Prints the verdict on each claim of the experiments that have a table."""
    table = folded_table(None, "name", "claim", "comparison", "evaluation", "verdict")
    for name in job.names:
        path = table_path(results, name, job.profile)
        if path.is_file():
            document = job.library.experiments[name].model_dump(mode="json")
            for each in verdicts(document, read_table(path)):
                table.add_row(name, each.says, each.about, EVALUATIONS[each.evaluation], each.word)
    print_table(console, table)


def _range(seconds: tuple[float, float]) -> str:
    if max(seconds) < 2 * _HOUR:
        return "{:.0f} to {:.0f} minutes".format(*(each / _MINUTE for each in seconds))
    return "{:.1f} to {:.1f} hours".format(*(each / _HOUR for each in seconds))


def _disk(size: tuple[float, float]) -> str:
    return "{:.2f} to {:.2f} GB".format(*(each / _GIGABYTE for each in size))
