"""Verdicts on claims, and the text made from a table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from analysis.reproduction import summary, text, verdicts, word_of

MISSING = math.nan


@pytest.mark.parametrize(
    ("kind", "low", "high", "margin", "word"),
    [
        ("above", 0.03, 0.09, 0.02, "holds"),
        ("above", 0.01, 0.09, 0.02, "cannot be decided"),
        ("above", -0.09, 0.02, 0.02, "does not hold"),
        ("above", 0.0, 0.0, 0.02, "cannot be decided"),  # all networks gave the same result
        ("above", MISSING, MISSING, 0.02, "cannot be decided"),  # one seed
        ("peak", 0.01, 0.03, 0.0, "holds"),
        ("level", 0.992, 1.0, 0.99, "holds"),
        ("comparable", -0.01, 0.019, 0.02, "holds"),
        ("comparable", -0.01, 0.03, 0.02, "cannot be decided"),
        ("comparable", 0.021, 0.05, 0.02, "does not hold"),
        ("comparable", -0.05, -0.021, 0.02, "does not hold"),
    ],
)
def test_a_verdict_depends_on_the_position_of_the_interval(
    kind: str, low: float, high: float, margin: float, word: str
) -> None:
    assert word_of(kind, low, high, margin) == word


def row(**values: Any) -> dict[str, Any]:
    common = {
        "kind": "measured",
        "panel": "MNIST",
        "member": "i-sce",
        "method": "I-SCE",
        "setting": "",
        "attack": "",
        "radius": MISSING,
        "rms": MISSING,
        "seeds": 5,
        "images": 200,
        "by_seed": "0.5 0.6",
        "claim": "",
        "against": "",
        "network": "lenet5",
        "data": "mnist5k",
        "in_place_of": "mnist5k in place of mnist",
        "units": 10,
        "seconds": 3600,
        "versions": "torch 2",
        "hardware": "2 processors",
    }
    return {**common, **values}


@pytest.fixture
def table() -> pd.DataFrame:
    where = {"radius": 0.56, "rms": 0.02}
    attack = {"evaluation": "attack", "attack": "pgd50-ce", **where}
    claim = {"kind": "claim", "claim": "above", "against": "SCE", **where}
    return pd.DataFrame(
        [
            row(evaluation="clean", value=0.98, low=0.97, high=0.99),
            row(**attack, value=0.714, low=0.7, high=0.73),
            row(evaluation="worst", **where, value=0.337, low=0.3, high=0.37),
            row(**{**attack, **claim}, value=0.63, low=0.6, high=0.66),
            row(evaluation="worst", **claim, value=-0.01, low=-0.06, high=0.04),
        ]
    )


@pytest.fixture
def document() -> dict[str, Any]:
    claim = {
        "name": "above",
        "says": "I-SCE is above SCE",
        "panel": "MNIST",
        "kind": "above",
        "others": [{"method": "cross-entropy", "where": {}}],
        "margin": 0.02,
        "paper": {"cross-entropy": 0.6313},
    }
    printed = {"panel": "MNIST", "attack": "pgd50-ce", "at": {"rms": 0.02, "l2": None}, "values": {"i-sce": 0.6347}}
    return {"title": "PGD", "shows": "It shows.", "note": "", "claims": [claim], "printed": [printed]}


def test_each_evaluation_has_its_own_verdict(table: pd.DataFrame, document: dict[str, Any]) -> None:
    attacked, sound = verdicts(document, table)
    assert (attacked.word, attacked.paper) == ("holds", 0.6313)
    assert (sound.word, sound.paper) == ("cannot be decided", None)


def test_the_text_has_both_evaluations_the_number_in_the_paper_and_the_replacements(
    table: pd.DataFrame, document: dict[str, Any]
) -> None:
    lines = text("figure-5", document, table, ["figure-5.png"]).splitlines()
    assert lines[0] == "# Figure 5: PGD (here: lenet5 on mnist5k)"
    assert "![Figure 5: PGD (here: lenet5 on mnist5k)](figure-5.png)" in lines
    assert any(line.startswith("MNIST: lenet5 on mnist5k, 5 seeds, 200 images attacked (mnist5k in") for line in lines)
    first = lines.index("| pgd50-ce, 0.56 (0.02) | 71.4 [70.0, 73.0] |")
    assert lines[first + 1 : first + 3] == [
        "| *pgd50-ce, 0.56 (0.02), in the paper* | *63.47* |",
        "| **worst case**, 0.56 (0.02) | 33.7 [30.0, 37.0] |",
    ]
    first, second = lines[-2:]
    assert first.endswith("| the paper's attack | +63.0 [+60.0, +66.0] | > 2 | +63.1 | **holds** |")
    assert second.endswith("| sound evaluation | -1.0 [-6.0, +4.0] | > 2 |  | **cannot be decided** |")


def test_the_summary_counts_the_verdicts_of_each_claim(table: pd.DataFrame, document: dict[str, Any]) -> None:
    lines = summary([("figure-5", document, table.assign(experiment="figure-5"))]).splitlines()
    assert lines[-1] == (
        "| [Figure 5](figure-5.md) | I-SCE is above SCE | MNIST (here mnist5k) | pgd50-ce, 0.56 (0.02) | holds | "
        "cannot be decided |"
    )


def test_the_summary_gives_the_numbers_of_verdicts_on_a_claim_about_several_methods(
    table: pd.DataFrame, document: dict[str, Any]
) -> None:
    claim = {**document["claims"][0], "others": [{"method": name, "where": {}} for name in ("a", "b", "c")]}
    low = [0.6, 0.6, -0.9]
    claims = table[(table["kind"] == "claim") & (table["evaluation"] == "attack")]
    several = pd.concat([claims.assign(low=each, high=each + 0.1) for each in low])
    whole = pd.concat([table[table["kind"] != "claim"], several]).assign(experiment="figure-5")
    lines = summary([("figure-5", {**document, "claims": [claim]}, whole)]).splitlines()
    assert lines[-1].endswith("| holds (2), does not hold (1) |  |")
