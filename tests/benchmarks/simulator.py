"""A sweep on a virtual clock: the ledger, sampler and halving of a real one, with trials that take no time.

The outcome of a trial is known in advance: from a finished run (``Replay``), or from a formula
(``tests.benchmarks.problems``). A search of hundreds of trials then takes seconds, so a change to the search can be
judged over many seeds:

    run = Run.open("quickstart", Path("runs"))
    config = load(run.folder / "sweep.yaml", ["search.sampler=nsga2", "search.trials=300"])
    ledger, simulation = search_again(run, config)
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import optuna
from optuna.storages import InMemoryStorage

from analysis.hypervolume import hypervolume
from analysis.records import TrialRecord, kind_of
from search.config import SweepConfig
from search.errors import UserError
from search.results.metrics import Score, UnitResult, rung_values
from search.runs.folder import Run
from search.study import EarlierTrial, Halving, Ledger, Unit, make_halving, open_ledger
from search.study.trials import ORIGIN, extension_of
from search.study.warm_start import new_row
from trainables.candidate import Candidate
from trainables.metrics import AUDITED, Direction


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The training of one setting, epoch by epoch.

    Args:
        seconds: Duration of each epoch, above 0.
        estimates: The objectives as estimated after each epoch; empty after an epoch that is not a rung.
        objectives: Every number of the final evaluation that can be an objective or a constraint; None if the training
            is known only up to some epoch.
        evaluation_seconds: Duration of the final evaluation, at least 0.
    """

    seconds: Sequence[float]
    estimates: Sequence[Mapping[str, float]]
    objectives: Mapping[str, float] | None
    evaluation_seconds: float = 0.0

    def __post_init__(self) -> None:
        assert len(self.seconds) == len(self.estimates) > 0


class Surrogate(Protocol):
    """Takes the place of training."""

    def curve(self, unit: Unit) -> Curve:
        """The training of the unit's setting; always the same for the same unit."""


# A setting, the index of its seed, and its curve.
KnownCurve = tuple[Candidate, int, Curve]


class Replay:
    """A finished run as a surrogate: each unit gets its own curve from the run, or that of the nearest setting.

    Args:
        known: Settings of the search, each with its seed's index and its curve. Of two equal ones the first counts.
        baselines: The same for the baselines. They never replace another setting, because they have no estimates.
    """

    def __init__(self, known: Sequence[KnownCurve], baselines: Sequence[KnownCurve] = ()) -> None:
        self._known, self._baselines = list(known), list(baselines)

    @classmethod
    def of(cls, ledger: Ledger) -> Replay:
        """The run of a ledger, at its own pace: the time that its workers waited is part of the epochs' seconds.

        A trial's first epoch starts when its slot became free, not when its setting was suggested. With the run's own
        number of trials at a time, every event has its original time, so the events keep their order.

        Args:
            ledger: The run's ledger; failed trials and those of earlier runs are left out.
        """
        trials = _ended(ledger)
        first, ends = min((trial.started for trial in trials), default=0.0), sorted(trial.ended for trial in trials)
        known: list[KnownCurve] = []
        baselines: list[KnownCurve] = []
        for trial in trials:
            if trial.record.state == "failed" or not trial.history:
                continue
            before = bisect_right(ends, trial.started)
            times = [ends[before - 1] if before else first, *(epoch["time"] for epoch in trial.history)]
            curve = Curve(
                seconds=np.diff(times).tolist(),
                estimates=[rung_values(epoch) or {} for epoch in trial.history],
                objectives=_measured(trial.record),
                evaluation_seconds=trial.ended - times[-1],
            )
            setting = Candidate(trial.record.loss, dict(trial.record.parameters))  # type: ignore[arg-type]
            of_baseline = kind_of(trial.record.extends or trial.record.number) == "baseline"
            (baselines if of_baseline else known).append((setting, trial.record.seed_index, curve))
        return cls(known, baselines)

    def curve(self, unit: Unit) -> Curve:
        """The curve of this setting and seed; otherwise that of the nearest fully trained setting, with any seed.

        The distance is Euclidean in the parameters, each divided by its range over the run.

        Raises:
            ValueError: The run has no fully trained setting of this loss.
        """
        kind = kind_of(unit.number)
        known = [*(self._baselines if kind != "search" else []), *(self._known if kind != "baseline" else [])]
        for seed in (unit.seed, None):
            for setting, its_seed, curve in known:
                if setting == unit.candidate and seed in (its_seed, None):
                    return curve
        complete = [
            (setting, curve)
            for setting, _, curve in known
            if setting.loss == unit.candidate.loss and curve.objectives is not None
        ]
        if not complete:
            raise ValueError(
                f"the run must hold a setting of {unit.candidate.loss} that was trained to its end, got none; "
                "replay a run with more trials"
            )
        names = list(unit.candidate.parameters)
        points = np.array([[setting.parameters[name] for name in names] for setting, _ in complete])
        spread = np.ptp(points, axis=0)
        offsets = points - [unit.candidate.parameters[name] for name in names]
        distances = np.linalg.norm(offsets / np.where(spread > 0, spread, 1.0), axis=1)
        return complete[int(np.argmin(distances))][1]


@dataclass(frozen=True)
class Decision:
    """A trial at a rung.

    Args:
        time: Virtual seconds since the start.
        number: The trial.
        epoch: The rung.
        goes_on: Halving's decision.
    """

    time: float
    number: str
    epoch: int
    goes_on: bool


@dataclass(frozen=True)
class End:
    """A trial's end.

    Args:
        time: Virtual seconds since the start.
        number: The trial.
        epochs: Epochs that all trials together had spent by then.
        objectives: The curve's; None for a stopped trial.
    """

    time: float
    number: str
    epochs: int
    objectives: Mapping[str, float] | None


@dataclass(frozen=True)
class Simulation:
    """What happened, in order.

    Args:
        decisions: Every trial at every rung.
        ends: Every trial's end.
        epochs: Epochs spent, including those of unfinished trials.
    """

    decisions: tuple[Decision, ...]
    ends: tuple[End, ...]
    epochs: int

    def hypervolume_trace(
        self, objectives: Mapping[str, Direction], reference: Mapping[str, float]
    ) -> list[tuple[int, float]]:
        """How the front's hypervolume grew with the epochs spent.

        Args:
            objectives: Each objective's direction.
            reference: The reference point.

        Returns:
            (epochs, hypervolume) at the end of each fully trained trial of the search. As in a real sweep, estimates
            of stopped trials and baselines do not count.
        """
        directions, corner = list(objectives.values()), [reference[name] for name in objectives]
        points: list[list[float]] = []
        trace = []
        for end in self.ends:
            if end.objectives is not None and kind_of(end.number) == "search":
                points.append([end.objectives[name] for name in objectives])
                trace.append((end.epochs, hypervolume(points, directions, corner)))
        return trace


def simulate(
    ledger: Ledger,
    surrogate: Surrogate,
    *,
    concurrency: int,
    halving: Halving | None = None,
    epochs: int | None = None,
) -> Simulation:
    """Runs a sweep on a virtual clock, until the ledger has nothing left to start.

    Trials that end an epoch at the same virtual time do so in the order in which they started.

    Args:
        ledger: Suggests settings and records their results, as in a real sweep. It uses real time, so
            ``search.stop.hours`` has no effect here.
        surrogate: Takes the place of training.
        concurrency: Trials at a time, at least 1.
        halving: Stops trials, but never baselines. If None, no trial is stopped.
        epochs: Total number of epochs; trials that would need more stay unfinished. If None, there is no limit.

    Returns:
        What happened.

    Raises:
        ValueError: A trial continues past the end of its curve.
    """
    assert concurrency >= 1
    clock, spent, starts = 0.0, 0, itertools.count()
    decisions: list[Decision] = []
    ends: list[End] = []
    # (time, start order, unit, curve, epoch): when the epoch ends; the one past the curve is the final evaluation.
    events: list[tuple[float, int, Unit, Curve, int]] = []

    while True:
        while spent != epochs and len(events) < concurrency and (unit := ledger.ask()) is not None:
            curve = surrogate.curve(unit)
            heapq.heappush(events, (clock + curve.seconds[0], next(starts), unit, curve, 1))
        if not events:
            break
        clock, order, unit, curve, epoch = heapq.heappop(events)
        number, last = unit.number, len(curve.seconds)
        if epoch > last:
            assert curve.objectives is not None
            objectives = dict(curve.objectives)
            numbers = {**objectives, "attack_seconds": curve.evaluation_seconds}
            scores = {name: Score(value) for name, value in numbers.items()}
            result = UnitResult(unit.seed, unit.seed, unit.role, scores).to_json()
            ledger.finish(number, result)
            ends.append(End(clock, number, spent, curve.objectives))
            continue
        if spent == epochs:
            continue
        spent += 1
        seconds, estimates = curve.seconds[epoch - 1], curve.estimates[epoch - 1]
        ledger.report(number, {"epoch": epoch, "seconds": seconds, **estimates})
        if halving is not None and epoch in halving.rungs and kind_of(number) == "search":
            goes_on = halving.report(number, epoch, estimates)
            decisions.append(Decision(clock, number, epoch, goes_on))
            if not goes_on:
                ledger.prune(number)
                ends.append(End(clock, number, spent, None))
                continue
        if epoch == last and curve.objectives is None:
            raise ValueError(
                f"the curve of {unit.candidate} must reach the end of training, got {last} epochs, because the "
                "replayed run stopped it; replay a run that stopped no trials"
            )
        step = curve.seconds[epoch] if epoch < last else curve.evaluation_seconds
        heapq.heappush(events, (clock + step, order, unit, curve, epoch + 1))
    return Simulation(tuple(decisions), tuple(ends), spent)


def search_again(run: Run, config: SweepConfig) -> tuple[Ledger, Simulation]:
    """Repeats a finished run's search on a virtual clock, with the same or another sampler, seed, budget or halving.

    With the run's own configuration everything happens as before: the same suggestions, rungs, decisions and results,
    in the same order, however many trials ran at a time. That holds up to the first failed trial or interruption of
    the driver. A different search may suggest settings that the run does not have; it gets the nearest one's curve.

    Args:
        run: A finished run.
        config: The new search. If it does not set the number of trials at a time, the run's own is used.

    Returns:
        The new search's ledger, which is only in memory, and what happened.

    Raises:
        UserError: ``config`` needs what the run did not measure.
        ValueError: As ``simulate`` and ``Replay.curve``.
    """
    _check_known(run, config)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with closing(open_ledger(run)) as before:
        ledger = Ledger(InMemoryStorage(), config, "new")
        if config.search.warm_start:
            ledger.take_over(_earlier_trials(before, config))
        replay, concurrency = Replay.of(before), config.search.concurrency or _concurrency(before)
    return ledger, simulate(ledger, replay, concurrency=concurrency, halving=make_halving(config))


def _check_known(run: Run, config: SweepConfig) -> None:
    for section in ("data", "model", "loss", "train", "robustness"):
        if getattr(config, section) != getattr(run.config, section):
            raise UserError(f"{section} must be as in run {run.name}, got another; change the search alone")
    if config.search.warm_start not in ([], run.config.search.warm_start):
        raise UserError(
            f"search.warm_start must be empty or as in run {run.name}, got {config.search.warm_start}; leave it out"
        )
    rungs, known = config.rungs, run.config.rungs
    if rungs is not None and (
        known is None or rungs.robustness != known.robustness or not set(rungs.epochs) <= set(known.epochs)
    ):
        raise UserError(
            f"search.halving must compare where run {run.name} did and as it did, got epochs "
            f"{', '.join(map(str, rungs.epochs))}; replay a run with the same steps and images and "
            "reduction_factor: 1.0001, which estimates after every epoch and stops no setting"
        )


def _measured(record: TrialRecord) -> dict[str, float] | None:
    """Every number of a unit that an objective or a constraint can name; None before it was evaluated."""
    values = {name: value for each in record.replicates for name, value in each.items() if name != AUDITED}
    return values or None


def _earlier_trials(ledger: Ledger, config: SweepConfig) -> list[EarlierTrial]:
    """The trials that a run took over from earlier runs, for a sweep of this configuration."""
    taken = [(number, trial) for number, trial in ledger.trials() if ORIGIN in trial.user_attrs]
    seeds = [(extension_of(trial), trial) for _, trial in taken]
    return [
        EarlierTrial(
            new_row(trial, config),
            tuple(new_row(row, config) for extension, row in seeds if extension and extension.number == number),
        )
        for number, trial in taken
        if kind_of(number) == "search"
    ]


@dataclass(frozen=True)
class _Ended:
    """A trial of a run, complete, stopped or failed, and its Unix times; ``ended`` is when its slot became free."""

    record: TrialRecord
    history: list[dict[str, float]]
    started: float
    ended: float


def _ended(ledger: Ledger) -> list[_Ended]:
    """A run's own units that have ended, baselines first; those that confirm contenders are left out."""
    trials = []
    for record in ledger.records():
        if record.origin is not None or record.started is None or record.finished is None:
            continue
        if record.role == "confirmation":
            continue
        history = ledger.history(record.number)
        # The decision to stop comes with the epoch, a moment before it is written down.
        ended = history[-1]["time"] if record.state == "pruned" else record.finished
        trials.append(_Ended(record, history, record.started, ended))
    return trials


def _concurrency(ledger: Ledger) -> int:
    """How many trials a run had begun before the first one ended."""
    trials = _ended(ledger)
    first_end = min((trial.ended for trial in trials), default=0.0)
    return max(1, sum(trial.started <= first_end for trial in trials))
