"""The trial of ``robustfront_sweep``: the sweep's own trial, with every pass counted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from search.results.metrics import UnitResult
from search.worker.trial import CANDIDATE, EPOCH, NUMBER, RESULT, UNITS, SettingTrial
from tests.benchmarks.workload import ATTACK, MEASUREMENTS, VALIDATION, PassCounter, TrialMeasurement
from trainables.metrics import ATTACK_SECONDS, CLEAN, ROBUST, TRAIN_SECONDS


class CountedTrial(SettingTrial):
    """A sweep's trial that counts the passes and leaves its measurements in the run's folder."""

    def setup(self, config: dict[str, Any], **parameters: Any) -> None:
        """As the base class; counts the passes of every model made in this process from now on."""
        import trainables.training.replicate

        build = trainables.training.replicate.build_model
        trainables.training.replicate.build_model = lambda *args, **kwargs: self._counter.attach(build(*args, **kwargs))
        self._epochs: int = parameters["problem"].train.epochs
        self._measurements = Path(parameters["folder"]).parents[1] / MEASUREMENTS
        self._reset_counts(config)
        super().setup(config, **parameters)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """As the base class; counts from zero."""
        self._reset_counts(new_config)
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        """As the base class; the attack comes after the epochs."""
        self._counter.phase = VALIDATION if self._epochs_done < self._epochs else ATTACK
        reported = super().step()
        self._epochs_done += EPOCH in reported
        if RESULT in reported:
            [result] = map(UnitResult.from_json, json.loads(reported[RESULT]).values())
            assert self._counter.first is not None
            TrialMeasurement(
                setting=self._setting,
                passes=self._counter.passes,
                started=self._counter.first,
                finished=time.time(),
                train_seconds=result.values[TRAIN_SECONDS],
                attack_seconds=result.values[ATTACK_SECONDS],
                clean_accuracy=result.values[CLEAN],
                robust_accuracy=result.values[ROBUST],
            ).write(self._measurements / f"{self._unit_number}.json")
        return reported

    def _reset_counts(self, config: dict[str, Any]) -> None:
        self._counter = PassCounter()
        self._epochs_done = 0
        [unit] = config[UNITS]
        self._unit_number: str = unit[NUMBER]
        self._setting = {"loss": unit[CANDIDATE]["loss"], **unit[CANDIDATE]["parameters"]}
