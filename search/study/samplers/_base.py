"""What every sampler is: a function that makes Optuna's sampler for one ask, registered under its file's name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from optuna.samplers import BaseSampler

from search.config import SweepConfig
from trainables.settings.checks import check_choice

# Makes the sampler for one ask, from the sweep, the number of the trial to suggest, and a seed drawn from that number.
Make = Callable[[SweepConfig, int, int], BaseSampler]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A registered sampler.

    Args:
        make: Makes it for one ask. It must suggest the same for the same arguments and history.
        source: The paper that it follows.
        most_modelled: The most finished trials that it can model in reasonable time; None for no limit.
        marks: System attributes of a trial that it did not suggest itself, so that it learns from that one too.
    """

    make: Make
    source: str
    most_modelled: int | None = None
    marks: Mapping[str, int] = field(default_factory=dict)


_REGISTERED: Final[dict[str, Sampler]] = {}


def sampler(
    name: str, *, source: str, most_modelled: int | None = None, marks: Mapping[str, int] | None = None
) -> Callable[[Make], Make]:
    """Registers a function under a name, which must be that of its file."""

    def decorate(make: Make) -> Make:
        _REGISTERED[name] = Sampler(make=make, source=source, most_modelled=most_modelled, marks=marks or {})
        return make

    return decorate


def names() -> tuple[str, ...]:
    """The samplers in alphabetical order: the files of this folder. Imports none of them."""
    return tuple(sorted(path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py")))


def find(name: str) -> Sampler:
    """A sampler by its name.

    Raises:
        ValueError: There is none.
    """
    check_choice("sampler", name, names())
    importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    return _REGISTERED[name]
