from __future__ import annotations

import pytest
import ray

from search.errors import cause_on_worker, first_line


def test_an_error_is_told_in_one_line() -> None:
    assert first_line(OSError("No response.\nGET /bucket HTTP/1.1")) == "No response"
    assert first_line(OSError()) == "OSError"


@pytest.mark.parametrize(("message", "told"), [("out of luck", "out of luck"), ("one\ntwo", "two"), ("", "ValueError")])
def test_what_failed_on_a_worker_is_told_without_its_traceback(message: str, told: str) -> None:
    error = ray.exceptions.RayTaskError("audit", f"Traceback\nValueError: {message}", ValueError(message))
    assert cause_on_worker(error) == told


def test_a_worker_that_died_left_no_cause() -> None:
    error = ray.exceptions.WorkerCrashedError()
    assert cause_on_worker(error) == str(error).splitlines()[-1]
