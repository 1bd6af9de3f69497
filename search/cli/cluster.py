"""``robustfront cluster``: start a cluster, send sweeps to it, watch them, take it down."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from search.errors import SweepFailed, UserError
from search.runs.folder import command
from search.runs.store import is_url

app = typer.Typer(no_args_is_help=True, help="Clusters: start one, send sweeps to it, watch them, take it down.")

LauncherFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="For Ray's launcher, e.g. a copy of configs/cluster/onprem.yaml.")
]
Cluster = Annotated[
    str,
    typer.Option("--cluster", metavar="FILE|ADDRESS", help="Launcher file, or HOST:PORT of its Jobs API."),
]


@app.command()
def up(file: LauncherFile) -> None:
    """Start a cluster, or bring it up to date; makes the token that all who use it must have."""
    from search.cluster.launcher import up as launch

    launch(file)
    Console().print(
        "\nThe cluster is up. Send it a sweep: "
        + command("cluster", "submit", "CONFIG", "--cluster", str(file), "--runs-dir", "FOLDER"),
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def submit(
    work: Annotated[
        str, typer.Argument(metavar="CONFIG|RUN", help="A configuration to begin, or a run there to go on with.")
    ],
    cluster: Cluster,
    runs_dir: Annotated[
        str, typer.Option("--runs-dir", help="Folder of the runs on the cluster, shared by all its nodes, or a URL.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. search.trials=6.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run, in place of the configuration's.")] = None,
) -> None:
    """Send a sweep to a cluster, where its driver runs: this machine can be switched off then."""
    from search.cluster import jobs
    from search.config.schema import load

    is_config = Path(work).suffix in (".yaml", ".yml") or Path(work).exists()
    if not runs_dir.startswith(("/", "~")) and not is_url(runs_dir):
        raise UserError(
            f"--runs-dir must be a path from / or ~ on, or a URL, got {runs_dir}; it is a folder of the cluster"
        )
    if not is_config and (overrides or name):
        raise UserError(f"--set and --name are for a configuration, got a run ({work}); leave them out")
    sent = load(Path(work), overrides or [], name) if is_config else work
    with jobs.client(cluster) as client:
        job = jobs.submit(client, sent, runs_dir)
    console = Console()
    console.print(f"{job.name} is on its way as job {job.identity}", highlight=False, soft_wrap=True)
    watch = command("cluster", "logs", job.name, "--cluster", cluster, "--follow")
    console.print(f"Watch it: {watch}", highlight=False, soft_wrap=True)


@app.command()
def status(cluster: Cluster) -> None:
    """Show a cluster's nodes, what they have, and its sweeps."""
    from search.cluster import jobs

    console = Console()
    with jobs.client(cluster) as client:
        nodes = Table(header_style="bold", title="Nodes", title_justify="left")
        for column in ("address", "state", "processors", "GPUs", "memory, GB"):
            nodes.add_column(column, overflow="fold")
        for node in jobs.nodes(client):
            nodes.add_row(node.address, node.state, f"{node.cpus:g}", f"{node.gpus:g}", f"{node.memory / 1e9:.0f}")
        console.print(nodes)
        sweeps = Table(header_style="bold", title="Sweeps", title_justify="left")
        for column in ("run", "state", "since", "said last"):
            sweeps.add_column(column, overflow="fold")
        for job in jobs.jobs(client):
            since = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M")
            sweeps.add_row(job.name, job.state.lower(), since, jobs.last_line(client, job))
        console.print(sweeps if sweeps.row_count else "No sweep has been sent to it.")


@app.command()
def logs(
    cluster: Cluster,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of the run; the last one without it.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until it ends; Ctrl-C stops watching alone.")] = False,
) -> None:
    """Show what a sweep's driver says."""
    from search.cluster import jobs

    with jobs.client(cluster) as client:
        for text in jobs.logs(client, jobs.find(client, name), follow=follow):
            print(text, end="", flush=True)


@app.command()
def stop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the run.")],
    cluster: Cluster,
) -> None:
    """Stop a sweep as Ctrl-C does: everything is kept, and `cluster submit NAME` goes on with it."""
    from search.cluster import jobs

    with jobs.client(cluster) as client:
        job = jobs.find(client, name)
        if not job.runs:
            raise UserError(f"NAME must be a sweep that runs, got {name} which is {job.state.lower()}")
        jobs.stop(client, [job])
    go_on = command("cluster", "submit", name, "--cluster", cluster, "--runs-dir", job.runs_dir)
    print(f"{name} is stopped; go on with: {go_on}")


@app.command()
def down(
    file: LauncherFile,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop its sweeps, bring their runs here unless they lie on a lasting disk, and take the cluster down."""
    from search.cluster import jobs, launcher

    values, console = launcher.read_launcher_file(file), Console()
    target = Path(f"runs-{values['cluster_name']}")
    folders: list[str] = []
    try:
        with jobs.client(str(file)) as client:
            every = jobs.jobs(client)
            running = [job for job in every if job.runs]
            folders = sorted({job.runs_dir for job in every if not is_url(job.runs_dir)})
            names = ", ".join(job.name for job in running)
            said = f"{names} will be stopped, and can be gone on with." if running else "No sweep is running."
            console.print(said, highlight=False)
            if not yes:
                typer.confirm(f"Take {values['cluster_name']} down?", abort=True)
            jobs.stop(client, running)
    except (SweepFailed, UserError) as error:
        console.print(f"Its sweeps cannot be asked for ({error}).", highlight=False, markup=False, soft_wrap=True)
        if not yes:
            typer.confirm(
                f"Take {values['cluster_name']} down all the same, and lose what is on its disks?", abort=True
            )
    for index, folder in enumerate(folders):
        local = target if len(folders) == 1 else target / str(index)
        if launcher.fetch(file, folder, local):
            console.print(f"{folder} was on the head's own disk; it is in {local} now", highlight=False)
    launcher.down(file)
