"""What must hold between the sections of a configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.frames import is_column
from search.config.objectives import ACCURACIES, Constraint, directions
from search.config.space import LOSS_PREFIX, canonical, check_domain
from trainables.settings import AUDITED_IMAGES
from trainables.settings.checks import check_choice, nearest
from trainables.settings.space import Choices, Domain, Range

if TYPE_CHECKING:
    from search.config.schema import SweepConfig

# Suffixes of the companion studies.
BASELINES_SUFFIX: Final = "-baselines"
REPLICATES_SUFFIX: Final = "-replicates"
# The samplers are the files of their folder, which imports Optuna and is not imported here.
SAMPLERS: Final = tuple(sorted(path.stem for path in (Path(__file__).parents[1] / "study/samplers").glob("[!_]*.py")))
_EXTENDING: Final = ("nehvi",)  # samplers that choose which settings get further seeds
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check(config: SweepConfig) -> None:
    """Asserts that the sections fit each other; a ``ValueError`` begins with the setting's path."""
    check_name(config.name)
    config.problem  # noqa: B018 (it checks itself when it is built)
    _check_space(config)
    _check_objectives(config)
    _check_enqueued(config)
    _check_halving(config)
    _check_confirmation(config)
    _check_racing(config)
    _check_smallest_effect(config)
    check_choice("search.sampler", config.search.sampler, SAMPLERS)
    if config.search.sampler == "grid":
        _check_grid(config)
    else:
        _check_trials(config)
    _check_audit(config)
    _check_gpus(config)


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name must be letters, digits, '.', '_' or '-' (it names a folder), got {name!r}; try quickstart-2"
        )
    for suffix, what in ((BASELINES_SUFFIX, "the baselines"), (REPLICATES_SUFFIX, "further seeds")):
        if name.endswith(suffix):
            raise ValueError(f"name must not end in {suffix} (kept for {what}), got {name}; choose another")


def _check_space(config: SweepConfig) -> None:
    if not config.space:
        raise ValueError(
            f"space must name a parameter to search, got none (the loss {config.loss.name} declares none); write for "
            "example train.learning_rate: {low: 0.001, high: 0.01, log: true}"
        )
    names = [canonical(name) for name in config.space]
    for name, domain in zip(names, config.space.values(), strict=True):
        if names.count(name) > 1:
            raise ValueError(f"space.{name} must stand once, got {name} and {LOSS_PREFIX}{name}; remove one")
        if is_column(name):
            raise ValueError(
                f"space.{name} must not have the name of a column of trials.csv, got {name}; "
                f"rename the setting of the loss {config.loss.name}"
            )
        check_domain(config.problem, name, domain)


def _check_objectives(config: SweepConfig) -> None:
    known = directions(config.robustness)
    for section in ("objectives", "constraints"):
        for name in getattr(config, section):
            if name not in known:
                raise ValueError(
                    f"{section}.{name} must be something that this sweep measures; {nearest(name, list(known))}"
                )
    for name, direction in config.objectives.items():
        if direction != known[name]:
            raise ValueError(f"objectives.{name} must be {known[name]}, got {direction}; use {known[name]}")
    if len(config.objectives) < 2:
        raise ValueError(
            f"objectives must name at least two, got {', '.join(config.objectives) or 'none'}; "
            f"leave them out for {' and '.join(ACCURACIES)}"
        )
    for name, text in config.constraints.items():
        try:
            Constraint.parse(name, text)
        except ValueError as error:
            raise ValueError(f"constraints.{error}") from None


def _check_enqueued(config: SweepConfig) -> None:
    domains = config.domains
    for position, parameters in enumerate(config.enqueued):
        path = f"search.enqueue[{position}]"
        try:
            config.candidate(parameters)
        except ValueError as error:
            raise ValueError(f"{path}.{error}") from None
        for name, value in parameters.items():
            if name not in domains:
                raise ValueError(f"{path}.{name} must be in the space; {nearest(name, list(domains))}")
            if not domains[name].contains(value):
                raise ValueError(
                    f"{path}.{name} must lie in the space {domains[name]}, got {value}; "
                    "widen the space or drop the setting"
                )


def _check_halving(config: SweepConfig) -> None:
    halving = config.search.halving
    if halving is None:
        return
    first = halving.first_rung(config.train.epochs)
    if first >= config.train.epochs:
        raise ValueError(
            f"search.halving.first_epoch must be below train.epochs ({config.train.epochs}), "
            f"got {first}; train longer or leave search.halving out"
        )
    if halving.images > config.data.search_size:
        raise ValueError(
            f"search.halving.images must be at most the images that the search sees ({config.data.search_size}), "
            f"got {halving.images}; attack fewer"
        )


def _check_confirmation(config: SweepConfig) -> None:
    size, images = config.data.confirmation_size, config.robustness.images
    if config.search.confirmation_seeds and size < images:
        raise ValueError(
            f"data.confirmation_size must be at least robustness.images ({images}) with search.confirmation_seeds, "
            f"got {size}; raise it, and data.validation_size with it"
        )


def _check_racing(config: SweepConfig) -> None:
    search = config.search
    if not search.racing:
        return
    if search.sampler in ("grid", *_EXTENDING):
        all_seeds, own_seeds = "a grid trains each point with all seeds", "it chooses seeds itself; set another sampler"
        why = all_seeds if search.sampler == "grid" else own_seeds
        raise ValueError(f"search.racing must be false for the sampler {search.sampler}, got true; {why}")
    if config.train.replicates < 2:
        raise ValueError(
            f"train.replicates must be at least 2 with search.racing: true, got {config.train.replicates}; "
            "it is the largest number of seeds that a setting gets"
        )


def _check_smallest_effect(config: SweepConfig) -> None:
    for name, effect in config.search.smallest_effect.items():
        if name not in config.objectives:
            raise ValueError(
                f"search.smallest_effect must name objectives ({', '.join(config.objectives)}), got {name}; remove it"
            )
        if not effect > 0 or math.isinf(effect):
            raise ValueError(f"search.smallest_effect.{name} must be above 0, got {effect:g}; 0.02 is two points")


def _check_trials(config: SweepConfig) -> None:
    search, replicates = config.search, config.train.replicates
    if search.grid:
        raise ValueError(
            f"search.grid must be left out for the sampler {search.sampler}, got {search.grid}; "
            "set search.sampler: grid"
        )
    if search.trials is None:
        raise ValueError(f"search.trials must be given for the sampler {search.sampler}, got nothing; 24 is a start")
    if search.trials % replicates and not search.racing:
        lower = search.trials // replicates * replicates
        raise ValueError(
            f"search.trials must be a multiple of train.replicates ({replicates}), got {search.trials}; it counts "
            f"units, each a setting with one seed: write {lower or replicates} or {lower + replicates}"
        )
    size = settings_in(config.domains)
    most = None if size is None or search.sampler in _EXTENDING else size * (1 if search.racing else replicates)
    if most is not None and search.trials > most:
        raise ValueError(
            f"search.trials must be at most {most}, as the space has {size} settings, got "
            f"{search.trials}; lower it or widen the space"
        )


def _check_grid(config: SweepConfig) -> None:
    search = config.search
    if search.warm_start:
        raise ValueError(
            f"search.warm_start must be left out for the sampler grid, got {search.warm_start}; "
            "a grid trains each of its points"
        )
    ranges = [name for name, domain in config.domains.items() if not isinstance(domain, Choices)]
    if set(search.grid) != set(ranges) or any(points < 2 for points in search.grid.values()):
        example = ", ".join(f"{name}: 5" for name in ranges)
        raise ValueError(
            f"search.grid must give at least 2 points for each of {', '.join(ranges)}, got {search.grid}; "
            f"write {{{example}}}"
        )
    size = len(config.fixed_settings) * config.train.replicates
    if search.trials not in (None, size):
        raise ValueError(
            f"search.trials must be {size} for this grid (its points and the enqueued settings), "
            f"got {search.trials}; leave it out or change search.grid"
        )


def settings_in(space: Mapping[str, Domain]) -> int | None:
    """How many settings a space has; None if one of its parameters is a real number."""
    total = 1
    for domain in space.values():
        if isinstance(domain, Range) and not domain.integer:
            return None
        total *= len(domain.choices) if isinstance(domain, Choices) else int(domain.high - domain.lowest) + 1
    return total


def _check_audit(config: SweepConfig) -> None:
    profiles = [(f"audit.profile {config.audit.profile}", config.audit.profile)] if config.audit is not None else []
    profiles += [("robustness.gate audit", "quick")] if config.robustness.gate is not None else []
    for setting, profile in profiles:
        data, least = config.data, AUDITED_IMAGES[profile]
        if data.search_size < least:
            minus = " minus data.confirmation_size" if data.confirmation_size else ""
            raise ValueError(
                f"data.validation_size{minus} must be at least {least} for {setting}, "
                f"got {data.search_size}; raise it or leave the audit out"
            )
        if config.search.confirmation_seeds and data.confirmation_size < least:
            raise ValueError(
                f"data.confirmation_size must be at least {least} for {setting}, "
                f"got {data.confirmation_size}; raise it or leave the audit out"
            )


def _check_gpus(config: SweepConfig) -> None:
    shares = [("resources.gpus_per_trial", config.resources.gpus_per_trial)]
    shares += [("audit.gpus", config.audit.gpus or 0.0)] if config.audit is not None else []
    for setting, gpus in shares:
        if gpus > 1 and gpus % 1:
            raise ValueError(f"{setting} must be a whole number or at most 1, got {gpus:g}; choose {gpus // 1:g}")
