"""A comparison of methods: one ordinary sweep per configuration under equal conditions, then one leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from search.cluster.session import check_machine
from search.config import SweepConfig, load, parse_value
from search.errors import Interrupted, UserError
from search.results.answer import read_answer
from search.results.leaderboard import Contestant, leaderboard, write_leaderboard
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run, relative
from search.runs.layout import SWEEP_FILE
from search.runs.provenance import first_difference, flat
from search.runs.store import store_of
from search.study import open_ledger, read_records, with_lasting_paths
from search.sweep.driver import resume, start
from search.sweep.front_audit import due

Profile = Literal["quick", "full"]

# What the methods must share, by section or key.
SHARED: Final = (
    "data",
    "objectives",
    "constraints",
    "robustness",
    "train.epochs",
    "train.seed",
    "train.replicates",
    "search.trials",
    "search.seed",
    "search.confirmation_seeds",
    "search.most_confirmed",
    "search.stop",
    "search.halving",
    "audit",
    "tracking",
)
# The reference setting alone, without baselines. The first seed of each method is audited.
_REPLICATES: Final = "train.replicates"
QUICK: Final = (
    f"{_REPLICATES}=5",
    "robustness.images=200",
    "audit={profile: quick, minutes: 600, seeds: 1}",
)
_LONGEST: Final = 60  # characters of a value in a message
# The radii at which accuracy is reported for a configuration with only one, in units of that one.
RADII: Final = (1.0, 2 / 3, 4 / 3)


@dataclass(frozen=True)
class Method:
    """One method of a comparison: the name of its configuration, and the sweep to run."""

    name: str
    config: SweepConfig


def read_methods(paths: Sequence[Path], profile: Profile, overrides: Sequence[str], name: str) -> list[Method]:
    """The methods of a comparison, with the configurations of its sweeps, which are named after it.

    Raises:
        UserError: A configuration is not legal, or they are not comparable; the message names the first key that
            differs.
    """
    methods = [_method(path, profile, overrides, name) for path in paths]
    names = [method.name for method in methods]
    for method, path in zip(methods, paths, strict=True):
        if names.count(method.name) > 1:
            raise UserError(f"name must differ between the configurations, got {method.name} twice ({path}); change it")
        key = first_difference(_shared(methods[0].config), _shared(method.config))
        if key is not None:
            values = [_short(_shared(each.config).get(key)) for each in (methods[0], method)]
            raise UserError(
                f"{key} must be the same for all methods, got {values[0]} in {paths[0]} and {values[1]} in {path}; "
                f"set it for all of them: --set {key}=..."
            )
    return methods


def compare(
    methods: Sequence[Method],
    profile: Profile,
    name: str,
    again: str,
    runs_dir: Path,
    address: str | None,
    console: Console,
    quiet: bool,
) -> tuple[dict[str, Any], list[Path]]:
    """Runs every sweep to its end, resumes those that have begun, and writes the leaderboard.

    Args:
        methods: The result of ``read_methods`` for the same profile and name.
        again: The command that resumes the comparison.

    Returns:
        The contents of ``leaderboard.json``, and the files.

    Raises:
        UserError: A method cannot handle the data, or an existing sweep is in the way. Nothing has been started.
        Interrupted, SweepFailed: As for ``driver.start``.
    """
    if (runs_dir / name / SWEEP_FILE).is_file():
        raise UserError(f"--name must not be that of a sweep, got {name}; choose another")
    contestants = run_all(methods, again, runs_dir, address, console, quiet)
    document = leaderboard(name, profile, contestants)
    written, store = write_leaderboard(runs_dir.absolute() / name, document), store_of(runs_dir.absolute())
    if store is not None:
        store.push(name)
    return document, [relative(path) for path in written]


def run_all(
    methods: Sequence[Method], again: str, runs_dir: Path, address: str | None, console: Console, quiet: bool
) -> list[Contestant]:
    """Runs every sweep to its end, and resumes sweeps that have begun.

    ``again`` is the command that continues. Raises the same errors as ``compare``.
    """
    runs = [_existing(method, runs_dir) for method in methods]
    for method, run in zip(methods, runs, strict=True):
        check_machine(method.config, address)
        if run is None:
            Run.plan(method.config, runs_dir)
        try:
            prepare_dataset(method.config.data, test=False, problem=method.config.problem)
        except UserError as error:
            raise UserError(f"{method.name}: {error}") from None
    contestants = []
    try:
        for count, (method, run) in enumerate(zip(methods, runs, strict=True), 1):
            if not quiet:
                console.print(f"[bold]{method.name}[/bold] ({count} of {len(methods)})")
            if run is None:
                run, _ = start(method.config, runs_dir, address, console, quiet)
            elif not is_finished(run):
                resume(run, address, console, quiet)
            contestants.append(Contestant(method.name, run, read_records(run)))
    except Interrupted:
        raise Interrupted(f"interrupted; everything is kept; continue with `{again}`") from None
    return contestants


def is_finished(run: Run) -> bool:
    """Whether nothing remains to be trained, audited or written."""
    with closing(open_ledger(run)) as ledger:
        audits = due(run, ledger, run.config.audit) if run.config.audit is not None else []
        return ledger.complete and not audits and read_answer(run) is not None


def _method(path: Path, profile: Profile, overrides: Sequence[str], name: str) -> Method:
    changes = [f"tracking.parent={name}"]
    if profile == "quick":
        given = (override.partition("=") for override in (*QUICK, *overrides))
        replicates = [value for key, _, value in given if key.strip() == _REPLICATES][-1]
        changes += [*QUICK, f"search={{trials: {replicates}, baselines: false}}"]
    own = load(path, [*changes, *overrides])
    if len(own.robustness.epsilons) == 1:
        changes.append(f"robustness.epsilon={[factor * own.robustness.epsilons[0] for factor in RADII]}")
    config = load(path, [*changes, *overrides], f"{name}-{own.name}")
    if profile == "quick" and not config.fixed_settings:
        raise UserError(f"space must contain the reference setting of {own.name} for --profile quick; widen it")
    return Method(own.name, config)


def _existing(method: Method, runs_dir: Path) -> Run | None:
    """The method's sweep if it exists; a ``UserError`` if it has another configuration."""
    if Run.find(method.config.name, runs_dir) is None:
        return None
    run, config = Run.open(method.config.name, runs_dir), with_lasting_paths(method.config, runs_dir)
    key = first_difference(_written(run.config), _written(config))
    if key is not None:
        values = [_short(_written(each).get(key)) for each in (run.config, config)]
        raise UserError(
            f"{key} must be {values[0]} as in the existing sweep {run.argument}, got {values[1]}; choose another --name"
        )
    return run


def _shared(config: SweepConfig) -> dict[str, Any]:
    """The settings that the methods must share, by path. ``eot`` may differ: it depends on the method."""
    document = config.to_document()
    document["robustness"]["attacks"] = [
        {name: value for name, value in attack.items() if name != "eot"} for attack in document["robustness"]["attacks"]
    ]
    return {key: value for key, value in _paths(document).items() if key.startswith(SHARED)}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _written(config: SweepConfig) -> dict[str, Any]:
    """A configuration as in ``sweep.yaml``, by path."""
    return _paths(parse_value(SWEEP_FILE, config.to_yaml()))


def _paths(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for name, section in document.items() for key, value in flat(name, section).items()}
