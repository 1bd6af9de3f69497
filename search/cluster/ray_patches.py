"""Every use of a private name of Ray's. Ray has no option for what these do.

``tests/search/cluster/test_ray_patches.py`` checks that each name still exists in the installed Ray.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psutil

# Ray sets this variable in what runs as a job.
JOB_VARIABLE: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Loggers of Ray's Jobs API that report every upload.
TALKATIVE_LOGGERS: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


@contextmanager
def without_monitors() -> Iterator[None]:
    """Within this context ``ray.init`` starts no autoscaler, no log monitor and no Jobs API.

    A sweep on one machine uses none of them. Two processes fewer save a second and 180 MB. The Jobs API is left out if
    its dependencies seem to be missing.
    """
    parameter: Any = importlib.import_module("ray._private.parameter")
    utils: Any = importlib.import_module("ray._private.utils")
    params, error = parameter.RayParams, utils.get_dashboard_dependency_error
    parameter.RayParams = partial(params, no_monitor=True, include_log_monitor=False)
    utils.get_dashboard_dependency_error = lambda: ImportError("not needed")
    try:
        yield
    finally:
        parameter.RayParams, utils.get_dashboard_dependency_error = params, error


def print_less() -> None:
    """Keeps Ray's messages off the terminal, except those about memory, which nothing else reports.

    The sweep itself reports nodes that leave, and the ledger processes that die.
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
    """Makes Tune run its trials in the processes that Ray has started in advance.

    Tune asks for processes with an environment variable of its own, which only PyTorch Lightning reads. Ray would start
    new processes for that and leave the others idle, which costs eight seconds on two processors.
    """
    class_cache: Any = importlib.import_module("ray.tune.execution.class_cache")
    class_cache.DEFAULT_ENV_VARS.pop("PL_DISABLE_FORK", None)


def raylet() -> psutil.Process | None:
    """The process that makes this machine part of its cluster; None if it is not running."""
    worker: Any = importlib.import_module("ray._private.worker")
    node = worker.global_worker.node
    own = {f"--raylet_socket_name={node.raylet_socket_name}", f"--node_ip_address={node.node_ip_address}"}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet" and own <= set(process.info["cmdline"] or []):
            return process
    return None
