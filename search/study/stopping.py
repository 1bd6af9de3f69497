"""When a search has done enough before its budget is spent."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from analysis.records import TrialRecord
from search.config.schema import StopConfig, SweepConfig
from search.results.standing import Standing

_HOUR: Final = 3600.0


class Effort:
    """What the trials that have ended cost and gained, taken one by one in the order of their ends.

    ``seconds`` are those of training and attack, baselines included. ``volumes`` are the front's hypervolume before the
    search's first trial, then after each one that counts towards the budget; as long as the reference point is not
    known, nothing is.

    Args:
        config: The sweep.
    """

    def __init__(self, config: SweepConfig) -> None:
        self._standing = Standing(config)
        self._held: list[TrialRecord] = []
        self.seconds = 0.0
        self.volumes = [0.0]

    def add(self, record: TrialRecord) -> None:
        """Takes a trial that has ended."""
        if record.origin is None:
            self.seconds += record.train_seconds + record.attack_seconds
        if record.kind == "replicates":  # the search is over, and learns nothing from them
            return
        if record.is_baseline:
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
    """Why no new setting is to be tried.

    Args:
        stop: The criteria; one that is met is enough.
        wall_seconds: How long drivers have been at work, as ``wall_seconds`` counts it.
        device_seconds: Seconds of all trials, times the devices that a trial holds.
        volumes: As in ``Effort``.

    Returns:
        The criterion by its configuration's name, and how it was met; None while none is.
    """
    for name, limit, seconds in (
        ("hours", stop.hours, wall_seconds),
        ("device_hours", stop.device_hours, device_seconds),
    ):
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

    Args:
        starts: When each driver began, ascending; the last is the one at work now. Unix time, as all times here.
        events: When anything was written down, in any order. An earlier driver's life ends with its last one.
        now: The time now.

    Returns:
        Seconds.
    """
    if not starts:
        return 0.0
    times = sorted(events)
    total = max(now - starts[-1], 0.0)
    for start, following in pairwise(starts):
        last = bisect_left(times, following) - 1
        if last >= 0:
            total += max(times[last] - start, 0.0)
    return total
