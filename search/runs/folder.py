"""A run's folder: its files, and how a run is created and found."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import TypeAdapter

from analysis.records import TrialRecord
from search.config import ImportConfig, StudyConfig, SweepConfig, load, load_import
from search.errors import UserError
from search.runs import layout
from search.runs.layout import CHECKPOINTS, IMPORT_FILE, MANIFEST_FILE, SWEEP_FILE, UNITS_FILE
from search.runs.provenance import make_import_manifest, make_manifest
from search.runs.store import Store, is_url, located, no_ledger, store_of
from trainables.settings.checks import nearest

_RECORDS: Final = TypeAdapter(list[TrialRecord])


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, a sweep's or an imported one, and its configuration.

    Whatever reads or writes an object store raises ``Halted`` if that does not answer.
    """

    folder: Path
    config: StudyConfig
    config_file: ClassVar[str]

    @property
    def store(self) -> Store | None:
        """The object store of the runs, if the folder is in a working copy of one."""
        return store_of(self.folder.parent)

    def share(self, *paths: Path) -> None:
        """Copies files and folders of the run to the store, if there is one.

        Give only what this process has written: the copies of other machines' files here may be outdated.
        """
        store = self.store
        if store is None:
            return
        for path in paths:
            if path.is_relative_to(self.folder):
                store.push(f"{self.name}/{path.relative_to(self.folder).as_posix()}")

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def argument(self) -> str:
        """The run as an argument on the command line: its name if it is under ``runs``, else its path or URL."""
        if self.store is not None:
            return self.store.path_url(self.name)
        return self.name if self.folder.parent == layout.RUNS_DIR.absolute() else str(relative(self.folder))

    def manifest(self) -> dict[str, Any]:
        """The contents of ``manifest.json``: where the run's numbers come from."""
        manifest: dict[str, Any] = json.loads((self.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        return manifest

    @property
    def figures(self) -> Path:
        return self.folder / layout.FIGURES

    def _make(self, files: Mapping[str, str]) -> None:
        """Makes the folder with its first files, by their names, atomically."""
        staging = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        try:
            staging.mkdir(parents=True)
            for name, content in files.items():
                (staging / name).write_text(content, encoding="utf-8")
            staging.rename(self.folder)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise UserError(
                f"--runs-dir must be a folder that can be written to, got {self.folder.parent} ({error.strerror}); "
                "choose another"
            ) from None
        self.share(*(self.folder / name for name in files))


@dataclass(frozen=True)
class Run(RunFolder):
    """One sweep's folder and its resolved configuration."""

    config: SweepConfig
    config_file = SWEEP_FILE

    @classmethod
    def plan(cls, config: SweepConfig, runs_dir: Path) -> Run:
        """A run that does not exist yet, in a folder that can be written. Writes nothing.

        A run in an object store needs a ledger that outlives this machine.
        """
        folder, store = runs_dir.absolute() / config.name, store_of(runs_dir)
        if store is not None:
            if config.storage.url is None:
                raise UserError(no_ledger(store))
            store.check()
            store.pull(f"{config.name}/{SWEEP_FILE}")
        check_free(folder, runs_dir, f"resume it with `{command('resume', config.name)}` or choose another with --name")
        return cls(folder, config)

    @classmethod
    def open(cls, run: str, runs_dir: Path) -> Run:
        """An existing sweep, by its name under ``runs_dir``, its path or its URL; its checkpoints stay in a store."""
        found = open_run(run, runs_dir)
        if isinstance(found, Run):
            return found
        raise UserError(no_networks("RUN", run, found.config))

    @staticmethod
    def find(run: str, runs_dir: Path) -> Path | None:
        """The folder that ``open`` opens; None if there is none."""
        return find_folder(run, runs_dir, SWEEP_FILE)

    def create(self, data: Mapping[str, Any]) -> None:
        """Makes the folder with its first two files, atomically; ``data`` is as from ``prepare_dataset``."""
        manifest = json.dumps(make_manifest(self.config, data), indent=2)
        self._make({SWEEP_FILE: self.config.to_yaml(), MANIFEST_FILE: manifest + "\n"})

    def fetched(self, path: str) -> Path:
        """A file or folder of a trial as a path on this machine, copied from the store if there is one.

        ``path`` is relative to the run's folder, as in a record. It may lead to another run.
        """
        within = os.path.normpath(f"{self.name}/{path}")
        if self.store is not None and not within.startswith(os.pardir):
            self.store.pull(within)
        return (self.folder / path).resolve()

    def trial_files(self, path: str) -> str:
        """The path or URL by which ``Checkpoint.find`` finds a trial's checkpoints on any node; as for ``fetched``."""
        within = os.path.normpath(f"{self.name}/{path}")
        if self.store is None or within.startswith(os.pardir):
            return str((self.folder / path).resolve())
        return self.store.path_url(within.replace(f"/{CHECKPOINTS}/", "/"))

    @property
    def storage_url(self) -> str:
        """The ledger's URL: the configured database, or ``study.db`` in the folder."""
        return self.config.storage.url or f"sqlite:///{self.folder / layout.LEDGER_FILE}"

    @property
    def tracking_uri(self) -> str:
        """Where MLflow records: the configuration's URI, MLFLOW_TRACKING_URI, or ``mlflow.db`` beside the runs."""
        return self.config.tracking.uri or default_tracking_uri(self.folder.parent)


@dataclass(frozen=True)
class ImportedRun(RunFolder):
    """A run made from someone else's study: the records of its trials, and no networks."""

    config: ImportConfig
    config_file = IMPORT_FILE

    @classmethod
    def plan(cls, config: ImportConfig, runs_dir: Path) -> ImportedRun:
        """A run that does not exist yet, in a folder that can be written. Writes nothing."""
        folder, store = runs_dir.absolute() / config.name, store_of(runs_dir)
        if store is not None:
            store.check()
            store.pull(config.name)
        check_free(folder, runs_dir, "choose another with --name")
        return cls(folder, config)

    def create(self, units: Sequence[TrialRecord], source: Mapping[str, Any]) -> None:
        """Makes the folder with its first files, atomically. ``source`` is what the manifest says of the study."""
        manifest = json.dumps(make_import_manifest(self.config, source), indent=2)
        records = _RECORDS.dump_json(list(units), indent=1).decode()
        self._make({IMPORT_FILE: self.config.to_yaml(), UNITS_FILE: records, MANIFEST_FILE: manifest + "\n"})

    def records(self) -> list[TrialRecord]:
        """Every trial of the study, as it was imported."""
        return _RECORDS.validate_json((self.folder / UNITS_FILE).read_bytes())


def open_run(run: str, runs_dir: Path) -> Run | ImportedRun:
    """An existing run, a sweep's or an imported one, by its name under ``runs_dir``, its path or its URL."""
    folder = find_folder(run, runs_dir, SWEEP_FILE, IMPORT_FILE)
    if folder is None:
        known = known_runs(runs_dir)
        hint = nearest(run, known) if known else "start one with `robustfront sweep configs/quickstart.yaml`"
        raise UserError(f"RUN must be a run under {runs_dir} or its path, got {run}; {hint}")
    if (folder / SWEEP_FILE).is_file():
        return Run(folder.absolute(), load(folder / SWEEP_FILE))
    return ImportedRun(folder.absolute(), load_import(folder / IMPORT_FILE))


def find_folder(run: str, runs_dir: Path, *files: str) -> Path | None:
    """The folder of a run, by its name, path or URL, that has one of the ``files``; None if there is none."""
    store, runs_dir, run = located(run, runs_dir)
    if store is not None and "/" not in run:
        store.pull(run, without=[CHECKPOINTS])
    folders = (runs_dir / run, Path(run))
    return next((folder for folder in folders if any((folder / name).is_file() for name in files)), None)


def known_runs(runs_dir: Path) -> list[str]:
    """The names of the runs in a folder, imported ones included."""
    return sorted(path.parent.name for name in (SWEEP_FILE, IMPORT_FILE) for path in runs_dir.glob(f"*/{name}"))


def check_free(folder: Path, runs_dir: Path, remedy: str) -> None:
    """Raises a ``UserError`` unless a run's folder is new and can be made."""
    if folder.exists():
        raise UserError(f"name must be new in {runs_dir}, got {folder.name}; {remedy}")
    ancestor = next(parent for parent in folder.parents if parent.exists())
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise UserError(f"--runs-dir must be a folder that can be written to, got {runs_dir}; choose another")


def no_networks(argument: str, given: str, config: ImportConfig) -> str:
    """What a command that needs networks says of an imported run."""
    return (
        f"{argument} must have networks for this command, got {given}, which was imported from the "
        f"{config.source.title} and has none; it is for pareto, surfaces and report"
    )


def runs_folder(text: str | Path) -> Path:
    """A runs folder by its path, or the working copy of one that is given by a URL."""
    return Store(str(text)).copy if is_url(str(text)) else Path(text)


def default_tracking_uri(runs_dir: Path) -> str:
    """Where MLflow records unless a configuration says otherwise: MLFLOW_TRACKING_URI, or a SQLite file of the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs_dir.absolute() / layout.TRACKING_DATABASE}"


def relative(path: Path) -> Path:
    """A path relative to the working folder if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(*arguments: str) -> str:
    """A robustfront command as the user types it, with ``uv run`` before it if this process was started that way."""
    prefix = ["uv", "run"] if "UV_RUN_RECURSION_DEPTH" in os.environ else []
    return " ".join([*prefix, "robustfront", *arguments])
