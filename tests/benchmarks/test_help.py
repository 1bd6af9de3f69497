"""How long ``robustfront --help`` takes, in starts of Python: the ratio is the same on slow and fast machines."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

# 20 when this was written: Typer and rich. A command's own imports, such as pydantic and numpy, would triple it.
MOST_STARTS = 40
ROUNDS = 4


def seconds(arguments: Sequence[str]) -> float:
    """The shortest wall time of a Python process with these arguments."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


def test_help_starts_fast() -> None:
    ratio = seconds(["-m", "search", "--help"]) / seconds(["-c", "pass"])
    print(f"robustfront --help takes as long as {ratio:.0f} starts of Python")
    assert ratio < MOST_STARTS
