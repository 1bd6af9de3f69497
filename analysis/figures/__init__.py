"""Pictures of a run, each a PNG and an offline HTML page, and the page of an audit.

What the functions that draw have in common: ``frame`` is a table made by ``frames.to_frame``; ``objectives`` gives the
direction of each objective; ``domains`` are the searched parameters, which name a setting; ``folder`` is where the
files go; ``title`` says what was measured (configuration, data set, attack, radius). The files are returned.

Importing a module of this package imports pandas, but neither matplotlib nor plotly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drawn:
    """The files that were drawn, and a line for people: what could not be drawn, or what was chosen to be drawn."""

    files: Sequence[Path] = ()
    note: str = ""
