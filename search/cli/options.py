"""Arguments and options that several commands share, and the command line as it was typed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from search.runs.layout import RUNS_DIR


def _runs_folder(value: str) -> Path:
    from search.runs.folder import runs_folder

    return runs_folder(value)


_RUNS_HELP = "Folder of the runs, or a URL such as s3://BUCKET/FOLDER."
RunsDir = Annotated[Path, Option("--runs-dir", metavar="FOLDER|URL", parser=_runs_folder, help=_RUNS_HELP)]
Config = Annotated[Path, Argument(help="Configuration, e.g. configs/quickstart.yaml.")]


def _known_runs() -> list[str]:
    """The names of the runs in the default folder, for shell completion."""
    from search.runs.folder import known_runs

    return known_runs(RUNS_DIR)


RunName = Annotated[
    str,
    Argument(
        metavar="RUN", autocompletion=_known_runs, help="Name of a run under the runs folder, its path, or its URL."
    ),
]
Address = Annotated[str | None, Option(help="HOST:PORT of a Ray cluster, or auto. Default: this machine.")]
Quiet = Annotated[bool, Option("--quiet", help="Print only errors and the result's folder.")]


def typed(context: Context) -> str:
    """The command line without passwords, so that it can be recorded."""
    from search.config import without_passwords

    return shlex.join(["robustfront", *map(without_passwords, context.obj)])
