from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from analysis.figures.audit import page

WORDS = {"sound": "holds", "suspicious": "cannot be relied on", "masked": "does not hold"}


def claim(name: str, verdict: str, claimed: float, verified: float) -> dict[str, Any]:
    return {
        "name": name,
        "evaluation": "pgd50-ce on raw logits",
        "claimed": claimed,
        "verified": verified,
        "verdict": verdict,
        "sentence": f"{name} is {verdict}",
    }


def check(name: str, of: str | None, state: str) -> dict[str, Any]:
    return {
        "name": name,
        "source": "Carlini et al. 2019",
        "claim": of,
        "value": None if state == "not done" else 0.123456,
        "threshold": 0.01,
        "at_least": False,
        "state": state,
        "sentence": f"{name} has {state}",
    }


def share(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy, "low": accuracy - 0.04, "high": accuracy + 0.04}


def document(replicates: int = 1) -> dict[str, Any]:
    """A sound worst case beside a masked single attack, as search/evaluation/audit.py writes it."""
    replicate = {
        "seed": 100,
        "verdict": "sound",
        "clean": share(0.95),
        "verified": share(0.4),
        "randomised": False,
        "claim": claim("robust_accuracy", "sound", 0.41, 0.4),
        "attack_claims": [
            claim("pgd50-ce/normalized", "masked", 0.7, 0.4),
            claim("pgd50-dlr/normalized", "sound", 0.42, 0.4),
        ],
        "checks": [
            check("black box", None, "passed"),
            check("loss falls", "pgd50-ce/normalized", "failed"),
            check("steps", "robust_accuracy", "not done"),
        ],
        "runs": [
            {
                "name": "apgd",
                "attack": "apgd",
                "view": "raw",
                "attacked": 500,
                "broken": 3,
                "accuracy": 0.5,
                "error": "",
            }
        ],
        "curve": [{"radius": r, "images": 64, **share(0.9 - 0.3 * r)} for r in (0.5, 1.5, 2.5)],
        "curve_clean": 0.95,
    }
    return {
        "upper_bound": False,
        "verdict": "sound",
        "radius": 1.5,
        "norm": "l2",
        "clean": share(0.95),
        "verified": share(0.4),
        "profile": "quick",
        "images": 500,
        "split": "validation",
        "seed": 0,
        "seconds": 61.4,
        "replicates": [{**copy.deepcopy(replicate), "seed": 100 + r} for r in range(replicates)],
    }


def shown(audit: dict[str, Any], **changes: str) -> str:
    meaning = f"The worst case {WORDS[audit['verdict']]}."
    return page(audit, **{"meaning": meaning, "title": "LeNet-5 on mnist5k", "axis": "L2 radius", **changes})


class Reader(HTMLParser):
    """The words of a page, section by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {"": ""}
        self.tags: list[str] = []
        self._last, self._heading = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        del attrs
        self._heading = tag in ("h2", "h3")

    def handle_data(self, data: str) -> None:
        if self._heading:
            self._last, self._heading = data, False
            self.sections[data] = ""
        self.sections[self._last] += f" {data}"


def test_the_banner_has_the_verdict_of_the_number_that_the_sweep_uses() -> None:
    """It said "Masked" of a sound setting where a single attack's claim was masked."""
    text = shown(document())
    [(style, word)] = re.findall(r'<div class="verdict (\w+)">\s*<b>(\w+)</b>', text)
    assert (style, word) == ("sound", "sound")
    assert "text-transform: capitalize" in text
    sections = Reader(text).sections
    assert "masked" not in sections["What is claimed, and what holds"]
    assert "robust_accuracy is sound" in sections["What is claimed, and what holds"]
    assert "pgd50-ce/normalized is masked" in sections["Single attacks"]
    assert "loss falls" in sections["Checks on single attacks"]
    assert "loss falls" not in sections["Checks"]
    assert sections["Checks"].index("steps") < sections["Checks"].index("black box")


def test_without_single_attacks_there_is_no_section_for_them() -> None:
    audit = document()
    audit["replicates"][0] |= {"attack_claims": [], "curve": []}
    reader = Reader(shown(audit))
    assert "Single attacks" not in reader.sections
    assert "Accuracy over the radius" not in reader.sections
    assert "svg" not in reader.tags


def test_every_replicate_has_its_sections() -> None:
    text = shown(document(replicates=2))
    for name in ("Replicate 0, seed 100: sound", "Replicate 1, seed 101: sound"):
        assert name in Reader(text).sections
    assert text.count("<h2>Single attacks</h2>") == 2
    assert text.count("<svg") == 2
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert identifiers


def test_what_the_document_says_is_text_and_not_markup() -> None:
    hostile = "<script>alert(1)</script>"
    audit = document()
    audit["split"] = audit["replicates"][0]["runs"][0]["name"] = hostile
    audit["replicates"][0]["claim"]["sentence"] = audit["replicates"][0]["checks"][0]["source"] = hostile
    text = shown(audit, title=hostile)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 6


def test_the_page_needs_nothing_else() -> None:
    text = shown(document())
    assert text.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "img"} & set(Reader(text).tags)
    assert not re.findall(r'(?:src|href)="(?!#)', text)


@pytest.mark.parametrize("verdict", ["suspicious", "masked"])
def test_other_verdicts_are_shown_too(verdict: str) -> None:
    text = shown({**document(), "verdict": verdict})
    assert f'<div class="verdict {verdict}">' in text
    assert f"The worst case {WORDS[verdict]}." in text


def test_what_is_no_more_than_an_upper_bound_is_not_called_verified() -> None:
    assert "Verified accuracy within" in shown(document())
    assert "Not verified: the accuracy within" in shown({**document(), "upper_bound": True})
