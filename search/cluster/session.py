"""Ray for a sweep: a new one on this machine or a running cluster, and whether it is large enough."""

from __future__ import annotations

import functools
import gc
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psutil

from search.cluster.nodes import Node, alive
from search.cluster.ray_patches import JOB_VARIABLE, print_less, raylet, without_monitors
from search.cluster.token import auth_environment
from search.config import SweepConfig, available_cpus
from search.errors import Halted, SweepFailed, UserError
from search.runs.provenance import import_paths, source_modules, user_modules

_OBJECT_STORE_BYTES: Final = 200_000_000  # nothing large travels: every worker reads the data itself
_CONNECT_SECONDS: Final = 5.0
_FEWER_GPUS: Final = "lower it, or set it to 0 to use no GPU"

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the TensorBoard logger alone imports torch into the driver
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours lets the ledger finish writing
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # its default starts workers one after another; our searcher limits them
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own snapshots are never read: the ledger is the state
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints tables of failed trials whatever the verbosity
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use the driver's environment
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The processes that Ray starts in advance import what trials need while this one imports Tune and opens MLflow.
    "RAY_preload_python_modules": "search.worker.trial,trainables.trial",
    "RAY_idle_worker_killing_time_threshold_ms": "120000",  # else they end as soon as Tune reserves processors
}


@contextmanager
def connected(config: SweepConfig, address: str | None, *, trains: bool = True) -> Iterator[Connection]:
    """Starts Ray on this machine, or joins the cluster at ``address``; ``trains`` is False if only audits will run.

    Raises:
        UserError: The cluster does not answer, or is too small for the configuration.
        SweepFailed: Ray does not start.
    """
    if address is not None:
        _check_address(address)
    paths = import_paths(config.to_document())
    ours = _own_token() | _python_path(paths) if address is None else auth_environment()
    with _environment(_ENVIRONMENT | ours):
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {
                "num_cpus": available_cpus(),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
            }
        elif JOB_VARIABLE not in os.environ:  # the environment of a job has the source already
            modules = [str(path) for path in source_modules(paths).values()]
            options |= {"runtime_env": {"py_modules": modules, "excludes": ["**/__pycache__"]}}
        try:
            _start(address, options)
            print_less()
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it would report, the ledger does
            check_capacity(config, alive(), address, trains=trains)
            connection = Connection(address)
            try:
                yield connection
            finally:
                connection.close()
                connection.wait()
        finally:
            ray.shutdown()


def _start(address: str | None, options: dict[str, Any]) -> None:
    import ray

    try:
        with without_monitors():
            ray.init(address=address or "local", **options)
    except Exception as error:  # Ray raises nothing narrower if its processes do not start in time
        reason = str(error).split(". ")[0].strip().partition("\n")[0].rstrip(".")
        if address is not None:
            raise UserError(
                f"--address must be a Ray cluster that this machine is part of, got {address} ({reason}); "
                "start Ray here with `ray start`, or send the sweep with `robustfront cluster submit`"
            ) from None
        raise SweepFailed(
            f"Ray did not start on this machine ({reason}); run the same command again once the machine is less busy"
        ) from None


class Connection:
    """Ray while it is needed; ``address`` is the cluster's, or None if Ray was started for this sweep."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        process = raylet()
        if process is None:
            raise Halted("Ray died on this machine while it started")
        self._raylet = process
        self._ending: threading.Thread | None = None

    def check(self) -> None:
        """Raises ``Halted`` if Ray has died on this machine, which would end this process without a word later."""
        if not self._raylet.is_running() or self._raylet.status() == psutil.STATUS_ZOMBIE:
            raise Halted("Ray died on this machine: its raylet was killed, or the memory ran out")

    def close(self) -> None:
        """Begins to leave Ray, or to end it, in the background. Calling it again does nothing."""
        if self._ending is None:
            self._ending = threading.Thread(target=_shut_down, name="ray-shutdown")
            self._ending.start()

    def wait(self) -> None:
        if self._ending is not None:
            self._ending.join()


def _shut_down() -> None:
    """Closes Ray while other threads work, and keeps them from freeing object references meanwhile.

    That would end the process at once, without its results: "The core worker has already been shutdown". References
    that Tune leaves in cycles are collected before; any others after.
    """
    import ray

    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


@functools.cache
def _own_token() -> dict[str, str]:
    """A token that keeps other users of this machine, who can reach our Ray's ports, from running anything on it.

    All sweeps of this process share it, because Ray reads it only once, on import.
    """
    if "ray" in sys.modules:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _python_path(paths: Sequence[str]) -> dict[str, str]:
    """Lets workers on this machine import the user's own modules from where this process found them."""
    folders = dict.fromkeys(str(module.parent) for module in user_modules(paths).values())
    if not folders:
        return {}
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([*folders, *([before] if before else [])])}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check_address(address: str) -> None:
    """Reports a closed port in seconds; Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--address must be HOST:PORT or auto, got {address}; a cluster's default port is 6379")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address must be a Ray cluster that answers, got {address} ({error}); "
            "start one with `ray start --head` or leave --address out"
        ) from None


def check_machine(config: SweepConfig, address: str | None) -> None:
    """Checks this machine's processors before Ray starts, which counts its GPUs."""
    if address is None:
        check_capacity(config, [Node("", "", available_cpus(), sys.maxsize)], None)


def check_capacity(config: SweepConfig, nodes: Sequence[Node], address: str | None, *, trains: bool = True) -> None:
    """Checks that trials (unless only audits will run) and audits fit the nodes; a ``UserError`` says what does not.

    Without an address, the one node is this machine. It must also hold as many trials as are configured.
    """
    most = max(node.cpus for node in nodes)
    where = "this machine has" if address is None else "the largest node has"
    cpus, gpus = config.audit_resources
    needed = [("resources.cpus_per_trial", config.resources.cpus_per_trial)] if trains else []
    needed += [("audit.cpus", cpus)] if config.audit is not None else []
    for setting, each in needed:
        if each > most:
            raise UserError(f"{setting} must be at most {most:g} ({where} that many), got {each}; lower it")
    if trains:
        _check_trials(config, nodes, here=address is None)
    if config.audit is not None and not _room(nodes, cpus, gpus):
        raise UserError(
            f"audit.gpus must fit a node beside audit.cpus {cpus}, got {gpus:g} ({_kinds(nodes)}); {_FEWER_GPUS}"
        )


def _check_trials(config: SweepConfig, nodes: Sequence[Node], *, here: bool) -> None:
    each, gpus = config.resources.cpus_per_trial, config.resources.gpus_per_trial
    at_a_time = (config.search.concurrency or 1) if here else 1
    if here and at_a_time * each > nodes[0].cpus:
        raise UserError(
            f"search.concurrency must be at most {nodes[0].cpus // each:g} (this machine has {nodes[0].cpus:g} "
            f"processors, a trial takes {each}), got {at_a_time}; lower it or leave it out"
        )
    if capacity(config, nodes) < at_a_time:
        rule = f"leave room for search.concurrency {at_a_time}" if here else f"fit a node beside cpus_per_trial {each}"
        present = f"this machine has {nodes[0].gpus:g} GPUs" if here else _kinds(nodes)
        raise UserError(f"resources.gpus_per_trial must {rule}, got {gpus:g} ({present}); {_FEWER_GPUS}")


def _kinds(nodes: Sequence[Node]) -> str:
    """Describes the nodes, each kind once."""
    kinds = dict.fromkeys(f"{node.cpus:g} processors and {node.gpus:g} GPUs" for node in nodes)
    return f"there {'is a node' if len(nodes) == 1 else 'are nodes'} with {', or '.join(kinds)}"


def capacity(config: SweepConfig, nodes: Sequence[Node]) -> int:
    """How many trials fit the nodes at the same time."""
    return _room(nodes, config.resources.cpus_per_trial, config.resources.gpus_per_trial)


def _room(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """How many tasks fit the nodes at the same time. No task spans two nodes, and no fraction of a GPU two GPUs."""
    total = 0
    for node in nodes:
        fit = int(node.cpus) // cpus
        if gpus >= 1:
            fit = min(fit, int(node.gpus // gpus))
        elif gpus > 0:
            fit = min(fit, int(node.gpus) * int(1 / gpus + 1e-9))
        total += fit
    return total


def concurrency(config: SweepConfig) -> int:
    """Trials at the same time: as configured, or as many as fit the present nodes."""
    return config.search.concurrency or max(1, min(capacity(config, alive()), config.budget + len(config.baselines)))
