"""When a search has done enough before its budget is spent: pure functions of what its trials cost and gave."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from search.config import StopConfig

_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Effort:
    """What a sweep has cost and gained so far.

    Args:
        wall_seconds: Time in which a driver was at work on it, as ``wall_seconds`` counts it.
        device_seconds: Seconds of every trial, baselines included, times the devices that a trial holds.
        volumes: The front's hypervolume before the search's own first trial, then after each finished one.
    """

    wall_seconds: float
    device_seconds: float
    volumes: Sequence[float]


def reason_to_stop(stop: StopConfig, effort: Effort) -> str | None:
    """Why no new setting is to be tried.

    Args:
        stop: The criteria; one that is met is enough.
        effort: Where the sweep stands.

    Returns:
        The criterion by its configuration's name, and how it was met; None while none is.
    """
    for name, limit, seconds in (
        ("hours", stop.hours, effort.wall_seconds),
        ("device_hours", stop.device_hours, effort.device_seconds),
    ):
        if limit is not None and seconds >= limit * _HOUR:
            return f"search.stop.{name}: {seconds / _HOUR:.3g} of {limit:g} h spent"
    plateau = stop.plateau
    if plateau is not None and len(effort.volumes) > plateau.trials:
        before, now = effort.volumes[-1 - plateau.trials], effort.volumes[-1]
        if now <= before * (1 + plateau.relative):
            return (
                f"search.stop.plateau: hypervolume {now:.4f} after {before:.4f} "
                f"{plateau.trials} settings ago, a gain of at most {plateau.relative:g} of it"
            )
    return None


def wall_seconds(starts: Sequence[float], events: Iterable[float], now: float) -> float:
    """How long drivers have been at work: pauses between one's death and the next one's start do not count.

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
