"""Patience with what is locked or away for a moment: a database, a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_FIRST_PAUSE, _LAST_PAUSE = 0.5, 8.0  # seconds

T = TypeVar("T")


def patiently(
    call: Callable[[], T],
    seconds: float,
    passing: Callable[[Exception], bool],
    waiting: Callable[[Exception], None] = lambda _: None,
) -> T:
    """Calls until there is an answer, with pauses that grow.

    Args:
        call: What to do. After an error it is done again, so a half-done one must do no harm.
        seconds: How long to try.
        passing: Whether an error may be gone by itself the next time.
        waiting: Told the error before each pause.

    Raises:
        Exception: The call's error, where it will not pass or has not passed in time.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not passing(error) or time.monotonic() + pause > deadline:
                raise
            waiting(error)
        time.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE)
