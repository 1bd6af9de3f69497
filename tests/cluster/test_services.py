"""PostgreSQL as the ledger of eight workers, restarted in the middle, and an MLflow server that is down for a minute.

uv run pytest -m cluster -n 0 -s tests/cluster/test_services.py     (needs root, iproute2 and postgresql)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster.lab import BIN, PORT, REPOSITORY, Host, Lab, lab, missing, wait_until
from tests.search.study.test_postgresql import PROGRAMS

REASON = missing() or (None if PROGRAMS else "needs postgresql")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

TRIALS, WORKERS = 48, 8
DOWN_SECONDS = 60
MLFLOW = "http://127.0.0.1:5000"
SETTINGS = (
    f"search.trials={TRIALS}",
    f"search.concurrency={WORKERS}",
    "train.epochs=10",
    "audit=null",
    "data.validation_size=200",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
    "storage.url=postgresql://robustfront:secret@127.0.0.1/postgres",
    f"tracking.uri={MLFLOW}",
)


class PostgreSQL:
    """A server on a host's loopback."""

    def __init__(self, made: Lab, host: Host) -> None:
        made.root.chmod(0o711)
        self._host, self._folder = host, made.root / "postgresql"
        self._folder.mkdir()
        shutil.chown(self._folder, "postgres")
        password = made.root / "password"
        password.write_text("secret\n")
        shutil.chown(password, "postgres")
        self.run("initdb", "-U", "robustfront", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        self.start()

    def run(self, program: str, *arguments: str) -> None:
        assert PROGRAMS is not None
        words = ("runuser", "-u", "postgres", "--", str(PROGRAMS / program), "-D", str(self._folder / "data"))
        self._host.run(*words, *arguments, cwd=self._folder)

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -k {self._folder}"
        self.run("pg_ctl", "start", "-w", "-o", options, "-l", str(self._folder / "log"))

    def restart(self) -> None:
        """Restarts as after a crash."""
        self.run("pg_ctl", "stop", "-w", "-m", "immediate")
        self.start()


@pytest.fixture
def host() -> Iterator[tuple[Lab, Host]]:
    with lab() as made:
        yield made, made.host()


def mlflow(made: Lab, host: Host) -> subprocess.Popen[str]:
    """Starts MLflow's server; returns once it answers."""
    database, artifacts = f"sqlite:///{made.root / 'mlflow.db'}", str(made.root / "artifacts")
    server = host.start(
        made.root / "mlflow.txt",
        *("env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true", str(BIN / "mlflow")),
        *("server", "--workers", "1", "--host", "127.0.0.1", "--port", "5000"),
        *("--backend-store-uri", database, "--artifacts-destination", artifacts),
    )
    wait_until(lambda: host.run("curl", "-sf", f"{MLFLOW}/health", check=False).returncode == 0, "MLflow's server")
    return server


def test_the_database_restarts_and_mlflow_is_down_for_a_minute(host: tuple[Lab, Host]) -> None:
    made, machine = host
    postgresql = PostgreSQL(made, machine)
    server = mlflow(made, machine)
    machine.ray(cpus=WORKERS)
    runs, output = made.root / "runs", made.root / "output.txt"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    quickstart = str(REPOSITORY / "tests" / "quickstart.yaml")
    at = ("--address", f"{machine.address}:{PORT}", "--runs-dir", str(runs))
    driver = machine.start(output, str(BIN / "robustfront"), "sweep", quickstart, *settings, *at)

    def ended(count: int) -> bool:
        assert driver.poll() is None, output.read_text()
        return output.read_text().count("hypervolume") >= count

    wait_until(lambda: ended(4), "four trials", seconds=400)
    postgresql.restart()
    wait_until(lambda: ended(10), "trials after the restart", seconds=400)
    server.terminate()
    server.wait(timeout=60)
    time.sleep(DOWN_SECONDS)
    before = output.read_text().count("hypervolume")
    assert ended(before)
    mlflow(made, machine)
    assert driver.wait(timeout=900) == 0, output.read_text()
    print(output.read_text())

    environment = machine.environment | {"PGPASSWORD": "secret"}
    status = subprocess.run(
        machine.command(str(BIN / "robustfront"), "status", "quickstart", "--json", "--runs-dir", str(runs)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    values = json.loads(status.stdout)
    assert values["differences"] == []
    assert values["state"] == "complete"
    assert values["trials"] == {"complete": TRIALS, "pruned": 0, "failed": 0, "running": 0, "budget": TRIALS}
    leaks = subprocess.run(
        ["grep", "-rl", "robustfront:secret", str(runs), str(made.root / "mlflow.db"), str(output)],
        capture_output=True,
        text=True,
    )
    assert leaks.stdout == ""  # the password is not in the run's folder, in MLflow or in the output
