"""Each form of figure is drawn from a table of its experiment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.figures.reproduction import SOURCE, draw
from analysis.reproduction import text
from search.config.experiments import Experiment, Library

EXPERIMENTS = Path(__file__).parents[3] / "configs" / "experiments"
ONE_OF_EACH_FORM = ("figure-3", "figure-4", "figure-5", "figure-7", "figure-8", "figure-9", "table-3")
MEASURES = {"condition": ("f_true", "others", "condition"), "embedding": ("silhouette", "angular_silhouette")}
SETTINGS = {
    "surfaces": [f"s={s}, m={m}" for s, m in itertools.product((1, 1.333, 1.667, 2), (0.025, 0.05, 0.075, 0.1))],
    "curves": [f"defence.epsilon={radius}" for radius in (0, 0.5, 1, 1.5, 2, 2.5, 3)],
}


def planted(name: str, experiment: Experiment) -> pd.DataFrame:
    """A table with every row that a figure needs, filled with plausible numbers."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(list(rows(name, experiment, generator)))


def rows(name: str, experiment: Experiment, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for title, panel in experiment.panels.items():
        about = {"experiment": name, "panel": title, "network": "lenet5", "data": "mnist5k", "in_place_of": "a for b"}
        about |= {"units": 5, "seconds": 100, "versions": "torch 2", "hardware": "2 processors", "claim": ""}
        for method, setting in itertools.product(panel.methods, SETTINGS.get(experiment.form, [""])):
            evaluations: list[tuple[str, str, float]] = [("clean", "", np.nan)]
            evaluations += [(measure, "", np.nan) for measure in MEASURES.get(experiment.form, ())]
            for radius in panel.radii.in_l2(784):
                evaluations += [("attack", attack, radius) for attack in panel.attack_labels]
                evaluations.append(("worst", "", radius))
            for evaluation, attack, radius in evaluations:
                seeds = np.clip(generator.normal(0.5, 0.05, 5), 0, 1)
                yield {
                    **about,
                    "kind": "network" if evaluation in MEASURES.get(experiment.form, ()) else "measured",
                    **{"member": method, "method": method.upper(), "setting": setting},
                    **{"evaluation": evaluation, "attack": attack, "radius": radius, "rms": radius / 28},
                    **{"value": seeds.mean(), "low": seeds.min(), "high": seeds.max(), "seeds": 5, "images": 200},
                    "by_seed": " ".join(f"{seed:.4f}" for seed in seeds),
                }


def features(experiment: Experiment) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    parts = []
    for title, panel in experiment.panels.items():
        for method in panel.methods:
            part = pd.DataFrame(generator.normal(size=(30, 3)), columns=["x", "y", "z"])
            parts.append(part.assign(panel=title, method=method.upper(), label=np.arange(30) % 10))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("name", ONE_OF_EACH_FORM)
def test_each_form_is_drawn_and_written_down(name: str, tmp_path: Path) -> None:
    experiment = Library.read(EXPERIMENTS).experiments[name]
    table, document = planted(name, experiment), experiment.model_dump(mode="json")
    points = features(experiment) if experiment.form == "embedding" else None
    files = draw(name, document, table, points, "0" * 64, tmp_path / name)
    expected = {"table": [], "embedding": [".png", ".html"]}.get(experiment.form, [".png"])
    assert [file.suffix for file in files] == expected
    for file in files[:1]:
        with Image.open(file) as image:
            image.load()
            assert image.info[SOURCE] == "0" * 64
            assert len(np.unique(np.asarray(image.convert("L")))) > 20  # something is drawn
    for page in files[1:]:
        content = page.read_text(encoding="utf-8")
        assert content.count('"mode":"markers"') == len(experiment.panels) * len(table["member"].unique())
    written = text(name, document, table, [file.name for file in files])
    assert "(here: lenet5 on mnist5k)" in written.splitlines()[0]
    assert "(a for b)" in written
    for method in table["method"].unique():
        assert method in written
