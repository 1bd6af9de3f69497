"""Is this machine ready? Each check says what it finds and names a remedy for each problem."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, Literal

import psutil
from packaging.requirements import Requirement
from rich.console import Console

from search.config import SweepConfig, available_cpus, load, parse
from search.errors import RobustfrontError, UserError
from search.runs.dataset import prepare_dataset
from search.runs.folder import default_tracking_uri
from search.runs.store import Store, no_ledger, store_of
from search.tracking import is_server, obstacle, shown
from trainables.settings import DataSettings

Level = Literal["ok", "note", "problem"]

_OLDEST_PYTHON: Final = (3, 11)
_DISK_NEEDED: Final = 2_000_000_000  # bytes: checkpoints and pictures of a few sweeps
_MEMORY_PER_TRIAL: Final = 1_000_000_000  # bytes: a worker with torch and a small data set


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        name: What was checked.
        level: ``ok``, ``note`` (sweeps run anyway) or ``problem``.
        text: What the check found.
        remedy: What to do about it; empty for ``ok``.
    """

    name: str
    level: Level
    text: str
    remedy: str = ""


def diagnose(config: Path | None, address: str | None, runs_dir: Path) -> Iterator[Finding]:
    """Runs every check and yields its finding at once.

    Args:
        config: A configuration whose data, storage, tracking and resources are also checked.
        address: A cluster to connect to; None starts Ray on this machine.
        runs_dir: Folder of the runs, checked for disk space and permissions.
    """
    settings, store = load(config) if config is not None else None, store_of(runs_dir)
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", _python),
        *((f"version of {name}", lambda name=name, pin=pin: _version(name, pin)) for name, pin in _pins().items()),
        ("torch", _torch),
        ("memory", lambda: _memory(settings)),
        ("disk", lambda: _disk(runs_dir)),
        ("data", lambda: _data(settings)),
        *([("runs", lambda: _store(store))] if store is not None else []),
        ("storage", lambda: _storage(settings, runs_dir)),
        ("tracking", lambda: _tracking(settings, runs_dir)),
        *([("ray", lambda: _ray(settings))] if address is None else []),
    ]
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # a check that fails is a finding too
            yield _broken(name, error)
    if address is not None:
        try:
            yield from _nodes(settings or _any_sweep(), address, runs_dir)
        except Exception as error:
            yield _broken("ray", error)


def _broken(name: str, error: Exception) -> Finding:
    if isinstance(error, UserError):
        text, _, remedy = str(error).rpartition("; ")
        return Finding(name, "problem", text, remedy)
    if isinstance(error, RobustfrontError):
        return Finding(name, "problem", str(error), "correct this and run `robustfront doctor` again")
    return Finding(name, "problem", f"{type(error).__name__}: {error}", "reinstall with `uv sync --reinstall`")


def print_findings(console: Console, findings: Iterable[Finding]) -> bool:
    """Prints findings as they come.

    Args:
        console: Where to print.
        findings: As from ``diagnose``.

    Returns:
        Whether none is a problem.
    """
    marks = {"ok": "[green]ok[/green]     ", "note": "[yellow]note[/yellow]   ", "problem": "[red]problem[/red]"}
    ready = True
    for finding in findings:
        console.print(f"{marks[finding.level]}  {finding.name:<24}", end="", highlight=False)
        console.print(finding.text, highlight=False, markup=False, soft_wrap=True)
        if finding.remedy:
            console.print(f"{'':<9}{'':<24}-> {finding.remedy}", highlight=False, markup=False, soft_wrap=True)
        ready &= finding.level != "problem"
    return ready


def _python() -> Finding:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("python", "problem", text, "install Python 3.11 or newer")
    return Finding("python", "ok", text)


def _pins() -> dict[str, str]:
    """The exact versions that this project requires; the attacks of another version may behave differently."""
    pins = {}
    for text in requires("robustfront") or []:
        requirement = Requirement(text)
        exact = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if exact:
            pins[requirement.name] = exact[0]
    return pins


def _version(name: str, pin: str) -> Finding:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding(name, "problem", "not installed", "install with `uv sync`")
    if installed.partition("+")[0] != pin:
        return Finding(name, "note", f"{installed}, tested with {pin}", "install the tested version with `uv sync`")
    return Finding(name, "ok", installed)


def _torch() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("gpu", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})")
    return Finding(
        "gpu",
        "note",
        "torch can use none; small networks train on processors",
        "for a GPU, check `nvidia-smi` and that its driver fits torch's CUDA "
        f"{torch.version.cuda or '(this torch has none: install the CUDA build)'}",
    )


def _memory(settings: SweepConfig | None) -> Finding:
    available = psutil.virtual_memory().available
    each = settings.resources.cpus_per_trial if settings else 1
    trials = (settings.search.concurrency if settings else None) or max(1, available_cpus() // each)
    text = f"{available / 1e9:.1f} GB free for {trials} trials at a time on {available_cpus()} processors"
    if available < trials * _MEMORY_PER_TRIAL:
        return Finding("memory", "problem", text, "close other programs or lower search.concurrency")
    return Finding("memory", "ok", text)


def _disk(runs_dir: Path) -> Finding:
    folder = runs_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    if free < _DISK_NEEDED:
        return Finding("disk", "problem", text, "free some space or choose another --runs-dir")
    return Finding("disk", "ok", text)


def _data(settings: SweepConfig | None) -> Finding:
    data = prepare_dataset(settings.data if settings else DataSettings(), test=False)
    return Finding("data", "ok", f"{data['name']} from {data['location']}: {data['sizes']}")


def _store(store: Store) -> Finding:
    store.check()
    return Finding("runs", "ok", f"{store.url} is writable")


def _storage(settings: SweepConfig | None, runs_dir: Path) -> Finding:
    if settings is None or settings.storage.url is None:
        store = store_of(runs_dir)
        if store is not None and settings is not None:
            raise UserError(no_ledger(store))
        return Finding("storage", "ok", f"SQLite, one file per run under {runs_dir}")
    from search.study import open_storage

    open_storage(settings.storage.url).engine.dispose()
    return Finding("storage", "ok", "the database at storage.url answers")


def _tracking(settings: SweepConfig | None, runs_dir: Path) -> Finding:
    uri = _tracking_uri(settings, runs_dir)
    if not is_server(uri):
        return Finding("tracking", "ok", f"MLflow in {shown(uri)}")
    problem = obstacle(uri)
    if problem is None:
        return Finding("tracking", "ok", f"MLflow at {shown(uri)} answers")
    return Finding(
        "tracking", "problem", problem, "correct this; sweeps run meanwhile, and `resume` writes what MLflow lacks"
    )


def _tracking_uri(settings: SweepConfig | None, runs_dir: Path) -> str:
    return (settings.tracking.uri if settings else None) or default_tracking_uri(runs_dir)


def _ray(settings: SweepConfig | None) -> Finding:
    from search.cluster.nodes import alive
    from search.cluster.session import connected

    with connected(settings or _any_sweep(), None):
        (node,) = alive()
    return Finding("ray", "ok", f"{node.cpus:g} processors, {node.gpus:g} GPUs on this machine")


def _nodes(settings: SweepConfig, address: str, runs_dir: Path) -> Iterator[Finding]:
    """One finding per node: versions and source, data, GPUs, the runs' folder, its clock, and MLflow."""
    from search.cluster.nodes import alive, examined, expected, marker_beside
    from search.cluster.session import capacity, connected
    from search.worker.tasks import examine

    uri = _tracking_uri(settings, runs_dir)
    digest = prepare_dataset(settings.data, test=False)["sha256"]
    with connected(settings, address), marker_beside(runs_dir / settings.name) as marker:
        nodes = alive()
        yield Finding(
            "ray", "ok", f"{len(nodes)} nodes at {address} with room for {capacity(settings, nodes)} trials at a time"
        )
        required = replace(
            expected(settings, digest, marker, store_of(runs_dir)),
            inspect_gpu=True,
            tracking=uri if is_server(uri) else None,
        )
        for node, examination in examined(required, examine, nodes):
            gpus = f", torch sees {', '.join(examination.gpus)}" if examination.gpus else ""
            data = f"{settings.data.name} from {examination.location}"
            text = f"{node.cpus:g} processors, {node.gpus:g} GPUs{gpus}, {data}"
            for problem in examination.problems:
                yield Finding(f"node {node.address}", "problem", problem, "correct this, or remove the node")
            if not examination.problems:
                yield Finding(f"node {node.address}", "ok", text)


def _any_sweep() -> SweepConfig:
    return parse({"name": "doctor", "search": {"trials": 1}})
