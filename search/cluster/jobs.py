"""Sweeps as jobs of a Ray cluster: the driver runs there, so the machine that submitted it may be switched off."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from search.cluster.launcher import jobs_url
from search.cluster.ray_patches import TALKATIVE_LOGGERS
from search.cluster.token import auth_environment, token_file
from search.config import SweepConfig
from search.errors import SweepFailed, UserError
from search.runs.folder import command
from search.runs.layout import SWEEP_FILE
from search.runs.provenance import import_paths, source_modules

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient
    from ray.util.state.common import NodeState

_NAME, _RUNS_DIR = "robustfront", "robustfront_runs_dir"  # in a job's metadata
_STOP_SECONDS: Final = 120.0
_ENDED: Final = ("SUCCEEDED", "STOPPED", "FAILED")


class Job(NamedTuple):
    """A sweep's driver on a cluster: the job's ID, the run, Ray's state of the job, and when it started (Unix)."""

    identity: str
    name: str
    runs_dir: str
    state: str
    started: float

    @property
    def runs(self) -> bool:
        return self.state not in _ENDED


@contextmanager
def client(cluster: str) -> Iterator[JobSubmissionClient]:
    """A client of a cluster's Jobs API (``launcher.jobs_url``) that sends the token."""
    with jobs_url(cluster) as url:
        os.environ |= auth_environment()  # Ray reads these when it is imported
        from ray.job_submission import JobSubmissionClient

        for name in TALKATIVE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            made = JobSubmissionClient(url)
        except Exception as error:  # Ray raises many kinds, among them RuntimeError with the text of a page
            text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            if "401" in text or "403" in text or "uth" in text:
                raise UserError(
                    f"--cluster must accept this machine's token, got {cluster} which refuses it; "
                    f"copy the cluster's to {token_file()}"
                ) from None
            raise UserError(
                f"--cluster must be a cluster whose Jobs API answers, got {cluster} ({text}); start it with "
                "`robustfront cluster up FILE`"
            ) from None
        yield made


def submit(client: JobSubmissionClient, work: SweepConfig | str, runs_dir: str) -> Job:
    """Submits a new sweep, or the name of a run to resume, together with the source of this installation.

    The modules of a user's own components go with a new sweep. With a run to be resumed they do not, since only the
    cluster has its configuration: the cluster must be able to import them. All nodes share ``runs_dir``, unless the
    head is alone.
    """
    name = work if isinstance(work, str) else work.name
    if any(job.runs and job.name == name for job in jobs(client)):
        raise UserError(
            f"run {name} must have one driver at a time, got a second; "
            f"watch it with `{command('cluster', 'logs', name, '--cluster', 'FILE')}`"
        )
    arguments = ["resume", name] if isinstance(work, str) else ["sweep", SWEEP_FILE]
    arguments += ["--address", "auto", "--runs-dir", runs_dir]
    with tempfile.TemporaryDirectory(prefix="robustfront-") as folder:
        for source in source_modules([] if isinstance(work, str) else import_paths(work.to_document())).values():
            if source.is_file():
                shutil.copy(source, folder)
            else:
                shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        if not isinstance(work, str):
            (Path(folder) / SWEEP_FILE).write_text(work.to_yaml(), encoding="utf-8")
        identity = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "search", *arguments]),
            submission_id=f"robustfront-{name}-{time.strftime('%Y%m%d-%H%M%S')}",
            runtime_env={"working_dir": folder},
            metadata={_NAME: name, _RUNS_DIR: runs_dir},
        )
    return Job(identity, name, runs_dir, "PENDING", time.time())


def jobs(client: JobSubmissionClient) -> list[Job]:
    """The sweeps that were submitted to a cluster, latest first."""
    sweeps = [
        Job(
            details.submission_id or "",
            details.metadata[_NAME],
            details.metadata[_RUNS_DIR],
            str(details.status),
            (details.start_time or 0) / 1000,
        )
        for details in client.list_jobs()
        if details.metadata and _NAME in details.metadata
    ]
    return sorted(sweeps, key=lambda job: job.started, reverse=True)


def nodes(client: JobSubmissionClient) -> list[NodeState]:
    """The cluster's nodes as Ray reports them, including dead ones."""
    from ray.util.state import list_nodes

    return sorted(list_nodes(address=client.get_address()), key=lambda node: (node.state, node.node_ip))


def find(client: JobSubmissionClient, name: str | None) -> Job:
    """The latest sweep of a name, or of any name; a ``UserError`` says if there is none."""
    every = jobs(client)
    for job in every:
        if name in (None, job.name):
            return job
    known = ", ".join(dict.fromkeys(job.name for job in every)) or "none at all"
    raise UserError(f"NAME must be a sweep that was sent to this cluster, got {name}; it has {known}")


def last_line(client: JobSubmissionClient, job: Job) -> str:
    lines = [line for line in client.get_job_logs(job.identity).splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def logs(client: JobSubmissionClient, job: Job, *, follow: bool) -> Iterator[str]:
    """A driver's output so far and, with ``follow``, until it ends."""
    if not follow:
        yield client.get_job_logs(job.identity)
        return

    import asyncio

    async def next_text() -> str | None:
        return await anext(stream, None)

    stream = aiter(client.tail_job_logs(job.identity))
    with asyncio.Runner() as runner:
        while (text := runner.run(next_text())) is not None:
            yield text


def stop(client: JobSubmissionClient, running: Sequence[Job]) -> None:
    """Stops sweeps as Ctrl-C does, and waits until their drivers have saved everything."""
    for job in running:
        client.stop_job(job.identity)
    deadline = time.monotonic() + _STOP_SECONDS
    for job in running:
        while not client.get_job_status(job.identity).is_terminal():
            if time.monotonic() > deadline:
                raise SweepFailed(f"the driver of {job.name} does not end; nothing has been taken down")
            time.sleep(0.5)
