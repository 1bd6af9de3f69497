"""A sweep from its configuration to its pictures: start, run, stop, resume."""

from __future__ import annotations

import errno
import math
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from rich.console import Console

from analysis.hypervolume import reference_rule
from analysis.records import TrialRecord
from search.cluster.nodes import Expected, Nodes, check_nodes, expected, marker_beside
from search.cluster.session import Connection, check_machine, concurrency, connected, use_waiting_processes
from search.config.schema import AuditConfig, SweepConfig
from search.errors import Halted, Interrupted, SweepFailed, UserError
from search.results.metrics import make_halving
from search.results.standing import Standing
from search.results.tables import Results, preload_drawing, write_results, write_tables
from search.runs.dataset import prepare_dataset
from search.runs.folder import MANIFEST_FILE, Run, command
from search.study.lease import Holder, Lease
from search.study.ledger import Ledger, Task, check_free, open_storage
from search.study.storage import STORAGE_ERRORS, storage_reason
from search.study.warm_start import read_warm_start, with_lasting_paths
from search.sweep.front_audit import audit_front, due, order_kept
from search.sweep.progress import Progress
from search.tracking.mirror import (
    DatasetInfo,
    ParentInfo,
    SweepStatus,
    Tracker,
    TrackingReport,
    metric_name,
    preload_mlflow,
)

_STARTING_RAY: Final = "starting Ray"
# A worker that dies is replaced; its setting goes on from its checkpoint. On a cluster it is mostly its node that went:
# a long trial on spot machines may lose several, and is not to be counted as failed for that.
_RESTARTS_HERE, _RESTARTS_ON_A_CLUSTER = 2, 10


@dataclass(frozen=True)
class Outcome:
    """What a finished sweep leaves behind; ``seconds`` is what this driver took."""

    results: Results
    tracking: TrackingReport
    seconds: float


def start(
    config: SweepConfig, runs_dir: Path, address: str | None, console: Console, quiet: bool
) -> tuple[Run, Outcome]:
    """Runs a new sweep to its end.

    Raises:
        UserError: Something that the user set cannot be; nothing has been written then.
        Interrupted: Ctrl-C or SIGTERM; the state is kept.
        SweepFailed: Too many trials failed, or the storage went away; the state is kept.
    """
    began = time.monotonic()
    config = with_lasting_paths(config, runs_dir)
    run = Run.plan(config, runs_dir)
    check_machine(config, address)
    storage = open_storage(config.storage.url) if config.storage.url else None
    if storage is not None:
        check_free(storage, config.name)
    data = prepare_dataset(config.data)
    read_warm_start(run, data)  # refused before anything is written, if at all
    with Progress(config, console, quiet) as progress:
        progress.stage(_STARTING_RAY)
        preload_mlflow()
        with connected(config, address) as connection, _signals() as signals:
            if address is not None:
                progress.stage("examining the cluster's nodes")
                with marker_beside(run.folder) as marker:
                    check_nodes(expected(config.data, data["sha256"], marker, run.store))
            run.create(data)
            with _resumable(run):
                ledger = Ledger(storage or open_storage(run.storage_url), config, "new")
                return run, _drive(run, ledger, progress, signals, connection, began)


def resume(run: Run, address: str | None, console: Console, quiet: bool) -> Outcome:
    """Goes on with a sweep from where its last driver left it.

    Raises:
        UserError, Interrupted, SweepFailed: As ``start``.
    """
    began = time.monotonic()
    check_machine(run.config, address)
    prepare_dataset(run.config.data)
    with _resumable(run), Progress(run.config, console, quiet) as progress:
        ledger = Ledger(open_storage(run.storage_url), run.config, "resume")
        return _go_on(run, ledger, progress, address, began)


def audit_run(run: Run, profile: Literal["quick", "reference"], at_random: int, console: Console) -> Outcome:
    """Audits the contenders of a finished sweep, however long it takes, and writes its results anew.

    Args:
        run: The run.
        profile: How much an audit does.
        at_random: How many other settings are audited too.
        console: Where progress is shown.

    Raises:
        UserError, Interrupted, SweepFailed: As ``start``; also where the sweep is not finished.
    """
    began = time.monotonic()
    prepare_dataset(run.config.data)
    with _resumable(run), Progress(run.config, console, quiet=False) as progress:
        ledger = Ledger(open_storage(run.storage_url), run.config, "resume")
        if not ledger.complete:
            raise UserError(
                f"RUN must be finished for its audit, got {run.name} with {ledger.counts().finished} of "
                f"{run.config.budget} settings; go on with `{command('resume', run.argument)}`"
            )
        asked = {"profile": profile, "minutes": math.inf, "random": at_random}
        audit = (run.config.audit or AuditConfig()).model_copy(update=asked)
        run = replace(run, config=run.config.model_copy(update={"audit": audit}))
        return _go_on(run, ledger, progress, None, began)


def _go_on(run: Run, ledger: Ledger, progress: Progress, address: str | None, began: float) -> Outcome:
    """Does what is left of a sweep, with Ray if there is something to train or to audit."""
    audit = run.config.audit
    if ledger.complete and not (audit and due(run, ledger, audit)):
        with _signals() as signals:  # only what MLflow missed, and the results
            return _drive(run, ledger, progress, signals, None, began)
    progress.stage(_STARTING_RAY)
    preload_mlflow()
    with connected(run.config, address, trains=not ledger.complete) as connection, _signals() as signals:
        if address is not None:
            progress.stage("examining the cluster's nodes")
            check_nodes(_expected(run))
        return _drive(run, ledger, progress, signals, connection, began)


def _drive(
    run: Run, ledger: Ledger, progress: Progress, signals: _Signals, connection: Connection | None, began: float
) -> Outcome:
    """Owns the study, runs what is left of the budget, and writes the results."""

    def waiting(holder: Holder) -> None:
        left = max(0.0, holder.expires - time.time())
        progress.stage(f"waiting to hear of the driver on {holder.host}, for {left:.0f} s at most")

    lease = Lease(ledger.engine, run.name, waiting, signals.check)
    tracker = Tracker(run.tracking_uri, run.config.tracking.experiment, run.name, artifact_root=run.artifacts)
    status: SweepStatus = "FAILED"
    try:
        ledger.adopt(lease.verify)
        _take_over(run, ledger, progress)
        tracker.start(_parent(run))
        progress.begin(ledger.records(), ledger.extensions)
        mirror = _Mirror(ledger, tracker, run.config)
        mirror.catch_up()
        if connection is not None and not ledger.complete:
            _run_trials(run, ledger, lease, mirror, progress, signals, connection)
        if run.config.audit is not None and ledger.complete:
            _audit(run, ledger, run.config.audit, lease, mirror, progress, signals, connection)
        if connection is not None:
            connection.close()
        if not ledger.complete:
            counts = ledger.counts()
            raise SweepFailed(
                f"{ledger.failures()} trials failed (resources.max_failures is {run.config.resources.max_failures}) "
                f"with {counts.finished} of {counts.budget} settings finished; the reasons are in "
                f"{run.folder / 'trials.csv'}; go on with `{command('resume', run.argument)}`"
            )
        progress.stage("drawing the results")
        results = write_results(run, ledger)
        for path in results.files:
            tracker.artifact(path)
        status = "FINISHED"
    except BaseException as error:
        status = "KILLED" if isinstance(error, Interrupted) else "FAILED"
        with suppress(*STORAGE_ERRORS, OSError, Halted):  # what stopped us may stop this too
            write_tables(run, ledger.records())
        raise
    finally:
        report = tracker.close(status)
        progress.missed(report, run)
        lease.release()
        ledger.close()
    return Outcome(results, report, time.monotonic() - began)


def _take_over(run: Run, ledger: Ledger, progress: Progress) -> None:
    """Takes over the trials of earlier runs, unless it has been done."""
    if not ledger.warm_started:
        warm_start = read_warm_start(run, run.manifest()["data"])
        ledger.take_over(warm_start.trials)
        left_out = f"; {warm_start.left_out} do not fit this search" if warm_start.left_out else ""
        progress.say(
            f"{len(warm_start.trials)} trials taken over from {', '.join(run.config.search.warm_start)}{left_out}"
        )


def _run_trials(
    run: Run,
    ledger: Ledger,
    lease: Lease,
    mirror: _Mirror,
    progress: Progress,
    signals: _Signals,
    connection: Connection,
) -> None:
    """Hands the ledger to Ray Tune until the budget is spent or too much has failed."""
    from ray import tune

    from search.sweep.tune import EveryTurn, LedgerSearcher, Stopping, rebuilt
    from search.worker.trial import SettingTrial

    use_waiting_processes()
    config, resources = run.config, run.config.resources
    progress.concurrency = concurrency(config)

    def waiting(reason: str) -> None:
        progress.waiting(reason)
        if reason:  # once the storage answers, the end of Tune's turn is where to stop
            signals.check()

    halving = make_halving(config)
    if halving is not None:
        rebuilt(halving, ledger)
    searcher = LedgerSearcher(ledger, lease.epoch, progress.concurrency, [progress, mirror], waiting, halving)

    def changed() -> None:
        progress.concurrency = searcher.concurrency = concurrency(config)

    wanted = _expected(run) if connection.address is not None else None
    turn = [
        *([Nodes(wanted, progress.say, changed).turn] if wanted is not None else []),
        progress.tick,
        lambda: progress.stopping(ledger.stopped),
        lambda: progress.lagging(mirror.problem),
        connection.check,
        searcher.check,
        signals.check,
        lease.check,
        lambda: preload_drawing() if searcher.winding_down else None,
    ]
    trainable = tune.with_parameters(
        SettingTrial,
        problem=config.problem,
        rungs=config.rungs,
        folder=str(run.folder),
        owner=lease.epoch,
        threads=resources.cpus_per_trial,
        cuda=resources.gpus_per_trial > 0,
        expected=wanted,
        store=None if run.store is None else run.store.url,
    )
    # What Tune itself writes is of no use to us, for the ledger has all of it: a folder that goes away with it.
    with tempfile.TemporaryDirectory(prefix="robustfront-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=Stopping(searcher),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=scratch,
                verbose=0,
                # A setting's checkpoints are its own, under its number; Tune's would die with its scratch folder.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(
                    max_failures=_RESTARTS_HERE if wanted is None else _RESTARTS_ON_A_CLUSTER
                ),
                callbacks=[EveryTurn(turn)],
            ),
        )
        progress.stage("starting the workers")
        with signals.polled():
            tuner.fit()


def _audit(
    run: Run,
    ledger: Ledger,
    settings: AuditConfig,
    lease: Lease,
    mirror: _Mirror,
    progress: Progress,
    signals: _Signals,
    connection: Connection | None,
) -> None:
    """Audits what is due, and says how far that went; without a connection nothing is."""
    left = 0
    if connection is not None:
        turn = (progress.tick, connection.check, signals.check, lease.check)
        with signals.polled():
            left = audit_front(run, ledger, settings, progress, turn, mirror.show)
    order = order_kept(run, ledger, settings.random)
    if order is not None:
        progress.say(order)
    if left:
        progress.say(
            f"audit: {left} settings are not audited yet (audit.minutes is {settings.minutes:g}); "
            f"go on with `{command('audit', run.argument)}`"
        )


class _Mirror:
    """Keeps MLflow in step with the ledger, as an observer."""

    def __init__(self, ledger: Ledger, tracker: Tracker, config: SweepConfig) -> None:
        self._ledger, self._tracker = ledger, tracker
        self._standing = Standing(config)

    @property
    def problem(self) -> str | None:
        """Why MLflow lags behind right now; None while all is well."""
        return self._tracker.problem

    def catch_up(self) -> None:
        """Shows all that the ledger holds; what MLflow has already is not written again."""
        records = self._ledger.records()
        for record in records:
            self.show(record)
        for record in sorted((record for record in records if record.finished is not None), key=_order_of_ends):
            self._summarize(record)

    def started(self, task: Task, record: TrialRecord) -> None:
        del task
        self.show(record)

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None:
        del metrics
        self.show(self._ledger.record(number))

    def ended(self, record: TrialRecord) -> None:
        self.show(record)
        self._summarize(record)

    def show(self, record: TrialRecord) -> None:
        """Brings a trial's run up to date."""
        self._tracker.update(record, self._ledger.history(record.number))

    def _summarize(self, record: TrialRecord) -> None:
        """A point of the sweep's curves for every trial that counts towards the budget or gave replicates."""
        assert record.finished is not None
        standing = self._standing
        standing.add(record)
        if record.origin is None and not record.is_baseline and record.state in ("complete", "pruned"):
            step = standing.finished + standing.extensions
            values = {
                "trials_finished": standing.finished,
                "trials_infeasible": standing.infeasible,
                "trials_failed": standing.failed,
                "hypervolume": standing.hypervolume,
                **{f"best_{name}": best.objectives[name] for name, best in standing.best.items()},
            }
            self._tracker.summary(values, step, record.finished)


def _order_of_ends(record: TrialRecord) -> tuple[float, str]:
    return record.finished or 0.0, record.number


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """Says what stopped a driver although none of its trials did anything wrong, and how to go on."""
    try:
        yield
    except STORAGE_ERRORS as error:
        reason = storage_reason(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = f"{error.strerror}: {error.filename or run.folder}"
    except Halted as halted:
        reason = str(halted)
    else:
        return
    raise SweepFailed(f"the sweep stopped ({reason}); mend that and go on with `{command('resume', run.argument)}`")


def _expected(run: Run) -> Expected:
    """What every node of a cluster must have for this run."""
    return expected(run.config.data, run.manifest()["data"]["sha256"], run.folder / MANIFEST_FILE, run.store)


def _parent(run: Run) -> ParentInfo:
    config, manifest = run.config, run.manifest()
    data = manifest["data"]
    return ParentInfo(
        identity=manifest["id"],
        run_dir=run.folder,
        config=config.to_yaml(),
        searched=tuple(config.ranges),
        objectives=tuple(map(metric_name, config.objectives)),
        parameters={
            "loss": config.loss.name,
            "space": ", ".join(f"{name} in {range_}" for name, range_ in config.ranges.items()),
            "sampler": config.search.sampler,
            "trials": config.budget,
            "search_seed": config.search.seed,
            "constraints": ", ".join(map(str, config.bounds)) or "none",
            "reference": reference_rule(config.objectives),
        },
        trial_parameters={
            "data": config.data.name,
            "model": config.model,
            "epochs_planned": config.train.epochs,
            "batch_size": config.train.batch_size,
            "learning_rate": config.train.learning_rate,
            "norm": config.robustness.norm,
            "epsilon": ", ".join(f"{epsilon:g}" for epsilon in config.robustness.epsilons),
        },
        dataset=DatasetInfo(name=data["name"], digest=data["sha256"], source=data["location"], sizes=data["sizes"]),
        tags={"code": manifest["code"] or "unknown", **manifest["versions"]},
    )


class _Signals:
    """Ctrl-C and SIGTERM as ``Interrupted``: at once, or while polled at the next ``check``.

    Within Tune's loop and the audit's an exception out of nowhere could cut a write to the ledger in two. A second
    signal does not wait.
    """

    def __init__(self) -> None:
        self._polled = self._pending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self._polled or self._pending:
            raise Interrupted
        self._pending = True

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal has come."""
        if self._pending:
            raise Interrupted

    @contextmanager
    def polled(self) -> Iterator[None]:
        """Puts a first signal off until the next ``check``."""
        self._polled = True
        try:
            yield
        except SystemError as error:  # what Ray's compiled parts make of an exception that comes while they wait
            if isinstance(error.__cause__, Interrupted):
                raise error.__cause__ from None
            raise
        finally:
            self._polled = False


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Takes over the signals; to be entered after Ray's start, which sets handlers of its own."""
    signals = _Signals()
    before = {number: signal.signal(number, signals.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
