"""When a search has done enough before its budget is spent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from optuna.study import Study

from analysis.records import TrialRecord
from search.config import StopConfig, SweepConfig
from search.results.standing import Standing, reference_of
from search.study.trials import Trials, epochs_of, record_of

_HOUR: Final = 3600.0
# Of the search's study: when each driver began, and why the search asks for no more settings.
_STARTS, _STOPPED = "starts", "stopped"


class SearchEnd:
    """Whether a criterion of ``search.stop`` has ended the search. Once one has, it stays so until the criteria change.

    ``reason`` is the criterion and how it was met; None while the search continues. The search's study keeps it.
    """

    def __init__(self, config: SweepConfig, study: Study) -> None:
        self._config, self._study = config, study
        self._effort, self._counted = Effort(config), Counter[str]()
        self._began, self._worked_before = time.time(), 0.0
        self.reason = self._read()

    def begin(self, studies: Mapping[str, Trials]) -> None:
        """Records that a driver begins, and sums up how long earlier ones have been at work."""
        self.reason = self._read()
        self._began = time.time()
        starts = [*self._study.user_attrs.get(_STARTS, []), self._began]
        self._worked_before = wall_seconds(starts, _times(studies), self._began)
        self._study.set_user_attr(_STARTS, starts)

    def reached(self, studies: Mapping[str, Trials]) -> bool:
        """Whether the search has ended, by one of the criteria as they are met now."""
        stop = self._config.search.stop
        if self.reason is None and stop != StopConfig():
            worked = self._worked_before + time.time() - self._began
            device_seconds = self._sum_up(studies) * self._config.resources.devices_per_trial
            reason = reason_to_stop(stop, worked, device_seconds, self._effort.volumes)
            if reason is not None:
                self._study.set_user_attr(_STOPPED, {"reason": reason, "criteria": stop.model_dump()})
                self.reason = reason
        return self.reason is not None

    def _read(self) -> str | None:
        stopped = self._study.user_attrs.get(_STOPPED)
        if stopped is None or stopped["criteria"] != self._config.search.stop.model_dump():
            return None
        return str(stopped["reason"])

    def _sum_up(self, studies: Mapping[str, Trials]) -> float:
        """Takes the trials that have ended since; returns the seconds of all, with the running ones' epochs."""
        seconds = 0.0
        for prefix, trials in studies.items():
            for trial in trials.ended[self._counted[prefix] :]:
                self._effort.add(record_of(f"{prefix}{trial.number}", trial, None, self._config))
            self._counted[prefix] = len(trials.ended)
            seconds += sum(epoch["seconds"] for trial in trials.unfinished for epoch in epochs_of(trial))
        return self._effort.seconds + seconds


def _times(studies: Mapping[str, Trials]) -> Iterable[float]:
    for trials in studies.values():
        for trial in trials:
            yield from (epoch["time"] for epoch in epochs_of(trial))
            yield from (when.timestamp() for when in (trial.datetime_start, trial.datetime_complete) if when)


class Effort:
    """What the trials that have ended cost and gained, taken one by one in the order of their ends.

    ``seconds`` are those of training and attack, baselines included. ``volumes`` are the front's hypervolume before the
    search's first trial, and after each finished setting. Nothing is added until the reference point is known.
    """

    def __init__(self, config: SweepConfig) -> None:
        self._baselines: list[TrialRecord] = []
        self._standing = Standing(config, lambda: reference_of(self._baselines, config))
        self._held: list[TrialRecord] = []
        self.seconds = 0.0
        self.volumes = [0.0]

    def add(self, record: TrialRecord) -> None:
        """Takes a trial that has ended."""
        if record.origin is None:
            self.seconds += record.train_seconds + record.attack_seconds
        if record.kind == "replicates":  # only first units are compared
            return
        if record.is_baseline:
            self._baselines.append(record)
            self._standing.add(record)
        elif record.state in ("complete", "pruned"):
            self._held.append(record)
        while self._held and self._standing.reference:
            counted = self._held.pop(0)
            self._standing.add(counted)
            if counted.origin is None:
                self.volumes.append(self._standing.hypervolume)
            else:
                self.volumes[-1] = self._standing.hypervolume


def reason_to_stop(
    stop: StopConfig, wall_seconds: float, device_seconds: float, volumes: Sequence[float]
) -> str | None:
    """Which criterion is met, by its name in the configuration, and how; None if none is.

    ``device_seconds`` are those of all trials, times the devices that a trial holds; ``volumes`` are those of `Effort`.
    """
    for name, seconds in (("hours", wall_seconds), ("device_hours", device_seconds)):
        limit = getattr(stop, name)
        if limit is not None and seconds >= limit * _HOUR:
            return f"search.stop.{name}: {seconds / _HOUR:.3g} of {limit:g} h spent"
    plateau = stop.plateau
    if plateau is not None and len(volumes) > plateau.trials:
        before, now = volumes[-1 - plateau.trials], volumes[-1]
        if now <= before * (1 + plateau.relative):
            return (
                f"search.stop.plateau: hypervolume {before:.4f} has become {now:.4f} over {plateau.trials} settings, "
                f"no more than {plateau.relative:g} of it"
            )
    return None


def wall_seconds(starts: Sequence[float], events: Iterable[float], now: float) -> float:
    """How long drivers have been at work: the time between one's death and the next one's start does not count.

    An earlier driver's life ends with the last event (when anything was written down) before the next one's start. The
    last of ``starts``, which ascend, is that of the driver at work now.
    """
    times = list(events)
    total = max(now - starts[-1], 0.0) if starts else 0.0
    for start, following in pairwise(starts):
        last = max((time for time in times if time < following), default=start)
        total += max(last - start, 0.0)
    return total
