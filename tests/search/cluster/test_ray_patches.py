"""Every private name of Ray's that we use exists in the installed Ray, and does what we take it for."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray._private.parameter as parameter
import ray._private.runtime_env.constants as constants
import ray._private.utils as utils
import ray._private.worker as worker
from ray.tune.execution import class_cache

from search.cluster.ray_patches import (
    JOB_VARIABLE,
    TALKATIVE_LOGGERS,
    print_less,
    raylet,
    use_waiting_processes,
    without_monitors,
)


def test_ray_is_started_without_monitors_within_the_context_only() -> None:
    options = inspect.signature(parameter.RayParams).parameters
    assert {"no_monitor", "include_log_monitor"} <= set(options)
    before = parameter.RayParams, utils.get_dashboard_dependency_error
    with without_monitors():
        params = parameter.RayParams()
        assert (params.no_monitor, params.include_log_monitor) == (True, False)
        assert isinstance(utils.get_dashboard_dependency_error(), ImportError)
    assert (parameter.RayParams, utils.get_dashboard_dependency_error) == before


def test_only_lines_about_memory_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(inspect.signature(worker.print_to_stdstream).parameters)[:2] == ["data", "ignore_prefix"]
    printed: list[Any] = []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda data, prefix: printed.append((data, prefix)))
    print_less()
    print_less()
    worker.print_to_stdstream({"lines": ["a node died", "out of memory"], "pid": 1}, True)
    worker.print_to_stdstream({"lines": ["a node died"]}, True)
    assert printed == [({"lines": ["out of memory"], "pid": 1}, True)]


def test_tune_asks_for_no_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_cache, "DEFAULT_ENV_VARS", dict(class_cache.DEFAULT_ENV_VARS))
    assert "PL_DISABLE_FORK" in class_cache.DEFAULT_ENV_VARS
    use_waiting_processes()
    assert class_cache.DEFAULT_ENV_VARS == {}


def test_a_raylet_is_found_by_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private.node import Node

    assert {"raylet_socket_name", "node_ip_address"} <= set(dir(Node))
    node = SimpleNamespace(raylet_socket_name="/tmp/raylet", node_ip_address="10.0.0.1")
    monkeypatch.setattr(worker.global_worker, "node", node, raising=False)
    words = ["raylet", "--raylet_socket_name=/tmp/raylet", "--node_ip_address=10.0.0.1"]
    processes = [
        SimpleNamespace(info={"name": "raylet", "cmdline": [words[0], words[1], "--node_ip_address=10.0.0.2"]}),
        SimpleNamespace(info={"name": "other", "cmdline": words}),
        SimpleNamespace(info={"name": "raylet", "cmdline": words}),
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda _: processes)
    assert raylet() is processes[2]  # type: ignore[comparison-overlap]
    processes.pop()
    assert raylet() is None


def test_the_variables_and_loggers_are_rays() -> None:
    assert constants.RAY_JOB_CONFIG_JSON_ENV_VAR == JOB_VARIABLE
    root = Path(inspect.getfile(worker)).parents[1]
    for name in TALKATIVE_LOGGERS:
        module = root.joinpath(*name.split(".")[1:]).with_suffix(".py")
        assert "logger = logging.getLogger(__name__)" in module.read_text(), name
    assert logging.getLogger(TALKATIVE_LOGGERS[0]).name == TALKATIVE_LOGGERS[0]


def test_the_preloaded_modules_variable_is_rays() -> None:
    binary = Path(inspect.getfile(worker)).parents[1] / "core" / "src" / "ray" / "raylet" / "raylet"
    assert b"preload_python_modules" in binary.read_bytes()
