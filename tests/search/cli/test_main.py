"""The command line: exit codes, one line per error, and what ``pareto`` writes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from search.cli import main, options
from search.cli.main import run
from search.config import load
from search.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    Halted,
    Interrupted,
    RobustfrontError,
    SweepFailed,
    UserError,
)
from search.evaluation.single import parse_parameters
from search.results.writing import write_tables
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from search.study import Ledger, open_storage
from tests.search.examples import result, small_config

QUICKSTART = Path(__file__).parents[2] / "quickstart.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose trials are complete."""
    opened = Run.plan(small_config(), tmp_path_factory.mktemp("machine") / "runs")
    opened.create(prepare_dataset(opened.config.data))
    with closing(Ledger(open_storage(opened.storage_url), opened.config, "new")) as ledger:
        clean = 0.9
        while (task := ledger.ask()) is not None:
            clean += 0.01
            ledger.finish(task.number, result(clean, 1.3 - clean))
        write_tables(opened, ledger.records())
    return opened.folder


@pytest.mark.parametrize("style", ["table", "json", "yaml", "csv"])
def test_pareto_leaves_stdout_open(finished: Path, style: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pareto", str(finished), "--format", style]) == DONE
    assert not sys.stdout.closed
    assert run(["pareto", str(finished), "--format", style]) == DONE
    assert "0.9" in capsys.readouterr().out or style == "table"


def test_runs_are_listed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "--runs-dir", str(finished.parent), "--json"]) == DONE
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["state"], row["finished"], row["budget"]) == ("small", "complete", 4, 4)
    assert row["best"] == {"clean_accuracy": pytest.approx(0.96), "robust_accuracy": pytest.approx(0.37)}
    assert run(["runs", "--runs-dir", str(finished.parent)]) == DONE
    assert "4 of 4" in capsys.readouterr().out
    assert run(["runs", "--runs-dir", str(finished)]) == DONE
    assert capsys.readouterr().out.startswith("no runs under ")


def test_a_shell_completes_commands_and_runs(finished: Path) -> None:
    environment = {**os.environ, "_ROBUSTFRONT_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    for words, expected in (("robustfront report sm", ["small"]), ("robustfront status s", ["small"])):
        done = subprocess.run(
            [sys.executable, "-m", "search"],
            env={**environment, "COMP_WORDS": words},
            cwd=finished.parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == expected, done.stderr


def test_report_is_written_into_the_folder(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(finished)]) == DONE
    path = Path(capsys.readouterr().out.strip())
    assert path == finished / "report.html"
    assert "This card could not be made" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("style", ["table", "json"])
def test_pareto_refuses_an_output_that_cannot_be_written(
    finished: Path, tmp_path: Path, style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", style, "--output", str(tmp_path / "nowhere" / "front")]
    assert run(["pareto", str(finished), *words]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert "--output must be writable" in errors
    assert len(errors.splitlines()) == 1


def test_exported_commands_work_where_the_folder_is(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = shutil.copytree(finished, tmp_path / "elsewhere")
    monkeypatch.chdir(elsewhere)
    assert run(["pareto", str(elsewhere), "--format", "json"]) == DONE
    printed = json.loads(capsys.readouterr().out)
    written = YAML(typ="safe").load(elsewhere / "pareto.yaml")
    assert [entry["command"] for entry in printed] == [entry["command"] for entry in written]
    assert str(finished) not in (elsewhere / "pareto.yaml").read_text(encoding="utf-8")
    for entry in written:
        program, command, config, *options = shlex.split(entry["command"])
        assert (program, command) == ("robustfront", "train")
        candidate = parse_parameters(load(Path(config)), [word for word in options if word != "--param"])
        assert candidate.parameters == entry["params"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("s must be in [1, 2], got 3"), WRONG_INPUT),
        (SweepFailed("the disk is full"), FAILED),
        (Halted("the store does not answer"), FAILED),
        (Interrupted("interrupted"), INTERRUPTED),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: RobustfrontError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("search.runs.folder.open_run", fail)
    assert run(["surfaces", "run"]) == error.exit_code == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"robustfront: {error}\n")


@pytest.mark.parametrize("error", [Interrupted(), KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_without_a_message_says_nothing(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("search.runs.folder.open_run", fail)
    assert run(["surfaces", "run"]) == INTERRUPTED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:1/db",
        "postgresql://me@127.0.0.1:1/db?password=secret",
        "postgresql://me:secret@127.0.0.1:port/db",
        "no-such-db://me:secret@127.0.0.1/db",
    ],
)
def test_a_storage_that_does_not_answer_is_named_without_its_password(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", f"storage.url={url}", "--runs-dir", str(tmp_path / "runs")]
    assert run(["sweep", str(QUICKSTART), *words]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert "storage.url must be a database" in errors
    assert "://me@127.0.0.1" in errors
    assert "secret" not in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_the_command_line_is_recorded_without_passwords() -> None:
    program = typer.main.get_command(main.app)
    context = typer.Context(program, obj=["evaluate", "run/0", "--set", "storage.url=postgresql://me:secret@host/db"])
    typed = options.typed(context)
    assert typed == "robustfront evaluate run/0 --set storage.url=postgresql://me@host/db"


def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pareto", "run", "--format", "xml"]) == WRONG_INPUT
    errors = capsys.readouterr().err
    assert "Invalid value for '--format'" in errors
    assert errors.endswith("; see `robustfront pareto --help`\n")
    assert len(errors.splitlines()) == 1
    assert run(["no-such-command"]) == WRONG_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run([]) == WRONG_INPUT
    assert "Usage: robustfront" in capsys.readouterr().out
