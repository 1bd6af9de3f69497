"""A trained model on disk, found by its path or by run and number, and the configuration that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from search.config import SweepConfig, load, load_import
from search.errors import UserError
from search.runs.folder import Run, command, find_folder, no_networks
from search.runs.layout import CHECKPOINTS, IMPORT_FILE, OUTCOMES, OUTCOMES_FILE, SURROGATE, SWEEP_FILE, TRAIN_FILE
from search.runs.store import Store, is_url, located

_LEVELS: Final = 2  # from a trial's checkpoints up to its run's folder


@dataclass(frozen=True)
class Checkpoint:
    """A trained model on disk and the configuration that it was trained with."""

    path: Path  # a folder of checkpoints, or one of them
    config: SweepConfig
    home: Path  # the folder of the run, or of the training by ``robustfront train``
    number: str | None  # of the trial; None for a model from ``robustfront train``

    @classmethod
    def find(cls, checkpoint: str, runs_dir: Path) -> Checkpoint:
        """Finds a model by its path, or a run's trial by ``RUN/NUMBER``.

        From an object store its checkpoints are copied, and those of the first baseline. A ``UserError`` says if there
        is no model, or no configuration beside it or above.
        """
        run, _, number = checkpoint.rpartition("/")
        if is_url(checkpoint):
            parent, number = Store.split(checkpoint)
            run = parent.url
        store, runs_dir, run = located(run, runs_dir)
        if store is not None and run:
            store.pull(run, without=[CHECKPOINTS])
            for needed in dict.fromkeys((number, SURROGATE)):
                store.pull(f"{run}/{CHECKPOINTS}/{needed}")
        path = next(
            (path for path in (Path(checkpoint), runs_dir / run / CHECKPOINTS / number) if path.exists() and number),
            None,
        )
        if path is None:
            for name in (checkpoint, run):
                if (folder := find_folder(name, runs_dir, IMPORT_FILE)) is not None:
                    raise UserError(no_networks("CHECKPOINT", checkpoint, load_import(folder / IMPORT_FILE)))
            raise UserError(
                f"CHECKPOINT must be a folder of checkpoints, one of them, or RUN/NUMBER, got {checkpoint}; "
                f"train one with `{command('train', 'configs/quickstart.yaml', '--param s=1.0 --param m=0.1')}`"
            )
        folder = _folder(path)
        for home in (folder, *folder.parents[:_LEVELS]):
            if (home / SWEEP_FILE).is_file():
                return cls(path, load(home / SWEEP_FILE), home, folder.name)
            if (home / TRAIN_FILE).is_file():
                return cls(path, load(home / TRAIN_FILE), home, None)
        raise UserError(
            f"CHECKPOINT must lie below the {SWEEP_FILE} or beside the {TRAIN_FILE} that it was trained with, "
            f"got {checkpoint}; put that file back"
        )

    @property
    def folder(self) -> Path:
        """Where the checkpoints are."""
        return _folder(self.path)

    @property
    def newest(self) -> Path:
        """The file with the model; a ``UserError`` says if there is none."""
        files = sorted(self.path.glob("epoch-*.pt")) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"CHECKPOINT must hold a checkpoint, got {self.path}; train one first")
        return files[-1]

    @property
    def outcomes(self) -> Path:
        """The file of the training's per-image outcomes, which exists once it has finished."""
        return self.home / OUTCOMES_FILE if self.number is None else self.home / OUTCOMES / f"{self.number}.npz"

    def share(self, *paths: Path) -> None:
        """As ``Run.share``."""
        Run(self.home, self.config).share(*paths)

    def place(self, kind: str) -> Path:
        """The folder for its ``evaluations`` or ``audits``."""
        return self.home / kind.removesuffix("s") if self.number is None else self.home / kind / self.number


def _folder(path: Path) -> Path:
    return (path if path.is_dir() else path.parent).absolute()
