"""A sweep on an MLflow server that checks password and host name, set up as in configs/cluster/README.md.

uv run pytest -m cluster -n 0 -s tests/cluster/test_mlflow_auth.py     (needs root and iproute2)
"""

from __future__ import annotations

import configparser
import re
import stat
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.cluster.lab import BIN, REPOSITORY, Host, Lab, lab, missing, wait_until

REASON = missing() or (None if find_spec("flask_wtf") else "needs mlflow[auth]")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

QUICKSTART = REPOSITORY / "tests" / "quickstart.yaml"
SETTINGS = (
    "search.trials=3",
    "train.epochs=3",
    "audit=null",
    "data.validation_size=200",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
)
TRIALS = 5  # with the baselines
API = "api/2.0/mlflow/experiments/search?max_results=1"


@pytest.fixture
def hosts() -> Iterator[tuple[Lab, Host, Host]]:
    """One for MLflow, and one for Ray."""
    with lab() as made:
        yield made, made.host(), made.host()


def start(made: Lab, host: Host) -> tuple[str, str]:
    """Starts the server with the commands of that README; returns its address and password once it answers."""
    folder = made.root / "mlflow"
    folder.mkdir()
    text = (REPOSITORY / "configs" / "cluster" / "README.md").read_text(encoding="utf-8")
    [commands] = [
        block for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "basic-auth" in block
    ]
    script = commands.replace("10.0.0.5", host.address).replace("/srv/mlflow", str(folder))
    host.start(made.root / "mlflow.txt", "bash", "-ec", script)
    url = f"http://{host.address}:5000"
    wait_until(lambda: host.run("curl", "-sf", f"{url}/health", check=False).returncode == 0, "MLflow's server")
    for file in ("auth.ini", "auth.db", "mlflow.db"):
        assert stat.S_IMODE((folder / file).stat().st_mode) == 0o600, file
    written = configparser.ConfigParser()
    written.read(folder / "auth.ini")
    return url, written["mlflow"]["admin_password"]


def test_a_sweep_records_on_a_server_that_checks_password_and_host_name(hosts: tuple[Lab, Host, Host]) -> None:
    made, services, head = hosts
    url, password = start(made, services)
    head.ray(cpus=2, before=f"export MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD={password}")
    config, runs = made.root / "config.yaml", made.shared / "runs"
    config.write_text(f"{QUICKSTART.read_text(encoding='utf-8')}\ntracking: {{uri: '{url}'}}\n", encoding="utf-8")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    at, runs_dir = ("--address", "auto"), ("--runs-dir", str(runs))
    outputs: list[str] = []

    def robustfront(*arguments: str, password: str | None, expect: int = 0) -> str:
        login = () if password is None else ("MLFLOW_TRACKING_USERNAME=admin", f"MLFLOW_TRACKING_PASSWORD={password}")
        done = head.run("env", *login, str(BIN / "robustfront"), *arguments, check=False, timeout=400)
        print(f"$ robustfront {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == expect
        outputs.append(done.stdout + done.stderr)
        assert "Traceback" not in outputs[-1]
        return outputs[-1]

    def answer(*options: str, path: str = API) -> str:
        return head.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options, f"{url}/{path}").stdout

    user = ("-u", f"admin:{password}")
    assert answer(*user) == "200"
    assert answer() == "401"
    assert answer("-u", "admin:wrong") == "401"
    assert answer(*user, "-H", "Host: example.org:5000") == "403"
    assert answer("-H", "Host: example.org:5000", path="health") == "200"

    refused = f"{url} rejects the user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    doctor = ("doctor", *at, "--config", str(config), *runs_dir)
    assert re.search(rf"problem +tracking +{re.escape(refused)}", robustfront(*doctor, password=None, expect=1))
    assert re.search(rf"ok +tracking +MLflow at {url} answers", robustfront(*doctor, password=password))

    # The driver is a child process of Ray, and gets the password from Ray's environment.
    jobs = ("--cluster", "127.0.0.1:8265")
    robustfront("cluster", "submit", str(config), *settings, *jobs, *runs_dir, password=None)
    assert "Pareto-optimal settings" in robustfront("cluster", "logs", *jobs, "--follow", password=None)
    agree = f"ledger, trials.csv and MLflow agree on {TRIALS} trials"
    assert agree in robustfront("status", "quickstart", *runs_dir, password=password)
    assert f"{url}/#/experiments/" in robustfront("ui", "quickstart", *runs_dir, password=password)

    output = robustfront("sweep", str(config), *settings, *at, *runs_dir, "--name", "wrong", password="wrong")
    lags, missed = (line for line in output.splitlines() if refused in line)
    assert lags == f"MLflow is behind ({refused}); the sweep continues"
    assert missed.startswith(f"MLflow lacks {TRIALS} trials ({refused}); `robustfront resume ")
    assert refused in robustfront("status", "wrong", *runs_dir, password=None)
    credentials = head.folder / "home" / ".mlflow" / "credentials"
    credentials.parent.mkdir()
    credentials.write_text(f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {password}\n")
    assert "MLflow lacks" not in robustfront("resume", "wrong", *at, *runs_dir, password=None)
    assert agree in robustfront("status", "wrong", *runs_dir, password=None)
    assert f"{url}/#/experiments/" in robustfront("ui", "wrong", *runs_dir, password=None)

    assert not [text for text in outputs if password in text]
    places = (runs, head.folder / "tmp", made.root / "mlflow.txt", made.root / "mlflow" / "mlflow.db")
    leaks = subprocess.run(["grep", "-rl", password, *map(str, places)], capture_output=True, text=True).stdout
    assert leaks == ""
