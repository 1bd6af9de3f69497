"""Runs ``robustfront`` and kills it at one transition of the ledger.

    python -m tests.chaos.driver PHASE FILE COMMAND...

When PHASE is first reached, its name is written to FILE and the process gets SIGKILL. The product is unchanged: its
functions are wrapped here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.storages import RDBStorage

import search.study.ledger
import search.sweep.driver
import search.tracking.client
import search.tracking.mirror
from search.cli.main import run
from search.study.trials import CANDIDATE
from trainables import files as atomic

PID, FILE = "ROBUSTFRONT_CHAOS_PID", "ROBUSTFRONT_CHAOS_FILE"


def die(phase: str) -> None:
    """Kills the driver, from itself or from one of its workers, as a power loss would."""
    Path(os.environ[FILE]).write_text(phase, encoding="utf-8")
    os.kill(int(os.environ[PID]), signal.SIGKILL)


def wrap(
    owner: Any, name: str, phase: str, *, after: bool, when: Callable[[Sequence[Any]], bool] = lambda _: True
) -> None:
    """Dies before or after the first call of ``owner.name`` whose arguments satisfy ``when``."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        chosen = when(arguments)
        if chosen and not after:
            die(phase)
        value = original(*arguments, **options)
        if chosen:
            die(phase)
        return value

    setattr(owner, name, wrapped)


def _suggests_s(arguments: Sequence[Any]) -> bool:
    return bool(arguments[1] == "s")


def _writes_candidate(arguments: Sequence[Any]) -> bool:
    return bool(arguments[2] == CANDIDATE)


def _is_child(arguments: Sequence[Any]) -> bool:
    return search.tracking.client.NUMBER_TAG in arguments[3]


def _ends_child(arguments: Sequence[Any]) -> bool:
    return len(arguments) > 3 and arguments[2] != "RUNNING"


def _is_table(arguments: Sequence[Any]) -> bool:
    return bool(arguments[0].name == "trials.csv")


def _kill_from_worker(_: str) -> None:
    """Replaces the trial class by one that kills the driver, because checkpoints are written in a worker."""
    run_trials = search.sweep.driver._run_trials

    def run_with_chaos(*arguments: Any) -> None:
        import search.worker.trial
        from tests.chaos.trial import ChaosTrial

        search.worker.trial.SettingTrial = ChaosTrial  # type: ignore[misc]
        run_trials(*arguments)

    search.sweep.driver._run_trials = run_with_chaos


_LEDGER, _TRIAL, _MLFLOW = search.study.ledger.Ledger, optuna.trial.Trial, search.tracking.mirror.SweepRuns

PHASES: Final[dict[str, Callable[[str], None]]] = {
    "before ask": lambda phase: wrap(_LEDGER, "ask", phase, after=False),
    "row begun": lambda phase: wrap(_TRIAL, "suggest_float", phase, after=False, when=_suggests_s),
    "between suggestions": lambda phase: wrap(_TRIAL, "suggest_float", phase, after=True, when=_suggests_s),
    "suggested": lambda phase: wrap(RDBStorage, "set_trial_user_attr", phase, after=False, when=_writes_candidate),
    "after ask": lambda phase: wrap(_LEDGER, "ask", phase, after=True),
    "checkpoint written": _kill_from_worker,
    "before report": lambda phase: wrap(_LEDGER, "report", phase, after=False),
    "after report": lambda phase: wrap(_LEDGER, "report", phase, after=True),
    "before finish": lambda phase: wrap(_LEDGER, "finish", phase, after=False),
    "before tell": lambda phase: wrap(_LEDGER, "_tell", phase, after=False),
    "after tell": lambda phase: wrap(_LEDGER, "_tell", phase, after=True),
    "before MLflow child": lambda phase: wrap(_MLFLOW, "_create", phase, after=False, when=_is_child),
    "after MLflow child": lambda phase: wrap(_MLFLOW, "_create", phase, after=True, when=_is_child),
    "before MLflow end": lambda phase: wrap(_MLFLOW, "_set_status", phase, after=False, when=_ends_child),
    "after MLflow end": lambda phase: wrap(_MLFLOW, "_set_status", phase, after=True, when=_ends_child),
    "before results": lambda phase: wrap(search.sweep.driver, "write_results", phase, after=False),
    "between the tables": lambda phase: wrap(atomic, "write", phase, after=False, when=_is_table),
}


def main() -> int:
    """Runs the command until the phase is reached."""
    phase, file, *command = sys.argv[1:]
    os.environ |= {PID: str(os.getpid()), FILE: file}
    PHASES[phase](phase)
    return run(command)


if __name__ == "__main__":
    raise SystemExit(main())
