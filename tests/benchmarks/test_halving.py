"""The benchmark of halving: its problems have the documented fronts and curves, and it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.hypervolume import hypervolume
from analysis.statistics import Interval
from search.study import Unit
from tests.benchmarks.halving import EPOCHS, FRACTIONS, Conditions, main, run_pair, surplus, verdict
from tests.benchmarks.problems import NOISE, PROBLEMS, REFERENCE, Problem, Training, search_config
from trainables.candidate import Candidate


def front(problem: Problem, points: int) -> np.ndarray:
    """Values of many settings on a problem's front: the last variable is the distance from the front."""
    nearest = 0.5 if problem.untrained[0] > 1 else 0.0
    axes = [np.linspace(0, 1, points)] * (problem.objectives - 1)
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, problem.objectives - 1)
    return np.array([problem.function(np.append(x, nearest)) for x in grid])


@pytest.mark.parametrize(("name", "points"), [("zdt1", 3000), ("zdt2", 3000), ("zdt3", 3000), ("dtlz2", 3000)])
def test_the_fronts_volumes(name: str, points: int) -> None:
    problem = PROBLEMS[name]
    volume = hypervolume(front(problem, points), list(problem.directions.values()), [REFERENCE] * 2)
    assert volume == pytest.approx(problem.volume, abs=1e-3)


def test_the_volume_of_three_objectives() -> None:
    problem = PROBLEMS["dtlz2-3"]
    values = front(problem, 60)
    np.testing.assert_allclose((values**2).sum(axis=1), 1.0)  # the unit sphere
    coarse, fine = (hypervolume(v, ["minimize"] * 3, [REFERENCE] * 3) for v in (front(problem, 30), values))
    assert coarse < fine < problem.volume
    assert fine == pytest.approx(problem.volume, rel=0.02)


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_setting_is_beyond_the_front_or_worse_than_untrained(name: str) -> None:
    problem = PROBLEMS[name]
    draws = np.random.default_rng(0).random((500, problem.objectives))
    values = np.array([problem.function(x) for x in draws])
    assert (values <= np.array(problem.untrained) + 1e-12).all()
    volume = hypervolume(values, list(problem.directions.values()), [REFERENCE] * problem.objectives)
    assert 0 < volume < problem.volume


def test_curves_go_from_untrained_to_the_problems_own_values_at_different_speeds() -> None:
    problem = PROBLEMS["zdt1"]
    loss = search_config(problem, sampler="random", seed=0, trials=1, concurrency=1).loss
    draws = np.random.default_rng(0).random((100, 2)).tolist()
    settings = [Candidate(loss.name, {"x1": x1, "x2": x2}) for x1, x2 in draws]
    curves = [
        Training(problem, EPOCHS, 3, speed_ratio=2.0, rung_noise=0.0).curve(Unit("0", setting)) for setting in settings
    ]
    paces = set()
    for setting, curve in zip(settings, curves, strict=True):
        values = problem.values(setting.parameters)
        f2 = [estimate["f2"] for estimate in curve.estimates]
        assert f2[-1] == pytest.approx(values["f2"])
        assert f2 == sorted(f2, reverse=True)
        assert f2[0] < problem.untrained[1]
        assert curve.objectives is not None
        assert abs(curve.objectives["f2"] - values["f2"]) < 5 * NOISE
        paces.add(round((f2[2] - values["f2"]) / (problem.untrained[1] - values["f2"]), 6))
    assert max(paces) > 1.5 * min(paces)


def test_a_seed_gives_the_same_search_twice() -> None:
    conditions = Conditions(trials=8, first_rung=1)
    pair = run_pair(PROBLEMS["dtlz2"], "random", 5, conditions)
    assert pair == run_pair(PROBLEMS["dtlz2"], "random", 5, conditions)
    assert pair != run_pair(PROBLEMS["dtlz2"], "random", 6, conditions)
    for volumes in (pair.without, pair.halving):
        assert list(volumes) == sorted(volumes)
        assert 0 < volumes[-1] < 1
    assert pair.completed < pair.ended
    assert pair.ended > 8
    assert 0 < pair.reached_without <= 1
    half, whole = FRACTIONS.index(0.5), FRACTIONS.index(1.0)
    interval = surplus([pair, pair])
    assert interval.low == interval.high == pytest.approx(pair.halving[half] - 0.99 * pair.without[whole])


def test_the_verdict_depends_on_the_whole_interval() -> None:
    assert [verdict(Interval(*ends)) for ends in ((0.0, 0.1), (-0.1, 0.1), (-0.2, -0.1))] == ["yes", "undecided", "no"]


def test_the_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "result.json"
    arguments = ["--seeds", "2", "--trials", "6", "--problems", "zdt3,dtlz2-3", "--json", str(output)]
    assert main(arguments) == 0
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert set(results) == {"zdt3, tpe", "zdt3, random", "dtlz2-3, tpe", "dtlz2-3, random"}
    assert all(len(pairs) == 2 for pairs in results.values())
    printed = capsys.readouterr().out
    assert "difference" in printed
    assert "n = 2 seeds" in printed
    with pytest.raises(SystemExit):
        main(["--problems", "zdt9"])
    assert "--problems must be among zdt1" in capsys.readouterr().err
