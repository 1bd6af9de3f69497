"""The audit of a sweep's contenders at its end: until the front rests on verified numbers alone, or the time is over.

An audit lowers numbers, and what was behind them may come to the front: that is audited too. The audits run in Ray's
processes, on nodes with the processors and GPUs that ``audit`` asks for; what they say goes into the ledger, so that
nothing is audited twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from analysis.pareto import complete_search_trials, pareto_front
from analysis.records import CLAIMED, VERIFIED, WORST_CASE, TrialRecord
from analysis.statistics import rank_correlation
from search.config.schema import AuditConfig
from search.errors import cause_on_worker
from search.results.tables import settings_of
from search.runs.folder import Run
from search.study import Ledger
from search.sweep.progress import Progress
from trainables.settings import AUDITED_IMAGES

if TYPE_CHECKING:
    import ray

FEWEST_RANDOM: Final = 10
LOW_CORRELATION: Final = 0.8
_LOOK_SECONDS: Final = 0.5


def due(run: Run, ledger: Ledger, settings: AuditConfig) -> list[TrialRecord]:
    """The trials whose robust accuracy is to be verified and is not yet.

    Args:
        run: The run.
        ledger: Its ledger.
        settings: What an audit must have done at least, and of how many random settings.

    Returns:
        The front's, as far as it is known, the baselines, and the random ones.
    """
    records, audits = ledger.records(), ledger.audits()
    own = {record.number: record for record in records}
    tried = settings_of(run, records)
    wanted = pareto_front(tried, run.config.objectives)
    wanted += [record for record in tried if record.is_baseline and record.state == "complete"]
    wanted += drawn(run, tried, settings.random)
    parts = dict.fromkeys(number for record in wanted for number in (record.number, *record.extensions))
    return [
        own[number]
        for number in parts
        if number not in audits or AUDITED_IMAGES[audits[number]["profile"]] < AUDITED_IMAGES[settings.profile]
    ]


def drawn(run: Run, records: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """So many of the search's complete settings, at random: for one seed of the search always the same."""
    complete = complete_search_trials(records)
    return random.Random(run.config.search.seed).sample(complete, min(count, len(complete)))


def order_kept(run: Run, ledger: Ledger, count: int) -> str | None:
    """Whether the sweep's own attacks put the settings into the order of what holds, in a line for people.

    Args:
        run: The run.
        ledger: Its ledger.
        count: How many random settings were to be audited.

    Returns:
        The rank correlation of claimed and verified robust accuracy over the contenders and the random settings, with
        its interval; None where there are fewer than ten random ones, for the contenders alone are a truncated range.
    """
    tried = settings_of(run, ledger.records())
    at_random = [record for record in drawn(run, tried, count) if record.verdict is not None]
    if len(at_random) < FEWEST_RANDOM:
        return None
    audited = [record for record in complete_search_trials(tried) if record.verdict is not None]
    claimed = [record.value(CLAIMED) for record in audited]
    found = rank_correlation(claimed, [record.value(WORST_CASE) for record in audited])
    low, high = found.interval
    line = (
        f"audit: claimed and verified robust accuracy of {found.n} settings, {len(at_random)} of them drawn at random, "
        f"have a rank correlation of {found.rho:.2f} (95 %: {low:.2f} to {high:.2f})"
    )
    if found.rho >= LOW_CORRELATION:
        return line
    return (
        f"{line}. That is low: the search followed another order than that of what holds; strengthen robustness.attacks"
    )


def audit_front(
    run: Run,
    ledger: Ledger,
    settings: AuditConfig,
    progress: Progress,
    turn: Sequence[Callable[[], None]],
    audited: Callable[[TrialRecord], None],
) -> int:
    """Audits what is due, as many at a time as the cluster has room for.

    Args:
        run: The run.
        ledger: Its ledger, adopted.
        settings: The profile and the time.
        progress: Told what goes on.
        turn: Called twice a second, in order; what they raise ends the audit, and what is audited is kept.
        audited: Told of every trial that has been audited.

    Returns:
        How many trials are due still.
    """
    import ray

    from search.evaluation.audit import audit_trial

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
            audited(record)
            progress.say(_line(record))
    for reference in running:
        ray.cancel(reference, force=True)
    return len(due(run, ledger, settings))


def _line(record: TrialRecord) -> str:
    claimed, holds = record.value(WORST_CASE), record.accuracies[VERIFIED]
    kind = "baseline" if record.is_baseline else "trial"
    return f"audit: {kind} {record.number} claims {100 * claimed:.1f} %, {100 * holds:.1f} % holds: {record.verdict}"
