"""A sweep whose trials meet real faults: ``python -m tests.search.faulty COMMAND...``

Trial 1 runs out of memory, trial 2 meets an exception, trial 3 diverges to NaN, and trial 4's newest checkpoint breaks
as its worker is killed. All others are left alone.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import search.sweep.driver
from search.cli.main import run
from search.worker.trial import SettingTrial
from trainables.candidate import Candidate
from trainables.models.cnn8 import CNN8

OUT_OF_MEMORY, EXCEPTION, NAN, BROKEN_CHECKPOINT = "1", "2", "3", "4"
SPARE_BYTES = 64_000_000


class FaultyTrial(SettingTrial):
    """The sweep's own trial under faults that are real, each provoked from outside of its code."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        number = new_config["units"][0]["number"]
        self._sound = getattr(self, "_sound", self._problem)
        self._problem = self._sound
        if number == OUT_OF_MEMORY:
            # Activations of hundreds of megabytes, and a process that may not have them.
            self._problem = replace(
                self._sound, model=CNN8(), train=replace(self._sound.train, batch_size=self._sound.data.train_size)
            )
        elif number == EXCEPTION:
            outcomes = Path(self._folder) / "outcomes" / f"{number}.npz"
            outcomes.mkdir(parents=True, exist_ok=True)  # where a file is to be written
        elif number == NAN:
            self._problem = replace(self._sound, train=replace(self._sound.train, learning_rate=1e30))
        return super().reset_config(new_config)

    def _run(self, candidate: Candidate) -> Iterator[Any]:
        results = super()._run(candidate)
        if self._number != OUT_OF_MEMORY:
            yield from self._breaking(results)
            return
        import torch  # noqa: F401  (what it needs itself is no part of the fault)

        import trainables.trial  # noqa: F401

        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + SPARE_BYTES, before[1]))
        try:
            yield from results
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    def _breaking(self, results: Iterator[Any]) -> Iterator[Any]:
        for epoch, result in enumerate(results, 1):
            checkpoints = self._folder / "checkpoints" / self._number
            newest = checkpoints / "epoch-00002.pt"
            if self._number == BROKEN_CHECKPOINT and epoch == 2 and not (checkpoints / "broken").exists():
                (checkpoints / "broken").touch()
                os.truncate(newest, newest.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            yield result


def main() -> int:
    """Runs the command with faulty trials."""
    run_trials = search.sweep.driver._run_trials

    def run_faulty(*arguments: Any) -> None:
        import search.worker.trial

        search.worker.trial.SettingTrial = FaultyTrial  # type: ignore[misc]
        run_trials(*arguments)

    search.sweep.driver._run_trials = run_faulty
    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
