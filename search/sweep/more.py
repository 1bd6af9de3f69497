"""More units for a finished search, where its answer is least certain."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace

from analysis.matters import amount_text, label
from search.config import parse
from search.errors import UserError
from search.results.answer import answer_of
from search.runs.folder import Run, command
from search.runs.layout import SWEEP_FILE
from search.study import open_ledger
from trainables import files


def with_more_units(run: Run, units: int) -> tuple[Run, list[str]]:
    """Raises the budget of a finished run; once resumed, `nehvi` spends it on new settings or further seeds.

    Earlier measurements stay. If the choice changes, the new one is confirmed with seeds not used before.

    Args:
        run: The run; the new budget is written to its ``sweep.yaml``.
        units: The number of additional units, at least 1.

    Returns:
        The run, and lines of text that describe the expected gain.

    Raises:
        UserError: The run is not finished, or is a grid.
    """
    if run.config.search.sampler == "grid":
        raise UserError(
            "--more must be left out for the sampler grid, whose points have all been trained; start another sweep"
        )
    with closing(open_ledger(run)) as ledger:
        complete, records, counts = ledger.complete, ledger.records(), ledger.counts()
    if not complete:
        raise UserError(
            f"--more must be used on a finished run, got {run.name} with {counts.finished} of "
            f"{counts.budget} units; finish it with `{command('resume', run.argument)}`"
        )
    document = run.config.to_document()
    document["search"] |= {"trials": run.config.budget + units, "sampler": "nehvi"}
    larger = replace(run, config=parse(document))
    lines = [f"{units} more units, chosen by nehvi among new settings and further seeds."]
    answered = answer_of(run.config, run.folder, records)
    matters = answered.answer.matters if answered is not None else {}
    for name, model in answered.models.items() if answered is not None else ():
        matter = matters[name]
        if matter.matters is None and not model.this_network_only:
            expected = matter.bound * math.sqrt(model.units / (model.units + units))
            needed = f"; about {matter.units} more units would decide" if matter.units is not None else ""
            lines.append(
                f"{label(name).capitalize()}: settings differ by less than {amount_text(name, matter.bound)}; "
                f"this bound should fall to about {amount_text(name, expected)}{needed}."
            )
    files.write(run.folder / SWEEP_FILE, larger.config.to_yaml())
    larger.share(run.folder / SWEEP_FILE)
    return larger, lines
