"""``robustfront cluster``: start a cluster, submit sweeps, watch them, and take the cluster down."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from search.errors import SweepFailed, UserError

app = typer.Typer(no_args_is_help=True, help="Start a cluster, submit sweeps, watch them, and take it down.")

LauncherFile = Annotated[
    Path, Argument(metavar="FILE", help="File for Ray's launcher, e.g. a copy of configs/cluster/onprem.yaml.")
]
Cluster = Annotated[str, Option(metavar="FILE|ADDRESS", help="Launcher file, or HOST:PORT of its Jobs API.")]
Overrides = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. search.trials=6.")
]
NewName = Annotated[str | None, Option(help="Name of the run. Default: the configuration's.")]


@app.command()
def up(file: LauncherFile) -> None:
    """Start or update a cluster, and create the token that all its users need."""
    from search.cluster import launcher
    from search.runs.folder import command

    launcher.up(file)
    submission = command("cluster", "submit", "CONFIG", "--cluster", str(file), "--runs-dir", "FOLDER")
    print(f"\nThe cluster is up. Submit a sweep: {submission}")


@app.command()
def submit(
    work: Annotated[
        str, Argument(metavar="CONFIG|RUN", help="A configuration to start, or a run on the cluster to resume.")
    ],
    cluster: Cluster,
    runs_dir: Annotated[str, Option(help="Folder of the runs on the cluster, shared by all nodes, or a URL.")],
    overrides: Overrides = None,
    name: NewName = None,
) -> None:
    """Submit a sweep to a cluster. Its driver runs there, so this machine can be switched off."""
    from search.cluster import jobs
    from search.config import load
    from search.runs.folder import command
    from search.runs.store import is_url

    is_config = Path(work).suffix in (".yaml", ".yml") or Path(work).exists()
    if not runs_dir.startswith(("/", "~")) and not is_url(runs_dir):
        raise UserError(
            f"--runs-dir must start with / or ~, or be a URL, got {runs_dir}; it is a folder of the cluster"
        )
    if not is_config and (overrides or name):
        raise UserError(f"--set and --name must be left out for a run, got them for {work}; give a configuration")
    sent = load(Path(work), overrides or [], name) if is_config else work
    with jobs.client(cluster) as client:
        job = jobs.submit(client, sent, runs_dir)
    watch = command("cluster", "logs", job.name, "--cluster", cluster, "--follow")
    print(f"Submitted {job.name} as job {job.identity}\nWatch it: {watch}")


@app.command()
def status(cluster: Cluster) -> None:
    """Show a cluster's nodes, their resources, and its sweeps."""
    from search.cluster import jobs

    console = Console(highlight=False)
    with jobs.client(cluster) as client:
        nodes = folded_table("Nodes", "address", "state", "processors", "GPUs", "memory, GB")
        for node in jobs.nodes(client):
            cpus, gpus, memory = ((node.resources_total or {}).get(name, 0) for name in ("CPU", "GPU", "memory"))
            nodes.add_row(node.node_ip, str(node.state).lower(), f"{cpus:g}", f"{gpus:g}", f"{memory / 1e9:.0f}")
        console.print(nodes)
        sweeps = folded_table("Sweeps", "run", "state", "since", "last line")
        for job in jobs.jobs(client):
            since = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M")
            sweeps.add_row(job.name, job.state.lower(), since, jobs.last_line(client, job))
        console.print(sweeps if sweeps.row_count else "No sweep has been submitted.")


def folded_table(title: str | None, *columns: str) -> Table:
    """An empty table that folds long cells."""
    table = Table(header_style="bold", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


@app.command()
def logs(
    cluster: Cluster,
    name: Annotated[str | None, Argument(metavar="[NAME]", help="Name of a run; the last by default.")] = None,
    follow: Annotated[bool, Option("--follow", help="Follow until it ends; Ctrl-C only stops watching.")] = False,
) -> None:
    """Show the output of a sweep's driver."""
    from search.cluster import jobs

    with jobs.client(cluster) as client:
        for text in jobs.logs(client, jobs.find(client, name), follow=follow):
            print(text, end="", flush=True)


@app.command()
def stop(name: Annotated[str, Argument(metavar="NAME", help="Name of the run.")], cluster: Cluster) -> None:
    """Stop a sweep as Ctrl-C does: everything is kept, and `cluster submit NAME` resumes it."""
    from search.cluster import jobs
    from search.runs.folder import command

    with jobs.client(cluster) as client:
        job = jobs.find(client, name)
        if not job.runs:
            raise UserError(
                f"NAME must be a running sweep, got {name}, which is {job.state.lower()}; see `cluster status`"
            )
        jobs.stop(client, [job])
    resume = command("cluster", "submit", name, "--cluster", cluster, "--runs-dir", job.runs_dir)
    print(f"{name} is stopped; resume it with: {resume}")


@app.command()
def down(
    file: LauncherFile, yes: Annotated[bool, Option("--yes", help="Do not ask for confirmation.")] = False
) -> None:
    """Stop the sweeps, copy runs here that would be lost, and take the cluster down."""
    from search.cluster import jobs, launcher
    from search.runs.store import is_url

    values, console = launcher.read_launcher_file(file), Console(highlight=False)
    target = Path(f"runs-{values['cluster_name']}")
    folders: list[str] = []
    try:
        with jobs.client(str(file)) as client:
            every = jobs.jobs(client)
            running = [job for job in every if job.runs]
            folders = sorted({job.runs_dir for job in every if not is_url(job.runs_dir)})
            names = ", ".join(job.name for job in running)
            note = f"{names} will be stopped; resume it later." if running else "No sweep is running."
            console.print(note)
            if not yes:
                typer.confirm(f"Take {values['cluster_name']} down?", abort=True)
            jobs.stop(client, running)
    except (SweepFailed, UserError) as error:
        console.print(f"Could not list its sweeps ({error}).", markup=False, soft_wrap=True)
        if not yes:
            typer.confirm(f"Take {values['cluster_name']} down anyway, and lose what is on its disks?", abort=True)
    for index, folder in enumerate(folders):
        local = target if len(folders) == 1 else target / str(index)
        if launcher.fetch(file, folder, local):
            console.print(f"{folder} was on the head's own disk; it is now in {local}")
    launcher.down(file)
