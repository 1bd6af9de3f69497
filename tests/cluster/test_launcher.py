"""Ray's on-premise launcher for real: cluster up over ssh, submit, status, logs, stop, and down.

uv run pytest -m cluster -n 0 -s tests/cluster/test_launcher.py     (needs root, iproute2, openssh-server and rsync)
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import BIN, REPOSITORY, Host, Lab, lab, missing, wait_until

SSHD = Path("/usr/sbin/sshd")
REASON = missing() or (None if SSHD.exists() and shutil.which("rsync") else "needs openssh-server and rsync")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SETTINGS = (
    "search.trials=4",
    "train.epochs=12",
    "search.concurrency=null",
    "audit=null",
    "data.validation_size=200",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
)


@pytest.fixture
def machines() -> Iterator[tuple[Lab, Host, list[Host]]]:
    """A laptop without Ray, and two machines that it reaches by ssh."""
    with lab() as made:
        laptop, *machines = [made.host() for _ in range(3)]
        (laptop.folder / "home" / ".ssh").mkdir()
        key = laptop.folder / "home" / ".ssh" / "id_ed25519"
        for path in (key, made.root / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        options = {
            "HostKey": made.root / "host_key",
            "AuthorizedKeysFile": key.with_suffix(".pub"),
            "PermitRootLogin": "yes",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
        }
        configuration = made.root / "sshd_config"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        for machine in machines:
            machine.start(made.root / "sshd.txt", str(SSHD), "-D", "-e", "-f", str(configuration), alone=True)
        yield made, laptop, machines


def launcher_file(made: Lab, head: Host, worker: Host) -> Path:
    """The template, filled in, with this installation, which all hosts see."""
    text = (REPOSITORY / "configs" / "cluster" / "onprem.yaml").read_text(encoding="utf-8")
    for field, value in {
        "FILL_IN_HEAD_ADDRESS": head.address,
        "FILL_IN_WORKER_ADDRESS": worker.address,
        "FILL_IN_USER": "root",
    }.items():
        text = text.replace(field, value)
    steps = [line for line in text.splitlines() if line.startswith("  - ") and "uv" in line and "source" not in line]
    assert len(steps) == 2
    text = text.replace(steps[0], f"  - ln -sfn {BIN.parent} ~/robustfront/.venv").replace(f"{steps[1]}\n", "")
    path = made.root / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_up_submit_status_logs_stop_resume_down(machines: tuple[Lab, Host, list[Host]]) -> None:
    made, laptop, (head, worker) = machines
    file = launcher_file(made, head, worker)
    runs = made.shared / "runs"
    environment = {name: value for name, value in laptop.environment.items() if not name.startswith("RAY_AUTH")}

    def robustfront(*arguments: str, expect: int = 0, answer: str = "") -> str:
        command = laptop.command(str(BIN / "robustfront"), *arguments)
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=400, input=answer
        )
        assert done.returncode == expect, done.stdout + done.stderr
        print(f"$ robustfront {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
        return done.stdout + done.stderr

    robustfront("cluster", "up", str(file))
    at = ("--cluster", str(file))

    def both_nodes() -> bool:
        output = robustfront("cluster", "status", *at)
        return all(re.search(rf"{re.escape(host.address)}\W+alive", output) for host in (head, worker))

    wait_until(both_nodes, "the worker has joined")
    for host in (laptop, head, worker):
        token = host.folder / "home" / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    quickstart = str(REPOSITORY / "tests" / "quickstart.yaml")
    robustfront("cluster", "submit", quickstart, *settings, *at, "--runs-dir", str(runs))
    wait_until(lambda: (runs / "quickstart" / "checkpoints").exists(), "a checkpoint")
    assert "running" in robustfront("cluster", "status", *at)
    assert "one driver at a time" in robustfront(
        "cluster", "submit", "quickstart", *at, "--runs-dir", str(runs), expect=2
    )
    robustfront("cluster", "stop", "quickstart", *at)
    output = robustfront("cluster", "logs", "quickstart", *at)
    assert "interrupted; everything is kept" in output
    robustfront("cluster", "submit", "quickstart", *at, "--runs-dir", str(runs))
    _follow_and_interrupt(made, laptop, at)
    assert "running" in robustfront("cluster", "status", *at)
    assert "Pareto-optimal settings" in robustfront("cluster", "logs", *at, "--follow")

    status = robustfront("status", str(runs / "quickstart"), "--json")
    values = json.loads(status)
    assert values["state"] == "complete"
    assert values["differences"] == []
    assert values["trials"] == {"complete": 4, "pruned": 0, "failed": 0, "running": 0, "budget": 4}

    _check_token(made, laptop, head, runs)
    robustfront("cluster", "submit", quickstart, *settings, *at, "--runs-dir", str(runs), "--name", "second")
    wait_until(lambda: (runs / "second" / "checkpoints").exists(), "a checkpoint")
    robustfront("cluster", "down", str(file), expect=130)  # it asks, and gets no answer
    assert "running" in robustfront("cluster", "status", *at)
    assert "second will be stopped" in robustfront("cluster", "down", str(file), answer="y\n")
    assert [host for host in (head, worker) if any(map(_is_raylet, host.processes()))] == []
    fetched = REPOSITORY / "runs-robustfront"
    try:
        # The lab's shared folder is a disk of this machine.
        for name, state in {"quickstart": "complete", "second": "interrupted"}.items():
            values = json.loads(robustfront("status", str(fetched / name), "--json"))
            assert (values["state"], values["differences"]) == (state, [])
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def _follow_and_interrupt(made: Lab, laptop: Host, at: tuple[str, str]) -> None:
    """Ctrl-C during `logs --follow` ends only the following."""
    output = made.root / "followed.txt"
    home_token = ("env", "-u", "RAY_AUTH_MODE", "-u", "RAY_AUTH_TOKEN_PATH")
    command = (str(BIN / "robustfront"), "cluster", "logs", *at, "--follow")
    following = laptop.start(output, *home_token, *command, cwd=REPOSITORY)
    wait_until(lambda: "examining the cluster's nodes" in output.read_text(), "the driver's output")
    following.send_signal(signal.SIGINT)
    assert following.wait(timeout=60) == 130
    assert "Traceback" not in output.read_text()


def _check_token(made: Lab, laptop: Host, head: Host, runs: Path) -> None:
    """The token is only in its file, and nothing answers without it."""
    token = (laptop.folder / "home" / ".ray" / "auth_token").read_text()
    folders = [runs, head.folder / "tmp" / "ray", made.root / "sshd.txt"]
    leaks = subprocess.run(["grep", "-rl", token, *map(str, folders)], capture_output=True, text=True).stdout
    assert leaks == ""
    for path in ("api/jobs/", "nodes?view=summary", "api/v0/nodes"):
        url = f"http://127.0.0.1:8265/{path}"
        code = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}")
        assert head.run(*code, url).stdout in ("401", "403"), path
        assert head.run(*code, "-H", f"Authorization: Bearer {token}", url).stdout == "200", path


def _is_raylet(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"
    except OSError:
        return False
