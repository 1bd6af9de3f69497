"""optuna-dashboard on a run's study."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError

from search.cli.main import WRONG_INPUT, run
from search.errors import UserError
from search.runs.folder import Run
from search.study import Ledger, open_storage
from search.study.dashboard import dashboard_server
from tests.browser import MARKS, chromium, open_at, wait_until
from tests.search.examples import result, small_config
from tests.search.tracking.examples import free_port

DATA = {"name": "mnist5k", "sha256": "0" * 64, "location": "here", "sizes": {"train": 300}}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four settings, of which 1 and 2 are on the front."""
    config = small_config(search={"trials": 4, "sampler": "random", "baselines": False})
    planned = Run.plan(config, tmp_path_factory.mktemp("runs"))
    planned.create(DATA)
    ledger = Ledger(open_storage(planned.storage_url), config, "new")
    ledger.adopt()
    for clean, robust in ((0.9, 0.2), (0.95, 0.3), (0.92, 0.5), (0.91, 0.4)):
        unit = ledger.ask()
        assert unit is not None
        ledger.finish(unit.number, result(clean, robust, seed=unit.seed))
    ledger.close()
    return planned


@contextmanager
def served(searched: Run) -> Iterator[str]:
    server, address = dashboard_server(searched, free_port())
    thread = threading.Thread(target=server.serve_forever)
    with server:
        thread.start()
        yield address
        server.shutdown()
    thread.join(10)


def test_the_storage_refuses_writes(searched: Run) -> None:
    storage = open_storage(searched.storage_url, create=False, read_only=True)
    study = storage.get_study_id_from_name(searched.name)
    assert len(storage.get_all_trials(study)) == 4
    with pytest.raises(StorageInternalError) as refused:
        storage.set_study_user_attr(study, "written", True)
    assert "readonly" in str(refused.value.__cause__)


class TestInABrowser:
    pytestmark = MARKS

    def test_it_shows_the_front(self, searched: Run) -> None:
        with served(searched) as address, chromium() as browser:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/dashboard/studies/\d+", address)
            open_at(browser, address, 1400)
            # Its plot of the front draws the other trials first, those on the front last.
            plot = "document.querySelector('#graph-pareto-front')"
            drawn = f"{plot} && {plot}.querySelectorAll('.point').length"
            wait_until(browser, f"{drawn} === 4", 120)
            xs = browser.execute_script(f"return {plot}.data.map(trace => [...(trace.x || [])])")
            assert sorted(xs[-1]) == [0.92, 0.95]


def test_without_the_package_the_command_says_how_to_install_it(searched: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UserError, match=r"not installed; install it with `uv sync --extra dashboard` or `pip install"):
        dashboard_server(searched, free_port())


def test_it_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ui", "--optuna", "--runs-dir", str(tmp_path)]) == WRONG_INPUT
    assert "RUN must be given with --optuna" in capsys.readouterr().err


def test_ctrl_c_stops_it(searched: Run) -> None:
    code = "from search.cli.main import main; main()"
    arguments = ["ui", str(searched.folder), "--optuna", "--port", str(free_port())]
    user = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    assert user.stdout.readline().startswith("http://127.0.0.1:")
    user.send_signal(2)
    assert user.stdout.read().endswith("Stopped.\n")
    assert user.wait(20) == 0
    user.stdout.close()
