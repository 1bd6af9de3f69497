"""Audits the contenders at the end of a sweep, until the front rests on audited numbers alone or time is up.

An audit lowers numbers, so other settings may move onto the front; they are audited too. Audits run in Ray workers, on
nodes with the processors and GPUs that ``audit`` asks for. Their results go into the ledger, so nothing is audited
twice.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from analysis.pareto import complete_search_trials, pareto_front
from analysis.records import TrialRecord
from analysis.statistics import rank_correlation
from search.config import AuditConfig
from search.errors import cause_on_worker
from search.results.final import settings_of
from search.runs.folder import Run
from search.study import Ledger
from search.sweep.observers import Observer, Progress
from trainables.metrics import AUDITED, CLAIMED, ROBUST
from trainables.settings import AUDITED_IMAGES

if TYPE_CHECKING:
    import ray

FEWEST_RANDOM: Final = 10
LOW_CORRELATION: Final = 0.8
_LOOK_SECONDS: Final = 0.5
_CONFIRMING_AUDITED: Final = 2  # networks of a setting, unless ``audit.seeds`` says otherwise


def due(run: Run, ledger: Ledger, settings: AuditConfig) -> list[TrialRecord]:
    """The units whose robust accuracy still has to be audited, or audited by a more thorough profile.

    They are those of the front so far, of the baselines and of the settings drawn at random. The highest claims come
    first: if they do not hold, other settings join the front and are audited too. In a sweep that confirms, some of the
    confirming units are audited instead, and no audit changes the choice.
    """
    records, audits = ledger.records(), ledger.audits()
    units = {record.number: record for record in records}
    tried = settings_of(records, run.config.bounds)
    chosen = []
    if not run.config.search.confirmation_seeds:
        chosen = sorted(pareto_front(tried, run.config.objectives), key=lambda record: -record.value(ROBUST))
        chosen += [record for record in tried if record.is_baseline and record.state == "complete"]
    chosen += _drawn(run, tried, settings.random)
    seeds = slice(settings.seeds)
    numbers = dict.fromkeys(
        [
            *_confirming(records, settings.seeds or _CONFIRMING_AUDITED),
            *(number for record in chosen for number in (record.number, *record.extensions)[seeds]),
        ]
    )
    return [
        units[number]
        for number in numbers
        if number not in audits or AUDITED_IMAGES[audits[number]["profile"]] < AUDITED_IMAGES[settings.profile]
    ]


def _confirming(records: Sequence[TrialRecord], most: int) -> list[str]:
    """The first ``most`` confirming units of each setting: the first ones of all settings, then the second ones."""
    ranks = Counter[str]()
    ranked = []
    for record in records:
        if record.role == "confirmation" and record.state == "complete" and record.extends is not None:
            ranked.append((ranks[record.extends], -record.value(ROBUST), record.number))
            ranks[record.extends] += 1
    return [number for rank, _, number in sorted(ranked) if rank < most]


def _drawn(run: Run, records: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """Draws ``count`` complete settings at random; the same ones for the same search seed."""
    complete = complete_search_trials(records)
    return random.Random(run.config.search.seed).sample(complete, min(count, len(complete)))


def order_kept(run: Run, ledger: Ledger, count: int) -> str | None:
    """Says in one line whether the sweep's own attacks rank settings as the audits do.

    The line gives the rank correlation of claimed and audited robust accuracy over the contenders and the ``count``
    random settings. There is none with fewer than ten of these, because the contenders alone are a truncated range.
    """
    tried = settings_of(ledger.records(), run.config.bounds)
    at_random = sum(record.verdict is not None for record in _drawn(run, tried, count))
    if at_random < FEWEST_RANDOM:
        return None
    audited = [record for record in complete_search_trials(tried) if record.verdict is not None]
    correlation = rank_correlation(
        [record.value(CLAIMED) for record in audited], [record.value(ROBUST) for record in audited]
    )
    low, high = correlation.interval
    line = (
        f"audit: claimed and audited robust accuracy of {correlation.n} settings, {at_random} of them drawn at random, "
        f"have a rank correlation of {correlation.rho:.2f} (95 %: {low:.2f} to {high:.2f})"
    )
    if correlation.rho >= LOW_CORRELATION:
        return line
    return f"{line}. That is low: the search ranked settings differently from the audits; strengthen robustness.attacks"


def audit_front(
    run: Run,
    ledger: Ledger,
    settings: AuditConfig,
    progress: Progress,
    turn: Sequence[Callable[[], None]],
    observers: Sequence[Observer],
) -> int:
    """Audits what is due, as many at a time as the cluster can run, and returns how many units are still due.

    The functions of ``turn`` are called twice a second, in order. An exception ends the audits; finished ones are kept.
    """
    import ray

    from search.worker.tasks import audit_trial

    cpus, gpus = run.config.audit_resources
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(audit_trial)
    deadline = time.monotonic() + 60 * settings.minutes
    running: dict[ray.ObjectRef[Any], str] = {}
    tried: set[str] = set()
    while time.monotonic() < deadline:
        for record in due(run, ledger, settings):
            if record.number not in tried:
                tried.add(record.number)
                checkpoint = run.trial_files(record.checkpoint or "")
                running[remote.remote(checkpoint, settings.profile, cpus, gpus > 0)] = record.number
        if not running:
            break
        progress.stage(f"auditing the contenders: {len(tried) - len(running)} of {len(tried)} done")
        ready: list[ray.ObjectRef[Any]] = []
        while not ready and time.monotonic() < deadline:
            ready, _ = ray.wait(list(running), timeout=_LOOK_SECONDS)
            for function in turn:
                function()
        for reference in ready:
            number = running.pop(reference)
            try:
                ledger.audited(number, ray.get(reference))
            except ray.exceptions.RayError as error:
                progress.say(f"audit: trial {number} could not be audited ({cause_on_worker(error)})")
                continue
            record = ledger.record(number)
            for observer in observers:
                observer.audited(record)
            progress.say(_line(record))
    for reference in running:
        ray.cancel(reference, force=True)
    return len(due(run, ledger, settings))


def _line(record: TrialRecord) -> str:
    claimed, holds = record.value(ROBUST), record.accuracies[AUDITED]
    kind = "baseline" if record.is_baseline else "trial"
    return f"audit: {kind} {record.number} claims {100 * claimed:.1f} %, {100 * holds:.1f} % holds: {record.verdict}"
