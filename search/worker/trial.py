"""The Tune trainable: trains and attacks one unit, in a worker process that takes many units in turn."""

from __future__ import annotations

import errno
import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ray
from ray import tune

from analysis.records import kind_of
from search.cluster.nodes import Expected
from search.errors import Halted
from search.results.metrics import Role, epoch_metrics, unit_results
from search.runs.layout import CHECKPOINTS, OUTCOMES
from search.runs.store import Store
from search.worker.tasks import audit_trial, examine
from trainables.candidate import Candidate
from trainables.settings import Problem, Rungs

if TYPE_CHECKING:
    from trainables.data.splits import Split
    from trainables.training.loop import EpochResult
    from trainables.trial import CandidateResult

# Keys of a trial's configuration: a list of units (of length one for now), and of each unit.
UNITS: Final = "units"
NUMBER, CANDIDATE, SEED, ROLE = "number", "candidate", "seed", "role"
# Keys of a trial's results. Epochs, results and failures are JSON by unit number, because Tune flattens mappings.
OWNER, EPOCH, RESULT, FAILURE, HALT = "owner", "epoch", "result", "failure", "halt"
_DONE: Final = "done"


class SettingTrial(tune.Trainable):
    """Trains the units in its configuration, one epoch per step, and attacks it in the last step.

    torch is imported in the worker only, which keeps the driver light.
    """

    def setup(  # type: ignore[override]  # tune.with_parameters adds the others
        self,
        config: dict[str, Any],
        problem: Problem,
        rungs: Rungs | None,
        folder: str,
        owner: int,
        threads: int,
        cuda: bool,
        expected: Expected | None = None,
        store: str | None = None,
    ) -> None:
        """Takes the first units, and what all units of this worker share.

        Args:
            config: The first units.
            problem: What all units are trained and attacked with.
            rungs: After which epochs settings of the search are compared with each other.
            folder: The run's folder.
            owner: The epoch of the driver's lease, which checkpoints and results carry.
            threads: Number of torch threads: as many as the trial has processors.
            cuda: Whether the trial has a GPU, or a fraction of one.
            expected: What this node must have as the driver has it, on a cluster.
            store: URL of the runs if they are in an object store; the run's folder is then in this node's copy.
        """
        self._problem, self._rungs, self._owner = problem, rungs, owner
        self._store = None if store is None else Store(store)
        self._folder = Path(folder) if self._store is None else self._store.copy / Path(folder).name
        self._threads, self._cuda, self._expected = threads, cuda, expected
        self._splits: Mapping[str, Split] | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next units, in the same process."""
        [unit] = new_config[UNITS]
        self._number: str = unit[NUMBER]
        self._seed: int = unit[SEED]
        self._role: Role = unit[ROLE]
        self._checkpoints = self._folder / CHECKPOINTS / self._number
        self._results = self._run(Candidate(**unit[CANDIDATE]))
        return True

    def step(self) -> dict[str, Any]:
        """One epoch, or the robust evaluation; a failure is a result with its reason, not an exception."""
        return {OWNER: self._owner, **self._step()}

    def _step(self) -> dict[str, Any]:
        from trainables.training.loop import NonFiniteLoss
        from trainables.trial import CandidateResult

        try:
            result = next(self._results)
            if isinstance(result, CandidateResult):
                return {RESULT: json.dumps({self._number: self._finished(result)}), _DONE: True}
            return {EPOCH: json.dumps({self._number: epoch_metrics(result)})}
        except Halted as halted:
            return {HALT: str(halted), _DONE: True}
        except Exception as error:  # whatever else goes wrong ends this trial only
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                # It is not the unit's fault, and every other one would fail too.
                return {HALT: f"{error.strerror}: {error.filename or self._folder}", _DONE: True}
            with self._written("failures", "txt") as log:
                log.write_text(traceback.format_exc(), encoding="utf-8")
            reason = str(error) if isinstance(error, NonFiniteLoss) else f"{type(error).__name__}: {error}"
            return {FAILURE: json.dumps({self._number: reason}), _DONE: True}

    def _run(self, candidate: Candidate) -> Iterator[EpochResult | CandidateResult]:
        """Does everything that can fail, so that ``step`` can report it."""
        import torch

        from trainables.data.splits import load_splits
        from trainables.trial import run_candidate

        device = torch.device("cuda" if self._cuda else "cpu")
        if self._splits is None:
            # A node that has just joined may get a trial before the driver examines it.
            problems = examine(self._expected).problems if self._expected is not None else ()
            if problems:
                raise Halted(f"node {ray.util.get_node_ip_address()}: {'; '.join(problems)}")
            torch.set_num_threads(self._threads)
            self._splits = load_splits(self._problem.data, device)
            if self._store is not None:
                self._store.pull(self._folder.name, without=[CHECKPOINTS])
        if self._store is not None:
            self._store.pull(self._path(CHECKPOINTS))
        for result in run_candidate(
            self._problem,
            candidate,
            replicates=[self._seed],
            device=device,
            checkpoints=self._checkpoints,
            owner=self._owner,
            rungs=self._rungs if kind_of(self._number) == "search" else None,
            splits=self._splits_of_role(),
        ):
            self._share_checkpoints()
            yield result

    def _splits_of_role(self) -> Mapping[str, Split]:
        """The unit's splits. A confirmation has its own images, which the search has not seen, as ``validation``."""
        splits = self._splits or {}
        if self._role == "confirmation" and "confirmation" in splits:
            return {**splits, "validation": splits["confirmation"]}
        return splits

    def _path(self, kind: str) -> str:
        return f"{self._folder.name}/{kind}/{self._number}"

    @contextmanager
    def _written(self, kind: str, suffix: str) -> Iterator[Path]:
        """A file of this unit to be written, which is then brought to the store."""
        path = self._folder / kind / f"{self._number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        if self._store is not None:
            self._store.push(f"{self._path(kind)}.{suffix}")

    def _share_checkpoints(self) -> None:
        """Brings what has just been saved to the store, unless a later owner has claimed it."""
        from trainables.training import checkpoint

        if self._store is None:
            return
        path = self._path(CHECKPOINTS)
        claimed = self._store.read(f"{path}/{checkpoint.OWNER}")
        if claimed is not None and int(claimed) > self._owner:
            self._store.pull(path)  # also the later owner's claim
        checkpoint.check_claim(self._checkpoints, self._owner)
        self._store.push(path)
        self._store.thin(path, f"*/{checkpoint.PATTERN}", checkpoint.KEPT)

    def _finished(self, result: CandidateResult) -> dict[str, Any]:
        from trainables.training.checkpoint import check_claim

        check_claim(self._checkpoints, self._owner)
        with self._written(OUTCOMES, "npz") as path:
            result.outcomes.save(path)
        (unit,) = unit_results(result, [self._seed], self._role)
        if self._problem.robustness.gate == "audit":
            audit = audit_trial(str(self._checkpoints), "quick", self._threads, self._cuda, self._splits)
            unit = replace(unit, audit=audit)
        return unit.to_json()
