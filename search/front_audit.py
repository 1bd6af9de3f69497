"""The audit of a sweep's contenders at its end: until the front rests on verified numbers alone, or the time is over.

An audit lowers numbers, and what was behind them may come to the front: that is audited too. The audits run in Ray's
processes, each where and as a trial would; what they say goes into the ledger, so that nothing is audited twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analysis.pareto import pareto_front
from analysis.records import VERIFIED, WORST_CASE, TrialRecord
from search.config import AuditConfig
from search.ledger import Ledger
from search.progress import Progress
from search.replicates import pooled, verified
from search.runs import Run
from trainables.settings import AUDITED_IMAGES

if TYPE_CHECKING:
    import ray

_LOOK_SECONDS = 0.5


def due(run: Run, ledger: Ledger, profile: str) -> list[TrialRecord]:
    """The trials whose robust accuracy nobody has verified yet: the front's, as far as it is known, and the baselines.

    Args:
        run: The run.
        ledger: Its ledger.
        profile: What an audit must have done at least.
    """
    records, bounds, profiles = ledger.records(), run.config.bounds, list(AUDITED_IMAGES)
    own = {record.number: record for record in records}
    audits = ledger.audits()
    settings = verified(pooled(records, bounds), bounds)
    contenders = pareto_front(settings, run.config.objectives)
    contenders += [record for record in settings if record.is_baseline and record.state == "complete"]
    return [
        own[number]
        for record in contenders
        for number in (record.number, *record.extensions)
        if number not in audits or profiles.index(audits[number]["profile"]) < profiles.index(profile)
    ]


def audit_front(
    run: Run,
    ledger: Ledger,
    settings: AuditConfig,
    progress: Progress,
    turn: Callable[[], None],
    audited: Callable[[TrialRecord], None],
) -> int:
    """Audits what is due, as many at a time as the cluster has room for.

    Args:
        run: The run.
        ledger: Its ledger, adopted.
        settings: The profile and the time.
        progress: Told what goes on.
        turn: Called twice a second; what it raises ends the audit, and what is audited is kept.
        audited: Told of every trial that has been audited.

    Returns:
        How many trials are due still.
    """
    import ray

    from search.auditing import audit_trial

    resources = run.config.resources
    remote = ray.remote(num_cpus=resources.cpus_per_trial, num_gpus=resources.gpus_per_trial)(audit_trial)
    deadline = time.monotonic() + 60 * settings.minutes
    running: dict[ray.ObjectRef[Any], str] = {}
    tried: set[str] = set()
    while time.monotonic() < deadline:
        for record in due(run, ledger, settings.profile):
            if record.number not in tried:
                tried.add(record.number)
                checkpoint = str((run.folder / (record.checkpoint or "")).resolve())
                running[remote.remote(checkpoint, settings.profile, resources.cpus_per_trial)] = record.number
        if not running:
            break
        progress.stage(f"auditing the contenders: {len(tried) - len(running)} of {len(tried)} done")
        ready: list[ray.ObjectRef[Any]] = []
        while not ready and time.monotonic() < deadline:
            ready, _ = ray.wait(list(running), timeout=_LOOK_SECONDS)
            turn()
        for reference in ready:
            number = running.pop(reference)
            try:
                ledger.audited(number, ray.get(reference))
            except ray.exceptions.RayError as error:
                reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                progress.say(f"audit: trial {number} could not be audited ({reason})")
                continue
            record = ledger.record(number)
            audited(record)
            progress.say(_line(record))
    for reference in running:
        ray.cancel(reference, force=True)
    return len(due(run, ledger, settings.profile))


def _line(record: TrialRecord) -> str:
    claimed, holds = record.value(WORST_CASE), record.accuracies[VERIFIED]
    kind = "baseline" if record.is_baseline else "trial"
    return f"audit: {kind} {record.number} claims {100 * claimed:.1f} %, {100 * holds:.1f} % holds: {record.verdict}"
