"""What a sampler looks back on when a search has grown long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.config import SweepConfig
from search.study import Ledger, open_storage
from search.study.history import History, recent_and_best
from search.study.samplers import tpe
from tests.search.examples import result, small_config

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def make_trial(number: int, state: TrialState) -> FrozenTrial:
    values = [0.9 - 0.001 * number, 0.1 + 0.001 * number] if state == TrialState.COMPLETE else None
    made = create_trial(state=state, values=values)
    made.number = number
    return made


@given(states=st.lists(st.sampled_from(STATES), max_size=40), most=st.integers(2, 12), data=st.data())
def test_the_latest_and_the_front_are_seen_and_all_that_runs(
    states: list[TrialState], most: int, data: st.DataObject
) -> None:
    trials = [make_trial(number, state) for number, state in enumerate(states)]
    unfinished = [trial for trial in trials if trial.state == TrialState.RUNNING]
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    front = data.draw(st.permutations(complete))[: data.draw(st.integers(0, len(complete)))]
    seen = recent_and_best(trials, front, most)

    numbers = [trial.number for trial in seen]
    assert numbers == sorted(set(numbers))
    assert [trial for trial in seen if trial.state == TrialState.RUNNING] == unfinished
    kept = [trial for trial in seen if trial.state != TrialState.RUNNING]
    assert len(kept) == min(most, len(finished))
    assert all(trial in finished for trial in kept)
    best = [trial for trial in kept if trial in front]
    assert len(best) >= min(len(front), most // 2)
    others = [trial.number for trial in kept if trial not in front]
    latest = [trial.number for trial in finished if trial not in front]
    assert others == latest[len(latest) - len(others) :]
    if len(front) >= 2 and most >= 4:  # the best in each objective are its ends
        ends = [trial.number for trial in front]
        assert {min(ends), max(ends)} <= set(numbers)


def test_a_study_with_a_history_gives_its_sampler_that_and_nothing_else() -> None:
    study = optuna.create_study(directions=["maximize", "maximize"])
    for _ in range(3):
        study.tell(study.ask(), [0.5, 0.5])
    history = History(study, study.trials[1:])
    assert [trial.number for trial in history.get_trials()] == [1, 2]
    assert history.get_trials(states=(TrialState.RUNNING,)) == []
    assert history.ask().number == 3
    assert len(study.trials) == 4


def config(sampler: str = "tpe", trials: int = 24) -> SweepConfig:
    return small_config(search={"sampler": sampler, "trials": trials})


def finish(ledger: Ledger, most: int = 100) -> list[str]:
    settings = []
    while len(settings) < most and (unit := ledger.ask()) is not None:
        settings.append(repr(unit.candidate))
        s, m = unit.candidate.parameters.get("s", 1.0), unit.candidate.parameters.get("m", 0.0)
        ledger.finish(unit.number, result(round(0.99 - (s - 1.3) ** 2, 2), round(0.5 - 10 * (m - 0.04) ** 2, 2)))
    return settings


def test_a_bounded_model_is_the_whole_one_until_the_search_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(most: int) -> list[str]:
        monkeypatch.setattr(tpe, "SAMPLER", replace(tpe.SAMPLER, most_modelled=most))
        return finish(Ledger(open_storage("sqlite://"), config(), "new"))

    whole, bounded = search(1000), search(12)
    assert bounded[:15] == whole[:15]  # two baselines, twelve to look back on, and the one that is asked for with them
    assert bounded != whole


def test_a_resumed_search_with_a_bounded_model_suggests_what_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tpe, "SAMPLER", replace(tpe.SAMPLER, most_modelled=12))
    whole = finish(Ledger(open_storage("sqlite://"), config(), "new"))
    pieces: list[str] = []
    while len(pieces) < len(whole):
        ledger = Ledger(open_storage(f"sqlite:///{tmp_path / 'pieces'}"), config(), "resume")
        ledger.adopt()
        pieces += finish(ledger, most=9)
    assert pieces == whole
