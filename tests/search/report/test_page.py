"""The report: its cards for runs with planted effects."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.records import TrialRecord
from analysis.statistics import Interval
from analysis.verdict import Advantage
from search.report.cards import audits, cost, front, importance, recommendation
from search.report.data import ReportData
from search.report.page import ORDER, page
from search.runs.folder import Run
from tests.search.examples import small_config
from tests.search.report.examples import cards_of, data_of, plant_audit, sentence_of
from tests.search.results.test_answer import sweep

ALWAYS = [name for name in ORDER if name != "test"]
FAILED = "could not be made"


def complete(number: str, parameters: dict[str, Any], objectives: dict[str, float], **more: Any) -> TrialRecord:
    return TrialRecord(
        number=number,
        loss="cross-entropy" if number.startswith("B") else "i-sce",
        parameters=parameters,
        state="complete",
        objectives=objectives,
        replicates=(objectives,),
        seeds=(7,),
        images={"clean_accuracy": 60, "robust_accuracy": 20},
        **{"started": 1000.0, "finished": 1010.0, "train_seconds": 4.0, "attack_seconds": 5.0, **more},
    )


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """A search whose robust accuracy rises with s, confirmed and audited."""
    run, records = sweep(tmp_path_factory.mktemp("clear"), 0.2)
    last = next(record for record in records if record.extends == "11" and record.role == "confirmation")
    plant_audit(run, last.number, "sound", 0.61, 0.59)
    values = {**last.objectives, "audited_accuracy": 0.59}
    audited = replace(
        last,
        verdict="sound",
        accuracies={"audited_accuracy": 0.59},
        replicates=(values,),
        images={**last.images, "audited_accuracy": 100},
    )
    return data_of(run, [audited if record is last else record for record in records])


@pytest.fixture(scope="module")
def html(clear: ReportData) -> str:
    return page(clear)


def test_a_clear_result_is_said_clearly(html: str) -> None:
    cards = cards_of(html)
    assert list(cards) == ALWAYS
    assert FAILED not in html
    assert len(html) < 10_000_000
    what = sentence_of(cards["recommendation"])
    assert what.startswith("Use s = 2, m = 0.05. Its robust accuracy is ")
    assert "which the audit confirms; it beats plain cross entropy, a baseline, by +" in what
    assert 'class="sentence good"' in cards["recommendation"]
    assert "of the recommended setting is sound" in sentence_of(cards["audits"])
    assert "(61.0 % claimed, 59.0 % verified on the networks audited: 1)" in sentence_of(cards["audits"])
    assert sentence_of(cards["importance"]).startswith("s matters most for robust accuracy")
    assert "Robust accuracy: the choice changes" in sentence_of(cards["matters"])
    assert "+1.00 points" in sentence_of(cards["curves"])


def test_it_loads_nothing_from_outside(html: str) -> None:
    assert re.findall(r'(?:src|href)="(?!#|data:|audits/\w+/audit\.html)[^"]*"', html) == []
    assert "@import" not in html
    assert "fetch(" not in html


def test_downloads_hold_the_numbers_that_are_shown(clear: ReportData, html: str) -> None:
    card = cards_of(html)["front"]
    [encoded] = re.findall(r'download="small-settings.csv" href="data:text/csv;base64,([^"]+)"', card)
    table = pd.read_csv(io.BytesIO(base64.b64decode(encoded))).set_index("number")
    shown = clear.by_number["11"].confirmed
    assert shown is not None
    assert table.loc["11", "robust_accuracy"] == pytest.approx(shown.objectives["robust_accuracy"])
    assert f"{100 * shown.objectives['robust_accuracy']:.1f} %" in card


def test_without_an_effect_no_setting_is_praised(tmp_path: Path) -> None:
    data = data_of(*sweep(tmp_path, 0.0))
    card = recommendation.card(data)
    assert not card.sentence.startswith("Use s")
    assert "a claim that no audit has checked" in card.sentence
    assert card.tone == "unsure"
    assert "No importance is given" in importance.card(data).sentence
    assert "Nothing has been audited" in audits.card(data).sentence


def test_a_baseline_that_is_better_is_recommended(clear: ReportData) -> None:
    assert clear.answered is not None
    lost = Advantage(baseline="plain cross entropy", mean=-0.1, interval=Interval(-0.15, -0.05), seeds=5)
    answer = replace(clear.answered.answer, against={"robust_accuracy": (lost,)})
    card = recommendation.card(replace(clear, answered=replace(clear.answered, answer=answer)))
    assert card.sentence.startswith("Use plain cross entropy, not a setting of this search")
    assert "by \N{MINUS SIGN}10.0 points (\N{MINUS SIGN}15.0 to \N{MINUS SIGN}5.0)" in card.sentence
    assert card.tone == "bad"


def test_one_seed_recommends_nothing(tmp_path: Path) -> None:
    data = data_of(*sweep(tmp_path, 0.2, seeds=1, confirmed=False))
    assert recommendation.card(data).sentence.startswith("No setting can be recommended from one seed each")
    assert "of one seed" in front.card(data).sentence


def test_a_sweep_that_has_only_begun(tmp_path: Path) -> None:
    run = Run(tmp_path, small_config())
    running = TrialRecord(number="0", loss="i-sce", parameters={"s": 1.0, "m": 0.1}, state="running", started=1000.0)
    html = page(data_of(run, [running]))
    assert FAILED not in html
    assert list(cards_of(html)) == ALWAYS
    assert "Nothing can be recommended yet" in sentence_of(cards_of(html)["recommendation"])


def test_one_parameter_three_objectives_and_failures(tmp_path: Path) -> None:
    objectives = {"clean_accuracy": "maximize", "robust_accuracy": "maximize", "train_seconds": "minimize"}
    config = small_config(loss={"name": "i-sce", "m": 0.05}, objectives=objectives)
    settings = [
        complete(
            str(at),
            {"s": 1 + at / 10},
            {"clean_accuracy": 0.9 + at / 100, "robust_accuracy": 0.4 - at / 50, "train_seconds": 4.0 + at % 3},
        )
        for at in range(6)
    ]
    failed = TrialRecord(
        number="6",
        loss="i-sce",
        parameters={"s": 1.9},
        state="failed",
        failure="the loss is not <finite>",
        started=1000.0,
        finished=1003.0,
    )
    html = page(data_of(Run(tmp_path, config), [*settings, failed]))
    cards = cards_of(html)
    assert FAILED not in html
    assert list(cards) == ALWAYS
    assert sentence_of(cards["failures"]) == "1 of 7 units failed."
    assert "the loss is not &lt;finite&gt;" in cards["failures"]
    assert "they need two numeric parameters" in sentence_of(cards["surfaces"])


def test_the_cost_is_counted_in_device_hours(tmp_path: Path) -> None:
    values, setting = {"clean_accuracy": 0.9, "robust_accuracy": 0.1}, {"s": 1.5, "m": 0.05}
    settings = [complete(str(at), setting, values, started=1000.0 + at) for at in range(4)]
    card = cost.card(data_of(Run(tmp_path, small_config()), settings))
    assert "4 networks took 0:10" in card.sentence
    table = pd.read_csv(io.StringIO(card.downloads["cost.csv"])).set_index("what")
    hours = 3600 * table.loc["search"]
    assert hours[["training", "attacks"]].tolist() == pytest.approx([16, 20])
    assert hours["waiting"] == pytest.approx(1.0), "only the first unit takes a second more than its work"


def test_a_card_that_fails_says_so_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ReportData) -> None:
        raise ZeroDivisionError("nothing <was> measured")

    monkeypatch.setattr(cost, "card", fail)
    cards = cards_of(page(data_of(Run(tmp_path, small_config()), [])))
    assert list(cards) == ALWAYS
    assert sentence_of(cards["cost"]) == f"This card {FAILED}: ZeroDivisionError: nothing <was> measured"
    assert FAILED not in cards["recommendation"]
