"""Configurations: what is read, what is resolved, how a grid lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config import load, parse
from search.errors import UserError
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from tests.search.examples import small_config
from trainables.candidate import resolve
from trainables.losses import Loss
from trainables.registry import names
from trainables.settings.space import Range

CONFIGS = Path(__file__).parents[3] / "configs"


METHODS = sorted(CONFIGS.glob("methods/*.yaml"))


@pytest.mark.parametrize("path", [*sorted(CONFIGS.glob("*.yaml")), *METHODS], ids=lambda path: path.stem)
def test_every_shipped_configuration_is_legal_and_is_read_back_as_it_was_resolved(path: Path, tmp_path: Path) -> None:
    config = load(path)
    resolved = tmp_path / "sweep.yaml"
    resolved.write_text(config.to_yaml(), encoding="utf-8")
    assert load(resolved) == config
    assert config.name == path.stem


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_methods_configuration_can_be_planned_and_is_the_quickstart_with_another_method(
    path: Path, tmp_path: Path
) -> None:
    config, quickstart = load(path), load(CONFIGS / "quickstart.yaml")
    assert path.stem in (config.loss.name, config.defence.name)
    Run.plan(config, tmp_path)
    prepare_dataset(config.data, test=False, problem=config.problem)
    assert len(config.fixed_settings) == 1  # the reference setting
    for candidate in (*config.baselines, *map(config.candidate, config.fixed_settings)):
        resolve(config.problem, candidate).check((1, 28, 28), 10)
    own = {"name", "loss", "defence", "space"}
    documents = [
        {key: value for key, value in each.to_document().items() if key not in own} for each in (config, quickstart)
    ]
    if path.stem == "random-resize-pad":  # its attacks are the same, but average draws
        for attack in documents[0]["robustness"]["attacks"]:
            assert attack.pop("eot") == 8
        for attack in documents[1]["robustness"]["attacks"]:
            del attack["eot"]
    assert documents[0] == documents[1]


def written(folder: Path, **texts: str) -> Path:
    """Configurations in a folder; the path of the last."""
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
    return path


BELOW = """
name: below
train: {epochs: 3, learning_rate: 0.1}
loss: {name: i-sce, m: 0.05}
defence: adversarial-training
robustness: {views: [normalized, raw], images: 20}
space: {s: {low: 1.2, high: 1.5}}
search: {trials: 4}
"""


def test_a_base_is_merged_key_by_key(tmp_path: Path) -> None:
    above = "base: below.yaml\nname: above\ntrain: {epochs: 1}\nrobustness: {views: [raw]}\nloss: {m: 0.02}\n"
    config = load(written(tmp_path, below=BELOW, above=f"{above}defence: {{epsilon: 0.2}}"), ["search.seed=7"])
    assert (config.name, config.train.epochs, config.train.learning_rate) == ("above", 1, 0.1)
    assert (config.robustness.views, config.robustness.images) == (("raw",), 20)
    assert config.loss == load(written(tmp_path, plain=BELOW), ["loss.m=0.02"]).loss
    assert config.defence.settings["epsilon"] == 0.2
    assert (config.search.trials, config.search.seed) == (4, 7)
    assert "base" not in config.to_document()


def test_another_component_and_another_space_take_nothing_from_the_base(tmp_path: Path) -> None:
    above = "base: below.yaml\nname: above\nloss: {name: arcface, s: 32}\nspace: {m: {low: 0.2, high: 0.5}}\n"
    config = load(written(tmp_path, below=BELOW, above=above))
    assert config.loss.name == "arcface"
    assert config.domains == {"m": Range(low=0.2, high=0.5)}


def test_bases_have_bases_in_their_own_folders(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    written(tmp_path, below=BELOW)
    written(tmp_path / "inner", middle="base: ../below.yaml\ntrain: {epochs: 2}")
    config = load(written(tmp_path, above="base: inner/middle.yaml\nname: above"))
    assert (config.train.epochs, config.train.learning_rate) == (2, 0.1)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"above": "base: no.yaml"},
            r"^base of .*above.yaml must be an existing file, got .*no.yaml; correct the path$",
        ),
        (
            {"above": "base: [a]"},
            r"^base must be the path of a configuration, got \['a'\] in .*above.yaml; correct it$",
        ),
        (
            {"below": "base: above.yaml", "above": "base: below.yaml"},
            r"^base must not be circular, got above.yaml in .*below.yaml; remove it$",
        ),
        ({"below": "3", "above": "base: below.yaml"}, r"below.yaml must hold a mapping of settings, got int"),
    ],
    ids=["missing", "no path", "cycle", "no mapping"],
)
def test_a_wrong_base_is_named_in_one_line(texts: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as raised:
        load(written(tmp_path, **texts))
    assert "\n" not in str(raised.value)


def test_every_loss_and_defence_has_its_configuration() -> None:
    assert {path.stem for path in METHODS} == {*names("loss"), *names("defence")} - {"none"}


def test_more_classes_than_mmc_takes_are_refused_before_anything_starts() -> None:
    config = load(CONFIGS / "methods" / "mmc.yaml", ["loss.width=8"])
    with pytest.raises(UserError, match=r"^loss.width must be at least 9 for 10 classes, got 8; raise it$"):
        prepare_dataset(config.data, test=False, problem=config.problem)


def test_a_confirmation_needs_images_of_its_own() -> None:
    assert small_config().data.confirmation_size == 0
    assert small_config(search={"trials": 6, "confirmation_seeds": 3}).data.confirmation_size == 30
    with pytest.raises(UserError, match=r"^data.confirmation_size must be at least robustness.images \(20\)"):
        small_config(data={"confirmation_size": 10}, search={"trials": 6, "confirmation_seeds": 3})
    with pytest.raises(UserError, match=r"^data.confirmation_size must be below validation_size \(60\), got 60"):
        small_config(data={"confirmation_size": 60})
    with pytest.raises(UserError, match=r"^robustness.images must be at most data.validation_size minus .* \(10\)"):
        small_config(data={"confirmation_size": 50}, search={"trials": 6, "confirmation_seeds": 3})


def test_units_come_in_whole_settings() -> None:
    with pytest.raises(UserError, match=r"^search.trials must be a multiple of train.replicates \(3\), got 4"):
        small_config(train={"replicates": 3})


def test_audits_take_what_a_trial_does_as_far_as_nothing_else_is_said() -> None:
    resources = {"cpus_per_trial": 2, "gpus_per_trial": 0.5}
    audits = ({}, {"gpus": 0}, {"cpus": 4}, {"cpus": 8, "gpus": 1})
    data = {"validation_size": 500}
    found = [small_config(resources=resources, data=data, audit=audit).audit_resources for audit in audits]
    assert found == [(2, 0.5), (2, 0.0), (4, 0.5), (8, 1.0)]
    assert small_config(resources=resources).audit_resources == (2, 0.5)


def test_the_papers_setting_comes_first_then_the_enqueued_ones() -> None:
    config = small_config(search={"enqueue": [{"m": 0.05, "s": 1.5}, {"s": 1.0, "m": 0.1}]})
    assert config.fixed_settings == [{"s": 1.0, "m": 0.1}, {"s": 1.5, "m": 0.05}]


def test_a_space_without_the_papers_setting_does_not_try_it() -> None:
    config = small_config(space={"s": {"low": 1.2, "high": 2.0}})
    assert config.fixed_settings == []


def test_a_grid_is_exact_and_leaves_out_an_open_end() -> None:
    config = small_config(search={"sampler": "grid", "grid": {"s": 3, "m": 2}, "trials": None})
    points = {(setting["s"], setting["m"]) for setting in config.fixed_settings}
    assert points == {(s, m) for s in (1.0, 1.5, 2.0) for m in (0.05, 0.1)}
    assert config.fixed_settings[0] == {"s": 1.0, "m": 0.1}
    assert config.budget == 6


def test_a_grid_counts_the_enqueued_settings_too() -> None:
    search = {"sampler": "grid", "grid": {"s": 2, "m": 2}, "trials": None, "enqueue": [{"s": 1.3, "m": 0.02}]}
    assert small_config(search=search).budget == 5


@given(low=st.floats(-1e6, 1e6), width=st.floats(1, 1e6))
def test_the_open_end_of_a_range_is_left_out_in_single_precision_too(low: float, width: float) -> None:
    closed, half_open = Range(low=low, high=low + width), Range(low=low, high=low + width, low_exclusive=True)
    assert closed.contains(low)
    assert not half_open.contains(low)
    assert np.float32(half_open.lowest) > np.float32(low)
    assert half_open.contains(low + 1e-6 * max(abs(low), 1e-6))
    assert half_open.contains(low + width)


def test_m_is_half_open_by_default() -> None:
    m = small_config().domains["m"]
    assert isinstance(m, Range)
    assert m.lowest > 0
    assert m.high == 0.1


def test_overrides_reach_into_sections_and_are_typed() -> None:
    config = load(
        CONFIGS / "quickstart.yaml", ["search.trials=6", "train.learning_rate=1e-3", "data.root=/data"], "other"
    )
    assert (config.search.trials, config.train.learning_rate, config.data.root) == (6, 1e-3, "/data")
    assert config.name == "other"


def test_a_key_given_twice_is_an_error_not_a_silent_choice(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nname: b\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 2"):
        load(path)


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.yaml", tmp_path / "trace"
    path.write_text(f"name: !!python/object/apply:os.mkdir ['{trace}']\n", encoding="utf-8")
    with pytest.raises(UserError):
        load(path)
    assert not trace.exists()


def test_a_misspelt_key_explains_itself_rather_than_the_key_that_is_then_missing() -> None:
    with pytest.raises(UserError, match=r"nmae must be a known setting.*did you mean name\?"):
        parse({"nmae": "x", "search": {"trials": 1}})


def test_a_searched_parameter_is_not_called_like_a_column_of_the_records() -> None:
    loss, space = {"name": "tests.trainables.plugins:staged"}, {"epochs": {"low": 0.5, "high": 2.0}}
    with pytest.raises(UserError, match=r"space\.epochs must not have the name of a column of trials\.csv"):
        parse({"name": "columns", "loss": loss, "space": space, "search": {"trials": 2}})
    parse(
        {
            "name": "columns",
            "loss": loss,
            "space": {"train.learning_rate": {"low": 0.001, "high": 0.01}},
            "search": {"trials": 2},
        }
    )


def space(domain: dict[str, object], name: str, **sections: object) -> None:
    parse({"name": "small", "space": {name: domain}, "search": {"trials": 1}, **sections})


def test_an_end_that_is_no_whole_number_is_named_though_it_lies_within_the_limits() -> None:
    with pytest.raises(
        UserError, match=r"^space\.model\.width\.low and high must be whole numbers, got \[1\.5, 3\]; round"
    ):
        space({"low": 1.5, "high": 3}, "model.width")


def test_an_open_end_that_is_not_legal_itself_is_not_tried() -> None:
    space({"low": 0, "high": 0.1, "low_exclusive": True}, "train.learning_rate")
    with pytest.raises(
        UserError, match=r"^space\.train\.learning_rate\.low must be above 0, got 0; 0\.001 is usual for Adam$"
    ):
        space({"low": 0, "high": 0.1}, "train.learning_rate")


def test_a_value_that_another_setting_rules_out_is_told_with_that_setting() -> None:
    message = r"^space\.train\.optimizer\.nesterov\.choices must go with .*True: train\.optimizer\.momentum must"
    with pytest.raises(UserError, match=message):
        space(
            {"choices": [True, False]}, "train.optimizer.nesterov", train={"optimizer": {"name": "sgd", "momentum": 0}}
        )


def test_a_refusal_by_a_component_of_the_users_own_gets_the_value_and_a_remedy() -> None:
    with pytest.raises(UserError, match=r"^space\.rate\.low must be positive, got 0; choose another value$"):
        space({"low": 0, "high": 1}, "rate", loss={"name": "tests.search.config.test_loading:Picky"})


@dataclass(frozen=True, kw_only=True)
class Picky(Loss):
    """A loss whose messages name no value."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate <= 0:
            raise ValueError("rate must be positive")
