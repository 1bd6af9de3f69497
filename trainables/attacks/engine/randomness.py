"""Keeping the process's random states apart from the draws of an attack or a model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seeds every global random state (Python, numpy, torch on all devices) inside and restores it afterwards.

    Args:
        seed: In [0, 2^32).
    """
    # If CUDA was never used, it has no state yet, and reading it would start a context on every device.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
