"""A run's folder: its files, and how a run is created and found."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config import SweepConfig, load
from search.errors import UserError
from search.runs import layout
from search.runs.layout import CHECKPOINTS, MANIFEST_FILE, SWEEP_FILE
from search.runs.provenance import make_manifest
from search.runs.store import Store, is_url, located, no_ledger, store_of
from trainables.settings.checks import nearest


@dataclass(frozen=True)
class Run:
    """One sweep's folder and its resolved configuration.

    Whatever reads or writes an object store raises ``Halted`` if that does not answer.
    """

    folder: Path
    config: SweepConfig

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
        if folder.exists():
            raise UserError(
                f"name must be new in {runs_dir}, got {config.name}; resume it with `{command('resume', config.name)}` "
                "or choose another with --name"
            )
        ancestor = next(parent for parent in folder.parents if parent.exists())
        if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
            raise UserError(f"--runs-dir must be a folder that can be written to, got {runs_dir}; choose another")
        return cls(folder, config)

    @classmethod
    def open(cls, run: str, runs_dir: Path) -> Run:
        """An existing run, by its name under ``runs_dir``, its path or its URL. Checkpoints stay in an object store."""
        folder = cls.find(run, runs_dir)
        if folder is not None:
            return cls(folder.absolute(), load(folder / SWEEP_FILE))
        known = [path.parent.name for path in sorted(runs_dir.glob(f"*/{SWEEP_FILE}"))]
        hint = nearest(run, known) if known else "start one with `robustfront sweep configs/quickstart.yaml`"
        raise UserError(f"RUN must be a run under {runs_dir} or its path, got {run}; {hint}")

    @staticmethod
    def find(run: str, runs_dir: Path) -> Path | None:
        """The folder that ``open`` opens; None if there is none."""
        store, runs_dir, run = located(run, runs_dir)
        if store is not None and "/" not in run:
            store.pull(run, without=[CHECKPOINTS])
        return next((folder for folder in (runs_dir / run, Path(run)) if (folder / SWEEP_FILE).is_file()), None)

    def create(self, data: Mapping[str, Any]) -> None:
        """Makes the folder with its first two files, atomically; ``data`` is as from ``prepare_dataset``."""
        staging = self.folder.with_name(f".{self.folder.name}.{os.getpid()}")
        try:
            staging.mkdir(parents=True)
            (staging / SWEEP_FILE).write_text(self.config.to_yaml(), encoding="utf-8")
            manifest = json.dumps(make_manifest(self.config, data), indent=2)
            (staging / MANIFEST_FILE).write_text(manifest + "\n", encoding="utf-8")
            staging.rename(self.folder)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise UserError(
                f"--runs-dir must be a folder that can be written to, got {self.folder.parent} ({error.strerror}); "
                "choose another"
            ) from None
        self.share(self.folder / SWEEP_FILE, self.folder / MANIFEST_FILE)

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
    def name(self) -> str:
        return self.config.name

    @property
    def argument(self) -> str:
        """The run as an argument on the command line: its name if it is under ``runs``, else its path or URL."""
        if self.store is not None:
            return self.store.path_url(self.name)
        return self.name if self.folder.parent == layout.RUNS_DIR.absolute() else str(relative(self.folder))

    @property
    def storage_url(self) -> str:
        """The ledger's URL: the configured database, or ``study.db`` in the folder."""
        return self.config.storage.url or f"sqlite:///{self.folder / layout.LEDGER_FILE}"

    @property
    def tracking_uri(self) -> str:
        """Where MLflow records: the configuration's URI, MLFLOW_TRACKING_URI, or ``mlflow.db`` beside the runs."""
        return self.config.tracking.uri or default_tracking_uri(self.folder.parent)

    def manifest(self) -> dict[str, Any]:
        """The contents of ``manifest.json``: code, versions, data, seeds and hardware."""
        manifest: dict[str, Any] = json.loads((self.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        return manifest

    @property
    def figures(self) -> Path:
        return self.folder / layout.FIGURES


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
