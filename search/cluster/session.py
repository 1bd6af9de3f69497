"""Ray for a sweep: one of our own on this machine or a running cluster, and whether it is large enough."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psutil

from search.cluster.nodes import Node, alive, shipped
from search.cluster.token import auth_environment
from search.config.schema import SweepConfig, available_cpus
from search.errors import Halted, SweepFailed, UserError

_OBJECT_STORE_BYTES: Final = 200_000_000  # nothing large travels: every worker reads the data itself
_CONNECT_SECONDS: Final = 5.0
_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # which Ray sets for what runs as a job

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the TensorBoard logger alone imports torch into the driver
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours keeps the ledger whole
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # its default starts workers one after another; our searcher limits them
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own snapshots are never read: the ledger is the state
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints tables of failed trials whatever the verbosity
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers on this machine need no environment of their own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The processes that Ray starts beforehand import what trials need while this one imports Tune and opens MLflow.
    "RAY_preload_python_modules": "search.worker.trial,trainables.trial",
    "RAY_idle_worker_killing_time_threshold_ms": "120000",  # or they would be ended as soon as Tune reserves processors
}


@contextmanager
def connected(config: SweepConfig, address: str | None, *, trains: bool = True) -> Iterator[Connection]:
    """A Ray of our own on this machine, or the cluster at ``address``.

    Args:
        config: What trials and audits need must be there.
        address: The cluster's; None for a Ray of our own.
        trains: Whether there are trials to be run, and not audits alone.

    Yields:
        The connection.

    Raises:
        UserError: The cluster does not answer, or has not what the configuration asks for.
        SweepFailed: Our own Ray does not start.
    """
    if address is not None:
        _check_address(address)
    with _environment(_ENVIRONMENT | (_own_token() if address is None else auth_environment())):
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {
                "num_cpus": available_cpus(),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
            }
        elif _JOB not in os.environ:  # a job's own environment has brought the source already
            options |= {"runtime_env": shipped()}
        try:
            _start(address, options)
            _say_less()
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it would report, the ledger does
            _check_capacity(config, alive(), address, trains=trains)
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
        with _without_monitors():
            ray.init(address=address or "local", **options)
    except Exception as error:  # Ray has nothing narrower for processes that do not come up in time
        reason = str(error).split(". ")[0].strip().partition("\n")[0].rstrip(".")
        if address is not None:
            raise UserError(
                f"--address must be a Ray cluster that this machine is part of, got {address} ({reason}); "
                "start Ray here with `ray start`, or send the sweep with `robustfront cluster submit`"
            ) from None
        raise SweepFailed(
            f"Ray did not start on this machine ({reason}); run the same command again once the machine is less busy"
        ) from None


@contextmanager
def _without_monitors() -> Iterator[None]:
    """Has a Ray of our own start no autoscaler, nothing that sends workers' output to the driver, and no Jobs API.

    We use none of them, and two processes less are a second and 180 MB; but ``ray.init`` has no options for them. The
    last is left out where what it needs is not installed.
    """
    parameter: Any = importlib.import_module("ray._private.parameter")
    needed: Any = importlib.import_module("ray._private.utils")
    every, error = parameter.RayParams, needed.get_dashboard_dependency_error
    parameter.RayParams = partial(every, no_monitor=True, include_log_monitor=False)
    needed.get_dashboard_dependency_error = lambda: ImportError("not wanted")
    try:
        yield
    finally:
        parameter.RayParams, needed.get_dashboard_dependency_error = every, error


def _say_less() -> None:
    """Keeps Ray's own messages off the terminal: of nodes that go the sweep tells itself, of processes its ledger.

    Ray has no option for them. What it says of memory stays, for nobody else does.
    """
    worker: Any = importlib.import_module("ray._private.worker")
    original = worker.print_to_stdstream

    def filtered(data: dict[str, Any], ignore_prefix: bool) -> None:
        lines = [line for line in data["lines"] if "memory" in line]
        if lines:
            original({**data, "lines": lines}, ignore_prefix)

    if original.__module__ != __name__:
        worker.print_to_stdstream = filtered


def use_waiting_processes() -> None:
    """Has Tune run its trials in the processes that Ray has started beforehand.

    Tune asks for processes with an environment variable of its own, which only PyTorch Lightning looks at. For that Ray
    would start new ones while the others, warm already, wait for nothing: eight seconds on two processors.
    """
    from ray.tune.execution import class_cache

    class_cache.DEFAULT_ENV_VARS.pop("PL_DISABLE_FORK", None)


class Connection:
    """Ray while it is needed; to be made once Ray is there.

    Args:
        address: Of the cluster; None for a Ray of our own.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._raylets = [_raylet()]
        self._ending: threading.Thread | None = None

    def check(self) -> None:
        """To be called now and then: left to itself, Ray's death ends this process without a word about the sweep.

        Raises:
            Halted: Ray has died on this machine.
        """
        for raylet in self._raylets:
            if not raylet.is_running() or raylet.status() == psutil.STATUS_ZOMBIE:
                raise Halted("Ray died on this machine: its raylet was killed, or the memory ran out")

    def close(self) -> None:
        """Begins to leave Ray, or to end our own, in the background; again for nothing."""
        if self._ending is None:
            self._ending = threading.Thread(target=_shut_down, name="ray-shutdown")
            self._ending.start()

    def wait(self) -> None:
        """Waits until Ray is closed."""
        if self._ending is not None:
            self._ending.join()


def _raylet() -> psutil.Process:
    """The process by which this one is part of its cluster; Ray on this machine is gone with it."""
    worker: Any = importlib.import_module("ray._private.worker")
    node = worker.global_worker.node
    own = {f"--raylet_socket_name={node.raylet_socket_name}", f"--node_ip_address={node.node_ip_address}"}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet" and own <= set(process.info["cmdline"] or []):
            return process
    raise Halted("Ray died on this machine while it started")


def _shut_down() -> None:
    """Closes Ray while other threads work, and none of them frees a reference of Ray's.

    That would end the process at once, without its results: "The core worker has already been shutdown". Tune leaves
    some in cycles: they are collected before, and what else there may be after.
    """
    import ray

    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _own_token() -> dict[str, str]:
    """A token for a Ray of our own: other users of this machine reach its ports but cannot run anything on it."""
    if "ray" in sys.modules:  # Ray reads these once, when it is imported
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


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
    """A closed port is told in seconds; Ray itself would try for minutes."""
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
    """What is wrong about this machine's processors can be said before Ray starts."""
    if address is None:
        _check_cpus(config, available_cpus(), "this machine has")
        if config.audit is not None:
            _check_audit_cpus(config, available_cpus(), "this machine has")


def _check_cpus(config: SweepConfig, cpus: int, where: str) -> None:
    each, concurrency = config.resources.cpus_per_trial, config.search.concurrency
    if each > cpus:
        raise UserError(f"resources.cpus_per_trial must be at most {cpus} ({where} that many), got {each}; lower it")
    if concurrency is not None and concurrency * each > cpus:
        raise UserError(
            f"search.concurrency must be at most {cpus // each} ({where} {cpus} processors, "
            f"a trial takes {each}), got {concurrency}; lower it or leave it out"
        )


def _check_audit_cpus(config: SweepConfig, cpus: float, where: str) -> None:
    each, _ = config.audit_resources
    if each > cpus:
        raise UserError(f"audit.cpus must be at most {cpus:g} ({where} that many), got {each}; lower it")


def _check_capacity(config: SweepConfig, nodes: Sequence[Node], address: str | None, *, trains: bool) -> None:
    """Whether what is to be done fits the nodes."""
    if trains:
        _check_trials(config, nodes, address)
    if config.audit is not None:
        _check_audits(config, nodes, address)


def _check_audits(config: SweepConfig, nodes: Sequence[Node], address: str | None) -> None:
    """Whether an audit fits a node."""
    cpus, gpus = config.audit_resources
    where = "this machine has" if address is None else "the largest node has"
    _check_audit_cpus(config, max(node.cpus for node in nodes), where)
    if not _room(nodes, cpus, gpus):
        raise UserError(
            f"audit.gpus must fit a node beside audit.cpus {cpus}, got {gpus:g} ({_kinds(nodes)}); "
            "lower it, or 0 for processors alone"
        )


def _kinds(nodes: Sequence[Node]) -> str:
    """What nodes there are, each kind once."""
    kinds = dict.fromkeys(f"{node.cpus:g} processors and {node.gpus:g} GPUs" for node in nodes)
    return f"there {'is a node' if len(nodes) == 1 else 'are nodes'} with {', or '.join(kinds)}"


def _check_trials(config: SweepConfig, nodes: Sequence[Node], address: str | None) -> None:
    """Whether a trial fits a node at all and, on this machine alone, whether as many fit as there are to be."""
    resources = config.resources
    if address is None:
        _check_cpus(config, int(sum(node.cpus for node in nodes)), "this machine has")
    elif not any(node.cpus >= resources.cpus_per_trial for node in nodes):
        most = max(node.cpus for node in nodes)
        raise UserError(
            f"resources.cpus_per_trial must be at most {most:g} (the largest node has that many), got "
            f"{resources.cpus_per_trial}; lower it"
        )
    wanted = (config.search.concurrency or 1) if address is None else 1
    fit = capacity(config, nodes)
    if fit < wanted:
        if address is not None:
            raise UserError(
                f"resources.gpus_per_trial must fit a node beside cpus_per_trial {resources.cpus_per_trial}, got "
                f"{resources.gpus_per_trial:g} ({_kinds(nodes)}); lower it, or 0 for processors alone"
            )
        gpus = sum(node.gpus for node in nodes)
        raise UserError(
            f"resources.gpus_per_trial must leave room for search.concurrency {wanted} (this machine has {gpus:g} "
            f"GPUs), got {resources.gpus_per_trial:g}; lower it, or 0 for processors alone"
        )


def capacity(config: SweepConfig, nodes: Sequence[Node]) -> int:
    """Trials that fit the nodes at a time."""
    return _room(nodes, config.resources.cpus_per_trial, config.resources.gpus_per_trial)


def _room(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """What fits the nodes at a time. Nothing is spread over two nodes, and no fraction of a GPU over two GPUs."""
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
    """Trials at a time: what the configuration says, or as many as fit the nodes that are there now."""
    if config.search.concurrency is not None:
        return config.search.concurrency
    return max(1, min(capacity(config, alive()), config.budget + len(config.baselines)))
