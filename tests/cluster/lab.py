"""Several hosts on one machine: network namespaces on a bridge, each with its own address, name, home and /tmp.

They share one folder, as over NFS. The lab needs root and Debian's iproute2.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PORT = 6379
_BRIDGE, _NETWORK = "rflab", "10.213.77"
GATEWAY = f"{_NETWORK}.254"  # this machine itself on the bridge


def missing() -> str | None:
    """Why this machine cannot run the lab; None if it can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs iproute2"
    if Path("/sys/class/net", _BRIDGE).exists():
        return (
            f"another lab is running, or an interrupted one left its network; if so, remove it: ip link del {_BRIDGE}; "
            "for host in $(ip netns list | grep -o 'rfhost[0-9]*'); do ip netns del $host; done"
        )
    tried = subprocess.run(["ip", "link", "add", _BRIDGE, "type", "bridge"], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"needs the right to make network devices ({tried.stderr.strip()})"
    _ip("link", "del", _BRIDGE)
    return None


class Host:
    """One host.

    Args:
        lab: The lab of the host.
        index: The last number of its address.
    """

    def __init__(self, lab: Lab, index: int) -> None:
        self.name, self.address = f"rfhost{index}", f"{_NETWORK}.{index}"
        self.folder, self._token = lab.root / self.name, lab.token
        self._cable = f"rfcable{index}"
        self._started: list[subprocess.Popen[str]] = []
        for part in ("tmp", "home"):
            (self.folder / part).mkdir(parents=True)
        # sshd takes a session's home from /etc/passwd.
        users = Path("/etc/passwd").read_text()
        own = re.sub(r"^(root:(?:[^:]*:){4}).*$", rf"\g<1>{self.folder}/home:/bin/bash", users, flags=re.MULTILINE)
        (self.folder / "passwd").write_text(own)
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self._cable, "master", _BRIDGE, "up")
        for command in (
            ["link", "set", "lo", "up"],
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["route", "add", "default", "via", GATEWAY],
        ):
            _ip("-n", self.name, *command)

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs a command on the host."""
        inside = (
            'mount --bind "$0/tmp" /tmp && mount --bind "$0/passwd" /etc/passwd && hostname "${0##*/}" && exec "$@"'
        )
        return [
            *("ip", "netns", "exec", self.name, "unshare", "--mount", "--uts", "sh", "-c"),
            *(inside, str(self.folder), *arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_", "UV_", "PYTEST_", "COV_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        return kept | {
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "home" / "cache"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
            "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
            "OMP_NUM_THREADS": "1",
        }

    def run(
        self, *arguments: str, timeout: float = 120, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host and waits for its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            **{"cwd": self.folder / "home", **options},
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def start(self, output: Path, *arguments: str, alone: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Starts a command on the host. If ``alone``, it sees no other processes, and its `ray stop` ends none."""
        with output.open("a") as file:
            process = subprocess.Popen(
                self.command(*(("unshare", "--pid", "--fork", "--mount-proc") if alone else ()), *arguments),
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                **{"cwd": self.folder / "home", **options},
            )
        self._started.append(process)
        return process

    def ray(self, head: Host | None = None, cpus: int = 1, before: str = "") -> None:
        """Starts Ray on the host: a node of ``head``'s cluster, or the head of a new one.

        Args:
            head: Head of the cluster to join.
            cpus: Processors of the node.
            before: Shell commands to run first; Ray and all its processes see their mounts and variables.
        """
        join = ["--head", f"--port={PORT}"] if head is None else [f"--address={head.address}:{PORT}"]
        self.run(
            *("sh", "-ec", f'{before}\nexec "$@"', "sh") if before else (),
            *(str(BIN / "ray"), "start", *join, f"--node-ip-address={self.address}", f"--num-cpus={cpus}"),
            *("--object-store-memory=100000000", "--disable-usage-stats"),
        )

    def processes(self) -> list[int]:
        """The ids of all processes on the host."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True).stdout
        return [int(pid) for pid in pids.split()]

    def kill(self) -> None:
        """Kills everything on the host at once, as a power loss would."""
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        shutil.rmtree(self.folder / "tmp" / "ray", ignore_errors=True)

    def plug(self, *, connected: bool) -> None:
        """Plugs in the network cable, or pulls it out."""
        _ip("link", "set", self._cable, "up" if connected else "down")

    def remove(self) -> None:
        self.kill()
        for process in self._started:
            process.wait()
        _ip("netns", "del", self.name)


class Lab:
    """The hosts, their token, and the folder that they share."""

    def __init__(self, root: Path) -> None:
        self.root, self.shared, self.token = root, root / "shared", root / "token"
        self.shared.mkdir()
        self.token.write_text("0123456789abcdef" * 4)
        self.token.chmod(0o600)
        self.hosts: list[Host] = []

    def host(self) -> Host:
        """Adds a host."""
        self.hosts.append(Host(self, len(self.hosts) + 1))
        return self.hosts[-1]

    def cluster(self, count: int) -> list[Host]:
        """Adds ``count`` hosts, the head first, and starts Ray with one processor on each."""
        head, *workers = hosts = [self.host() for _ in range(count)]
        head.ray()
        for worker in workers:
            worker.ray(head)
        return hosts


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab while the context lasts. Its folder is not under /tmp, because each host has its own /tmp."""
    root = Path(tempfile.mkdtemp(prefix="robustfront-lab-", dir="/var/tmp"))
    _ip("link", "add", _BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{GATEWAY}/24", "dev", _BRIDGE)
    _ip("link", "set", _BRIDGE, "up")
    made = Lab(root)
    try:
        yield made
    finally:
        for host in made.hosts:
            host.remove()
        _ip("link", "del", _BRIDGE)
        shutil.rmtree(root, ignore_errors=True)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 240) -> float:
    """Waits and returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)
    return time.monotonic() - began


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
