"""The data behind the cards of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.export import ResultsOnTest
from analysis.records import TrialRecord
from search.config import StudyConfig
from search.evaluation.test_split import read_test_results
from search.results.answer import Answered
from search.results.audits import read_audit
from search.results.final import pooled
from search.results.standing import Standing
from search.results.text import baseline_note, parameter_text
from search.results.writing import RunData
from search.runs.folder import Run
from search.runs.layout import AUDITS
from trainables.metrics import CLEAN, ROBUST

if TYPE_CHECKING:
    from analysis.verdict import Entry


@dataclass(frozen=True)
class ReportData:
    """A run, its answer (None if there is none yet), and a function that computes the importance of parameters."""

    data: RunData
    answered: Answered | None
    importances: Callable[[Sequence[TrialRecord], str], Mapping[str, float]]
    stopped: str | None = None  # the criterion that ended the search early, if any

    @property
    def config(self) -> StudyConfig:
        return self.data.run.config

    @property
    def sweep(self) -> Run:
        """The run, for what an imported one does not have."""
        assert isinstance(self.data.run, Run), self.data.run.name
        return self.data.run

    @property
    def objectives(self) -> list[str]:
        return list(self.config.objectives)

    @property
    def aim(self) -> str:
        """The objective that a setting is recommended for."""
        names = self.objectives if self.answered is None else list(self.answered.objectives)
        return ROBUST if CLEAN in names and ROBUST in names else names[0]

    @cached_property
    def by_number(self) -> dict[str, TrialRecord]:
        return {setting.number: setting for setting in self.data.settings}

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The complete settings of the search."""
        return [setting for setting in self.data.settings if setting.state == "complete" and not setting.is_baseline]

    @cached_property
    def baselines(self) -> list[TrialRecord]:
        """The complete baselines."""
        return [setting for setting in self.data.settings if setting.state == "complete" and setting.is_baseline]

    @cached_property
    def standing(self) -> Standing:
        return Standing.of(self.data.units, self.config, lambda: self.data.reference)

    @cached_property
    def tested(self) -> ResultsOnTest:
        """Results on the test split, if it was opened."""
        return read_test_results(self.sweep, pooled(self.data.units, self.config.bounds))

    @cached_property
    def audits(self) -> dict[str, dict[str, Any]]:
        """The contents of each ``audit.json``, by the number of its unit."""
        folders = sorted((self.data.run.folder / AUDITS).glob("*"))
        return {folder.name: audit for folder in folders if (audit := read_audit(folder)) is not None}

    def audits_of(self, setting: TrialRecord) -> dict[str, dict[str, Any]]:
        """A setting's audits, by the number of the unit; only the audits of its confirmation, if there are any."""
        for record in (setting.confirmed, setting):
            audits = {number: self.audits[number] for number in record.units if number in self.audits} if record else {}
            if audits:
                return audits
        return {}

    @property
    def recommended(self) -> TrialRecord | None:
        """The recommended setting; None if nothing can be recommended."""
        if self.answered is None or self.answered.answer.this_network_only:
            return None
        return self.by_number.get(self.answered.number(self.answered.answer.recommended.setting))

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        if self.answered is None:
            return {}
        return {self.answered.number(entry.setting): entry for entry in self.answered.answer.entries}

    def entry(self, setting: TrialRecord) -> Entry | None:
        """The answer's entry for a setting or baseline; None if there is none."""
        return self._entries.get(setting.number)

    def name(self, setting: TrialRecord) -> str:
        """A setting or baseline as text: ``trial 3 (s = 1.9049, m = 0.0529)``."""
        if setting.is_baseline:
            return f"{baseline_note(setting, self.config)} ({setting.number})"
        values = self.values(setting)
        return f"trial {setting.number} ({values})" if values else f"trial {setting.number}"

    def values(self, setting: TrialRecord) -> str:
        """The values of a setting's parameters as text: ``s = 1.9049, m = 0.0529``."""
        return ", ".join(f"{name} = {parameter_text(value)}" for name, value in setting.parameters.items())


def shown(setting: TrialRecord) -> TrialRecord:
    """The record whose numbers are shown for a setting: that of its confirmation, if there is one."""
    return setting.confirmed or setting


def seeds_note(setting: TrialRecord) -> str:
    """The number of seeds behind a setting's numbers as text: ``5 new seeds``."""
    record = shown(setting)
    count = len(record.replicates)
    kind = "new seed" if setting.confirmed is not None else "seed"
    return f"{count} {kind}{'s' * (count != 1)}"
