"""The ledger and its lease on a real PostgreSQL server, which the test starts on loopback and stops."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from sqlalchemy import text

from search.cli.status import read_status
from search.errors import UserError
from search.runs.folder import Run
from search.study import Lease, Ledger, holder, open_storage, read_records, read_warm_start
from tests.benchmarks.simulator import search_again
from tests.search.examples import result, small_config
from tests.search.study.test_warm_start import DATA


def server_programs() -> Path | None:
    """The newest installed server's programs; Debian keeps them off the PATH."""
    initdb = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(initdb).parent if initdb else folders[-1].parent if folders else None


PROGRAMS = server_programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A fresh server's URL. PostgreSQL refuses to run as root, so root runs it as the user that Debian made for it."""
    assert PROGRAMS is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="robustfront-postgresql-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(PROGRAMS / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder)

    run("initdb", "-U", "robustfront", "--auth=trust", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    run("pg_ctl", "start", "-w", "-o", options, "-l", str(folder / "log"))
    try:
        yield f"postgresql://robustfront@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "stop", "-w", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


Opening = Callable[[str], RDBStorage]


@pytest.fixture
def opened() -> Iterator[Opening]:
    """Opens storages whose connections do not outlive the test."""
    with ExitStack() as engines:

        def open_(url: str, *, create: bool = True) -> RDBStorage:
            storage = open_storage(url, create=create)
            engines.callback(storage.engine.dispose)
            return storage

        yield open_


def run_down(ledger: Ledger) -> list[str]:
    numbers = []
    while (unit := ledger.ask()) is not None:
        numbers.append(unit.number)
        ledger.report(unit.number, {"epoch": 1, "seconds": 1.0, "train_loss": 0.5})
        ledger.finish(unit.number, result(0.9, 0.5))
    return numbers


def test_a_search_runs_is_resumed_and_refused_a_second_time(url: str, opened: Opening) -> None:
    config = small_config(name="resumed")
    first = Ledger(opened(url), config, "new")
    assert [unit.number for unit in (first.ask(), first.ask(), first.ask()) if unit] == ["B0", "B1", "0"]
    second = Ledger(opened(url), config, "resume")
    second.adopt()
    assert run_down(second) == ["B0", "B1", "0", "1", "2", "3"]
    reader = Ledger(opened(url), config, "read")
    assert reader.complete
    assert [record.epochs for record in reader.records()] == [1] * 6
    with pytest.raises(UserError, match="name must be new in this storage"):
        Ledger(opened(url), config, "new")


def test_suggestions_are_those_of_sqlite(url: str, opened: Opening, tmp_path: Path) -> None:
    config = small_config(name="same", search={"trials": 13})
    ledgers = [Ledger(opened(where), config, "new") for where in (url, f"sqlite:///{tmp_path / 'study.db'}")]
    for ledger in ledgers:
        run_down(ledger)
    in_postgresql, in_sqlite = ([record.parameters for record in ledger.records()] for ledger in ledgers)
    assert in_postgresql == in_sqlite


def test_the_lease_keeps_a_second_driver_out(url: str, opened: Opening) -> None:
    engine = opened(url).engine
    assert holder(engine, "leased") is None
    lease = Lease(engine, "leased")
    with pytest.raises(UserError, match="one driver at a time"):
        Lease(engine, "leased")
    lease.release()
    Lease(engine, "leased").release()


def test_whoever_only_reads_leaves_no_connection_open(url: str, opened: Opening, tmp_path: Path) -> None:
    run = Run.plan(small_config(name="read", storage={"url": url}), tmp_path)
    run.create(DATA)
    run_down(Ledger(opened(url), run.config, "new"))
    warm = Run.plan(small_config(name="warm", search={"warm_start": ["read"]}), tmp_path)
    with opened(url).engine.connect() as connection:

        def clients() -> int:
            query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return int(connection.execute(text(query)).scalar_one())

        before = clients()
        assert read_status("read", tmp_path).state == "complete"
        assert len(read_records(run)) == 6
        assert len(read_warm_start(warm, DATA).trials) == 4
        assert len(search_again(run, run.config)[0].records()) == 6
        gc.collect()  # psycopg warns of connections that are left to it
        deadline = time.monotonic() + 10
        while clients() > before:  # the server takes a moment to end one
            assert time.monotonic() < deadline
            time.sleep(0.05)
