"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from search.runs.folder import runs_folder
from search.runs.layout import RUNS_DIR, SWEEP_FILE

_RUNS_HELP = "Folder of the runs, or a URL such as s3://BUCKET/FOLDER."
RunsDir = Annotated[Path, Option("--runs-dir", metavar="FOLDER|URL", parser=runs_folder, help=_RUNS_HELP)]
Config = Annotated[Path, Argument(help="Configuration, e.g. configs/quickstart.yaml.")]


def _known_runs() -> list[str]:
    """The names of the runs in the usual place, for the shell's completion."""
    return sorted(path.parent.name for path in RUNS_DIR.glob(f"*/{SWEEP_FILE}"))


RunName = Annotated[
    str,
    Argument(
        metavar="RUN", autocompletion=_known_runs, help="Name of a run under the runs folder, its path, or its URL."
    ),
]
Address = Annotated[str | None, Option(help="HOST:PORT of a Ray cluster, or auto. Default: this machine.")]
Quiet = Annotated[bool, Option("--quiet", help="Print only errors and the result's folder.")]
