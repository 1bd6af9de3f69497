"""Reads someone else's Optuna study, made by Optuna itself, Ray Tune's ``OptunaSearch`` or another program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.distributions import CategoricalDistribution as Categorical
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.config import Source, redact, sqlite_file, without_password
from search.errors import UserError, first_line
from search.runs.foreign import ForeignStudy, ForeignTrial
from search.study.storage import NotBegun, open_storage
from search.study.trials import FAILURE, STATES
from trainables.settings.checks import nearest
from trainables.settings.space import Choices, Domain, Range, Value


def read_study(url: str, name: str) -> ForeignStudy:
    """Reads a study.

    Raises:
        UserError: Nothing answers at the URL, or it has no study of this name.
    """
    storage = _open(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = optuna.get_all_study_names(storage)
        if name not in known:
            raise UserError(f"STUDY must be a study in {without_password(url)}, got {name}; {nearest(name, known)}")
        study = optuna.load_study(storage=storage, study_name=name)
        trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state in STATES]
        names = metric_names(study)
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()
    notes = []
    if any(trial.constraints for trial in trials):
        notes.append("The study has constraints, which are ignored: every trial counts as meeting them.")
    return ForeignStudy(
        source=Source(kind="optuna", url=without_password(url), study=name),
        directions={
            each: "maximize" if direction == optuna.study.StudyDirection.MAXIMIZE else "minimize"
            for each, direction in zip(names, study.directions, strict=True)
        },
        domains=_domains(trials),
        trials=[_trial(trial, names, name) for trial in trials],
        notes=notes,
    )


def _open(url: str) -> BaseStorage:
    """Opens the storage at a URL, or in the file of an Optuna journal."""
    if "://" not in url and Path(url).is_file():
        try:
            return JournalStorage(JournalFileBackend(url))
        except (ValueError, KeyError):  # not JSON, or not a journal's
            raise UserError(
                f"URL must be an Optuna journal or a database's URL, got the file {url}; "
                "write a database as sqlite:///FILE"
            ) from None
    shown, database = without_password(url), sqlite_file(url)
    if database is not None and not database.is_file():  # opening it would create it
        raise UserError(f"URL must be that of an existing database, got {shown}; correct the path")
    try:
        return open_storage(url, create=False, argument="URL")
    except NotBegun:
        raise UserError(f"URL must be a database with Optuna's studies, got {shown} without any; correct it") from None
    except RuntimeError as error:  # tables of another version of Optuna
        reason = redact(first_line(error), url)
        raise UserError(
            f"URL must have the tables of Optuna {optuna.__version__}, got {shown} ({reason}); upgrade a copy of it"
        ) from None


def metric_names(study: Study) -> list[str]:
    """The study's names of its objectives; without any, those of Optuna's tables: ``values_0``, ``values_1``."""
    return study.metric_names or [f"values_{at}" for at in range(len(study.directions))]


def _trial(trial: FrozenTrial, names: Sequence[str], study: str) -> ForeignTrial:
    return ForeignTrial(
        number=trial.number,
        origin=f"{study}/{trial.number}",
        state=STATES[trial.state],
        parameters={name: _value(value) for name, value in trial.params.items()},
        values=dict(zip(names, trial.values, strict=True)) if trial.state == TrialState.COMPLETE else {},
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        finished=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        failure=trial.user_attrs.get(FAILURE),
    )


def _value(value: Any) -> Value:
    """A value as YAML and tables can hold it: of other types, among them None, its text."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _domains(trials: Sequence[FrozenTrial]) -> dict[str, Domain]:
    """Where each parameter was searched: the hull of its ranges, or all of its choices."""
    found: dict[str, list[BaseDistribution]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            known = found.setdefault(name, [])
            if distribution not in known:
                known.append(distribution)
    return {name: domain for name, each in found.items() if (domain := _hull(each)) is not None}


def _hull(distributions: Sequence[BaseDistribution]) -> Domain | None:
    """One domain for all values of a parameter; None if some are numbers and others choices."""
    choices = [each for each in distributions if isinstance(each, Categorical)]
    ranges = [each for each in distributions if isinstance(each, FloatDistribution | IntDistribution)]
    if choices and not ranges:
        return Choices(choices=tuple(dict.fromkeys(_value(value) for each in choices for value in each.choices)))
    if choices or not ranges:
        return None
    return Range(
        low=float(min(each.low for each in ranges)),
        high=float(max(each.high for each in ranges)),
        log=all(each.log for each in ranges),
        integer=all(isinstance(each, IntDistribution) for each in ranges),
    )
