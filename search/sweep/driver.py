"""A sweep from its configuration to its pictures: start, run, stop, resume."""

from __future__ import annotations

import errno
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from rich.console import Console

from analysis.hypervolume import reference_rule
from search.cluster.nodes import Expected, Nodes, check_nodes, expected, marker_beside
from search.cluster.ray_patches import use_waiting_processes
from search.cluster.session import Connection, check_machine, concurrency, connected
from search.config import AuditConfig, SweepConfig
from search.errors import Halted, Interrupted, RobustfrontError, SweepFailed, UserError, first_line
from search.report.page import write_report
from search.results.writing import Results, preload_drawing, write_results, write_tables
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run, command
from search.runs.layout import ARTIFACTS, MANIFEST_FILE, TABLE_FILE
from search.study import (
    STORAGE_ERRORS,
    Holder,
    Lease,
    Ledger,
    check_free,
    make_halving,
    open_storage,
    read_warm_start,
    storage_reason,
    with_lasting_paths,
)
from search.sweep.front_audit import audit_front, due, order_kept
from search.sweep.observers import MLflowObserver, Progress
from search.sweep.signals import Signals, handled_signals
from search.tracking.client import preload_mlflow
from search.tracking.mirror import ParentInfo, SweepStatus, metric_name
from search.tracking.queue import Tracker
from search.worker.tasks import examine
from trainables.settings import AUDITED_IMAGES

if TYPE_CHECKING:  # Ray is imported once it has been set up
    from ray import tune

    from search.sweep.tune import LedgerSearcher

_STARTING_RAY: Final = "starting Ray"
# A dead worker is replaced, and its trial continues from its checkpoint. On a cluster the cause is usually a lost node:
# a long trial on spot machines may lose several, which must not count as a failure of the trial.
_RESTARTS_HERE, _RESTARTS_ON_A_CLUSTER = 2, 10


@dataclass(frozen=True)
class Outcome:
    """The results of a finished sweep; ``seconds`` is this driver's wall time."""

    results: Results
    seconds: float


def start(
    config: SweepConfig, runs_dir: Path, address: str | None, console: Console, quiet: bool
) -> tuple[Run, Outcome]:
    """Runs a new sweep to its end.

    Raises:
        UserError: A setting is wrong; nothing has been written.
        Interrupted: Ctrl-C or SIGTERM; the state is kept.
        SweepFailed: Too many trials failed, or the storage stopped answering; the state is kept.
    """
    progress = Progress(config, console, quiet)
    config = with_lasting_paths(config, runs_dir)
    run = Run.plan(config, runs_dir)
    check_machine(config, address)
    storage = open_storage(config.storage.url) if config.storage.url else None
    if storage is not None:
        check_free(storage, config.name)
    data = prepare_dataset(config.data, problem=config.problem)
    read_warm_start(run, data)  # raises before anything is written
    with progress:
        progress.stage(_STARTING_RAY)
        preload_mlflow()
        with connected(config, address) as connection, handled_signals() as signals:
            if address is not None:
                progress.stage("examining the cluster's nodes")
                with marker_beside(run.folder) as marker:
                    check_nodes(expected(config, data["sha256"], marker, run.store), examine)
            run.create(data)
            with _resumable(run):
                ledger = Ledger(storage or open_storage(run.storage_url), config, "new", run.folder)
                return run, _drive(run, ledger, progress, signals, connection)


def resume(run: Run, address: str | None, console: Console, quiet: bool) -> Outcome:
    """Continues a sweep where its last driver stopped; raises what ``start`` does."""
    progress = Progress(run.config, console, quiet)
    check_machine(run.config, address)
    prepare_dataset(run.config.data, test=False)
    with _resumable(run), progress:
        ledger = Ledger(open_storage(run.storage_url), run.config, "resume", run.folder)
        return _continue(run, ledger, progress, address)


def audit_run(run: Run, profile: Literal["quick", "reference"], at_random: int, console: Console) -> Outcome:
    """Audits the contenders of a finished sweep, however long it takes, and writes its results again.

    ``at_random`` other settings are audited too. Raises what ``start`` does, and a ``UserError`` also where the sweep
    is not finished or has too few validation images for the profile.
    """
    progress = Progress(run.config, console, quiet=False)
    data, needed = run.config.data, AUDITED_IMAGES[profile]
    images = data.confirmation_size or data.validation_size
    if images < needed:
        raise UserError(
            f"RUN must have at least {needed} validation images for --profile {profile}, got {run.name} with {images}; "
            "start a sweep with a larger data.validation_size"
        )
    prepare_dataset(run.config.data, test=False)
    with _resumable(run, "audit"), progress:
        ledger = Ledger(open_storage(run.storage_url), run.config, "resume", run.folder)
        if not ledger.complete:
            raise UserError(
                f"RUN must be finished for its audit, got {run.name} with {ledger.counts().finished} of "
                f"{run.config.budget} settings; finish it with `{command('resume', run.argument)}`"
            )
        asked = {"profile": profile, "minutes": math.inf, "random": at_random, "seeds": None}
        audit = (run.config.audit or AuditConfig()).model_copy(update=asked)
        run = replace(run, config=run.config.model_copy(update={"audit": audit}))
        return _continue(run, ledger, progress, None)


def _continue(run: Run, ledger: Ledger, progress: Progress, address: str | None) -> Outcome:
    """Does the rest of a sweep, with Ray if anything is left to train or to audit."""
    audit = run.config.audit
    if ledger.complete and not (audit and due(run, ledger, audit)):
        with handled_signals() as signals:  # only MLflow and the results are left
            return _drive(run, ledger, progress, signals, None)
    progress.stage(_STARTING_RAY)
    preload_mlflow()
    with connected(run.config, address, trains=not ledger.complete) as connection, handled_signals() as signals:
        if address is not None:
            progress.stage("examining the cluster's nodes")
            check_nodes(_expected(run), examine)
        return _drive(run, ledger, progress, signals, connection)


@dataclass(frozen=True)
class Driver:
    """A driver at work: the run, its ledger and lease, what follows it, and Ray, if anything is left to do with it."""

    run: Run
    ledger: Ledger
    lease: Lease
    mirror: MLflowObserver
    progress: Progress
    signals: Signals
    connection: Connection | None


def _drive(run: Run, ledger: Ledger, progress: Progress, signals: Signals, connection: Connection | None) -> Outcome:
    """Takes the lease of the study, runs the rest of the budget and writes the results."""

    def waiting(holder: Holder) -> None:
        left = max(0.0, holder.expires - time.time())
        progress.stage(f"waiting up to {left:.0f} s to see whether the driver on {holder.host} is still alive")

    lease = Lease(ledger.engine, run.name, waiting, signals.check)
    tracker = Tracker(
        run.tracking_uri, run.config.tracking.experiment, run.name, artifact_root=run.folder.parent / ARTIFACTS
    )
    status: SweepStatus = "FAILED"
    try:
        ledger.adopt(lease.still_held)
        if not ledger.warm_started:
            warm_start, names = read_warm_start(run, run.manifest()["data"]), ", ".join(run.config.search.warm_start)
            ledger.take_over(warm_start.trials)
            left_out = f"; {warm_start.left_out} do not fit this search" if warm_start.left_out else ""
            progress.say(f"{len(warm_start.trials)} trials imported from {names}{left_out}")
        tracker.start(_parent(run))
        progress.begin(ledger.records(), ledger.extensions, lambda: ledger.reference)
        mirror = MLflowObserver(ledger, tracker, run.config)
        mirror.catch_up()
        results = _finish(Driver(run, ledger, lease, mirror, progress, signals, connection))
        mirror.results(results)
        status = "FINISHED"
    except BaseException as error:
        status = "KILLED" if isinstance(error, Interrupted) else "FAILED"
        with suppress(*STORAGE_ERRORS, OSError, Halted):  # the same cause may make this fail too
            write_tables(run, ledger.records())
        raise
    finally:
        progress.missed(tracker.close(status), run)
        lease.release()
        ledger.close()
    return Outcome(results, progress.elapsed)


def _finish(driver: Driver) -> Results:
    """Trains what is left of the budget, audits, and writes the results."""
    run, ledger, connection = driver.run, driver.ledger, driver.connection
    if connection is not None and not ledger.complete:
        _run_trials(driver)
    if run.config.audit is not None and ledger.complete:
        _audit(driver, run.config.audit)
    if connection is not None:
        connection.close()
    if not ledger.complete:
        counts = ledger.counts()
        raise SweepFailed(
            f"{ledger.failures()} trials failed (resources.max_failures is {run.config.resources.max_failures}) "
            f"with {counts.finished} of {counts.budget} settings finished; the reasons are in "
            f"{run.folder / TABLE_FILE}; resume with `{command('resume', run.argument)}`"
        )
    driver.progress.stage("drawing the results")
    return _with_report(driver, write_results(run, ledger.records(), ledger.history, ledger.reference, ledger.stopped))


def _with_report(driver: Driver, results: Results) -> Results:
    """The results with the report added to their files, or with a note that it could not be written."""
    run = driver.run
    try:
        path = write_report(results.data, results.stopped, results.answered)
    except (RobustfrontError, OSError, *STORAGE_ERRORS):
        raise
    except Exception as error:
        again = command("report", run.argument)
        note = f"The report could not be written ({first_line(error)}); try again with `{again}`"
        return replace(results, notes=[*results.notes, note])
    return replace(results, files=[*results.files, path])


def _run_trials(driver: Driver) -> None:
    """Hands the ledger to Ray Tune until the budget is spent or too much has failed."""
    from search.sweep.tune import LedgerSearcher, rebuilt

    use_waiting_processes()
    config, ledger, progress, connection = driver.run.config, driver.ledger, driver.progress, driver.connection
    assert connection is not None
    progress.concurrency = concurrency(config)

    def waiting(reason: str) -> None:
        progress.waiting(reason)
        if reason:  # while the storage answers, the sweep stops at the end of Tune's turn instead
            driver.signals.check()

    halving = make_halving(config)
    if halving is not None:
        rebuilt(halving, ledger)
    observers = (progress, driver.mirror)
    searcher = LedgerSearcher(ledger, driver.lease.epoch, progress.concurrency, observers, waiting, halving)

    def changed() -> None:
        progress.concurrency = searcher.concurrency = concurrency(config)

    node = None if connection.address is None else _expected(driver.run)
    turn = [
        *([Nodes(node, examine, progress.say, changed).turn] if node is not None else []),
        progress.tick,
        lambda: progress.stopping(ledger.stopped),
        lambda: progress.lagging(driver.mirror.tracker.problem),
        connection.check,
        searcher.check,
        driver.signals.check,
        driver.lease.check,
        lambda: preload_drawing() if searcher.winding_down else None,
    ]
    # The ledger has everything that Tune would write, so Tune gets a folder that is deleted afterwards.
    with tempfile.TemporaryDirectory(prefix="robustfront-", ignore_cleanup_errors=True) as scratch:
        tuner = _tuner(driver, node, searcher, turn, scratch)
        progress.stage("starting the workers")
        with driver.signals.polled():
            tuner.fit()


def _tuner(
    driver: Driver, node: Expected | None, searcher: LedgerSearcher, turn: Sequence[Callable[[], None]], scratch: str
) -> tune.Tuner:
    """Tune, set up to train what the searcher suggests; on a cluster, ``node`` is what each node must have."""
    from ray import tune

    from search.sweep.tune import EveryTurn, Stopping
    from search.worker.trial import SettingTrial

    run, resources = driver.run, driver.run.config.resources
    trainable = tune.with_parameters(
        SettingTrial,
        problem=run.config.problem,
        rungs=run.config.rungs,
        folder=str(run.folder),
        owner=driver.lease.epoch,
        threads=resources.cpus_per_trial,
        cuda=resources.gpus_per_trial > 0,
        expected=node,
        store=None if run.store is None else run.store.url,
    )
    return tune.Tuner(
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
            # Trials keep checkpoints under their own numbers; Tune's would be deleted with the scratch folder.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=_RESTARTS_HERE if node is None else _RESTARTS_ON_A_CLUSTER),
            callbacks=[EveryTurn(turn)],
        ),
    )


def _audit(driver: Driver, settings: AuditConfig) -> None:
    """Audits what is due and reports what is left; audits nothing without a connection."""
    run, ledger, progress, connection = driver.run, driver.ledger, driver.progress, driver.connection
    left = 0
    if connection is not None:
        turn = (progress.tick, connection.check, driver.signals.check, driver.lease.check)
        with driver.signals.polled():
            left = audit_front(run, ledger, settings, progress, turn, (progress, driver.mirror))
    order = order_kept(run, ledger, settings.random)
    if order is not None:
        progress.say(order)
    if left:
        progress.say(
            f"audit: {left} settings are not audited yet (audit.minutes is {settings.minutes:g}); "
            f"audit the rest with `{command('audit', run.argument)}`"
        )


@contextmanager
def _resumable(run: Run, verb: str = "resume") -> Iterator[None]:
    """Turns an interrupt, or a cause outside the trials (a full disk), into one line that says how to continue."""
    again = command(verb, run.argument)
    try:
        yield
    except Interrupted:
        raise Interrupted(f"interrupted; everything is kept; continue with `{again}`") from None
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
    raise SweepFailed(f"the sweep stopped ({reason}); fix that and resume with `{again}`")


def _expected(run: Run) -> Expected:
    return expected(run.config, run.manifest()["data"]["sha256"], run.folder / MANIFEST_FILE, run.store)


def _parent(run: Run) -> ParentInfo:
    config, manifest = run.config, run.manifest()
    return ParentInfo(
        identity=manifest["id"],
        run_dir=run.folder,
        config=config.to_yaml(),
        searched=tuple(config.domains),
        objectives=tuple(map(metric_name, config.objectives)),
        parameters={
            "loss": config.loss.name,
            "defence": config.defence.name,
            "space": ", ".join(f"{name} in {range_}" for name, range_ in config.domains.items()),
            "sampler": config.search.sampler,
            "trials": config.budget,
            "search_seed": config.search.seed,
            "constraints": ", ".join(map(str, config.bounds)) or "none",
            "reference": reference_rule(config.objectives),
        },
        trial_parameters={
            "data": config.data.name,
            "model": config.model.name,
            "epochs_planned": config.train.epochs,
            **{f"defence.{name}": value for name, value in config.defence.settings.items()},
            **{
                name: getattr(config.train, name)
                for name in ("batch_size", "learning_rate")
                if f"train.{name}" not in config.domains  # a searched value is the trial's own
            },
            "norm": config.robustness.norm,
            "epsilon": ", ".join(f"{epsilon:g}" for epsilon in config.robustness.epsilons),
        },
        dataset=manifest["data"],
        above=config.tracking.parent,
        tags={"code": manifest["code"] or "unknown", **manifest["versions"]},
    )
