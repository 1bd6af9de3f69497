"""Is this machine ready? Each check says what it finds and names a remedy for each problem."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, Literal

import psutil
from packaging.requirements import Requirement
from rich.console import Console

from search.cluster.nodes import alive, examined, expected, marker_beside
from search.cluster.session import capacity, connected
from search.config import SweepConfig, available_cpus, load, parse
from search.errors import RobustfrontError, UserError
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from search.runs.store import Store, no_ledger
from search.study import open_storage
from search.tracking.client import client_of, explain, is_server, shown
from search.worker.tasks import examine

_DISK_NEEDED: Final = 2_000_000_000  # bytes: checkpoints and pictures of a few sweeps
_MEMORY_PER_TRIAL: Final = 1_000_000_000  # bytes: a worker with torch and a small data set
_MARKS: Final = {"ok": "[green]ok[/green]     ", "note": "[yellow]note[/yellow]   ", "problem": "[red]problem[/red]"}


@dataclass(frozen=True)
class Finding:
    """The result of one check: ``ok``, or a ``note`` (sweeps run anyway) or ``problem`` with its remedy."""

    name: str
    level: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""


class _Note(UserError):
    """A check found something that does not keep sweeps from running."""


def diagnose(config: Path | None, address: str | None, runs_dir: Path) -> Iterator[Finding]:
    """Runs every check, with a configuration of what it needs too, and yields its finding at once."""
    settings = load(config) if config is not None else parse({"name": "doctor", "search": {"trials": 1}})
    run = Run(runs_dir / settings.name, settings)
    store = run.store
    # A check returns what it finds if all is well, and raises ``UserError("TEXT; REMEDY")`` otherwise.
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: f"{platform.python_version()} at {sys.executable}"),
        *((name, partial(_version, name, pin)) for name, pin in _pins().items()),
        ("gpu", _gpu),
        ("memory", lambda: _memory(settings)),
        ("disk", lambda: _disk(runs_dir)),
        ("data", lambda: _data(settings)),
        *([("runs", partial(_writable, store))] if store is not None else []),
        *([("storage", lambda: _storage(run))] if store is None or config is not None else []),
        ("tracking", lambda: _tracking(run.tracking_uri)),
        *([("ray", lambda: _ray(settings))] if address is None else []),
    ]
    for name, check in checks:
        try:
            yield Finding(name, "ok", check())
        except Exception as error:  # a check that fails is a finding too
            yield _failed(name, error)
    if address is not None:
        try:
            yield from _nodes(run, address)
        except Exception as error:
            yield _failed("ray", error)


def _failed(name: str, error: Exception) -> Finding:
    if isinstance(error, UserError):
        text, _, remedy = str(error).rpartition("; ")
        return Finding(name, "note" if isinstance(error, _Note) else "problem", text, remedy)
    if isinstance(error, RobustfrontError):
        return Finding(name, "problem", str(error), "correct this and run `robustfront doctor` again")
    return Finding(name, "problem", f"{type(error).__name__}: {error}", "reinstall with `uv sync --reinstall`")


def print_findings(console: Console, findings: Iterable[Finding]) -> bool:
    """Prints findings as they come, and returns whether none is a problem."""
    ready = True
    for finding in findings:
        console.print(f"{_MARKS[finding.level]}  {finding.name:<24}", end="")
        console.print(finding.text, markup=False, soft_wrap=True)
        if finding.remedy:
            console.print(f"{'':<33}-> {finding.remedy}", markup=False, soft_wrap=True)
        ready &= finding.level != "problem"
    return ready


def _pins() -> dict[str, str]:
    """The exact versions that this project requires; the attacks of another version may behave differently."""
    return {
        requirement.name: specifier.version
        for requirement in map(Requirement, requires("robustfront") or [])
        for specifier in requirement.specifier
        if specifier.operator == "=="
    }


def _version(name: str, pin: str) -> str:
    try:
        installed = version(name)
    except PackageNotFoundError:
        raise UserError("not installed; install with `uv sync`") from None
    if installed.partition("+")[0] != pin:
        raise _Note(f"{installed}, tested with {pin}; install the tested version with `uv sync`")
    return installed


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise _Note(
            "torch can use none, small networks train on processors; "
            "for a GPU, check `nvidia-smi` and that its driver fits torch's CUDA "
            f"{torch.version.cuda or '(this torch has none: install the CUDA build)'}"
        )
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"


def _memory(settings: SweepConfig) -> str:
    available = psutil.virtual_memory().available
    trials = settings.search.concurrency or max(1, available_cpus() // settings.resources.cpus_per_trial)
    text = f"{available / 1e9:.1f} GB free for {trials} trials at a time on {available_cpus()} processors"
    if available < trials * _MEMORY_PER_TRIAL:
        raise UserError(f"{text}; close other programs or lower search.concurrency")
    return text


def _disk(runs_dir: Path) -> str:
    folder = next(folder for folder in (runs_dir.absolute(), *runs_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    if free < _DISK_NEEDED:
        raise UserError(f"{text}; free some space or choose another --runs-dir")
    return text


def _data(settings: SweepConfig) -> str:
    data = prepare_dataset(settings.data, test=False)
    return f"{data['name']} from {data['location']}: {data['sizes']}"


def _writable(store: Store) -> str:
    store.check()
    return f"{store.url} is writable"


def _storage(run: Run) -> str:
    if run.config.storage.url is not None:
        open_storage(run.config.storage.url).engine.dispose()
        return "the database at storage.url answers"
    if run.store is not None:
        raise UserError(no_ledger(run.store))
    return f"SQLite, one file per run under {run.folder.parent}"


def _tracking(uri: str) -> str:
    if not is_server(uri):
        return f"MLflow in {shown(uri)}"
    try:
        client_of(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow raises
        remedy = "correct this (sweeps run meanwhile, and `resume` writes what MLflow lacks)"
        raise UserError(f"{explain(uri, error)}; {remedy}") from None
    return f"MLflow at {shown(uri)} answers"


def _ray(settings: SweepConfig) -> str:
    with connected(settings, None):
        (node,) = alive()
    return f"{node.cpus:g} processors, {node.gpus:g} GPUs on this machine"


def _nodes(run: Run, address: str) -> Iterator[Finding]:
    """One finding per node: versions and source, data, GPUs, the runs' folder, its clock, and MLflow."""
    settings, uri = run.config, run.tracking_uri
    digest = prepare_dataset(settings.data, test=False)["sha256"]
    with connected(settings, address), marker_beside(run.folder) as marker:
        nodes = alive()
        room = f"room for {capacity(settings, nodes)} trials at a time"
        yield Finding("ray", "ok", f"{len(nodes)} nodes at {address} with {room}")
        required = replace(
            expected(settings, digest, marker, run.store),
            inspect_gpu=True,
            tracking=uri if is_server(uri) else None,
        )
        for node, examination in examined(required, examine, nodes):
            name = f"node {node.address}"
            for problem in examination.problems:
                yield Finding(name, "problem", problem, "correct this, or remove the node")
            if not examination.problems:
                gpus = f", torch sees {', '.join(examination.gpus)}" if examination.gpus else ""
                data = f"{settings.data.name} from {examination.location}"
                yield Finding(name, "ok", f"{node.cpus:g} processors, {node.gpus:g} GPUs{gpus}, {data}")
