"""The declared experiments are complete and valid in both profiles, and train shared networks only once."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from search.config.experiments import Library, Radii, Radius
from search.errors import UserError

CONFIGS = Path(__file__).parents[3] / "configs"
NAMES = [*(f"figure-{number}" for number in range(3, 13)), *(f"table-{number}" for number in range(1, 4))]
MIN_SEEDS = 5


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.read(CONFIGS / "experiments")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "methods", tmp_path / "methods")
    shutil.copytree(CONFIGS / "experiments", tmp_path / "experiments")
    return tmp_path / "experiments"


def test_every_figure_and_table_of_the_paper_is_declared(library: Library) -> None:
    assert list(library.experiments) == NAMES
    assert library.chosen("all") == NAMES


def test_quick_sweeps_are_small_and_have_enough_seeds(library: Library) -> None:
    for pool, members in library.needed(NAMES, "quick").items():
        for member in members:
            config = library.sweep(pool, member, "quick", "test")
            assert config.model.name == "lenet5"
            assert config.data.name in ("mnist5k", "fashion-mnist")
            assert config.train.replicates >= MIN_SEEDS
            assert config.name == f"test-{pool}-{member}"
            assert config.tracking.parent == f"test-{pool}"


def test_paper_sweeps_are_the_full_protocol(library: Library) -> None:
    shallow = {"mnist-lenet5": "lenet5", "cifar10-cnn8": "cnn8"}
    for pool, members in library.needed(NAMES, "paper").items():
        for member in members:
            config = library.sweep(pool, member, "paper", "test")
            assert config.model.name == shallow.get(pool, "resnet32")
            assert config.data.name == pool.partition("-")[0]
            assert config.train.replicates >= MIN_SEEDS


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_members_of_a_pool_are_measured_alike(library: Library, profile: str) -> None:
    assert profile in ("quick", "paper")
    for pool, members in library.needed(NAMES, profile).items():
        configs = [library.sweep(pool, member, profile, "test") for member in members]
        for config in configs:
            assert config.data == configs[0].data
            assert config.train.replicates == configs[0].train.replicates
            robustness, first = config.robustness, configs[0].robustness
            assert [each.description for each in robustness.attacks] == [each.description for each in first.attacks]
            assert (robustness.epsilons, robustness.images) == (first.epsilons, first.images)


def test_the_paper_attacks_see_the_deciding_logits_and_the_sound_attacks_see_both_views(library: Library) -> None:
    own = {"i-sce": "normalized", "cross-entropy": "raw"}
    for member, view in own.items():
        robustness = library.sweep("digits", member, "quick", "test").robustness
        assert robustness.views[0] == view
        assert set(robustness.views) == {"normalized", "raw"}
        for attack in robustness.attacks:
            sound = attack.description in ("apgd50-ce", "fmn50", "apgd20-dlr-likeliest")
            assert attack.remaining == sound
            assert robustness.views_of(attack)[0] == view or attack.description == "fmn50"
            assert sound or robustness.views_of(attack) == (view,)


def test_a_randomised_method_is_attacked_in_expectation(library: Library) -> None:
    attacks = library.sweep("digits", "random-resize-pad", "quick", "test").robustness.attacks
    assert {attack.eot for attack in attacks} == {8}


def test_networks_that_experiments_share_are_trained_once(library: Library) -> None:
    needed = library.needed(["figure-5", "figure-8", "figure-10", "table-1", "table-3"], "quick")
    assert list(needed) == ["digits", "garments"]
    assert needed["digits"] == list(library.pools["digits"].members)
    assert library.needed(["table-1"], "quick") == {"digits": ["adversarial-training", "i-sce"]}
    # The number of networks in the whole quick profile.
    needed = library.needed(NAMES, "quick")
    total = sum(
        library.sweep(pool, each, "quick", "test").budget for pool, members in needed.items() for each in members
    )
    assert total == 2 * 50 + 2 * 80 + 35 + 2 * 25


def test_the_figure_over_s_and_m_is_on_a_grid_of_four_by_four(library: Library) -> None:
    settings = library.sweep("digits-grid", "i-sce", "quick", "test").fixed_settings
    assert len({setting["s"] for setting in settings}) == len({setting["m"] for setting in settings}) == 4
    assert len(settings) == 16


def test_radii_are_read_in_both_conventions() -> None:
    assert Radii(l2=[1.5, 0.56], rms=[0.02, 0.04]).in_l2(784) == [0.56, 1.12, 1.5]
    assert Radius(rms=0.02).in_l2(3072) == pytest.approx(0.02 * math.sqrt(3072), abs=1e-6)
    with pytest.raises(ValueError, match=r"must be one radius, got both or none"):
        Radius(l2=1.0, rms=0.02)


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("figure-5", "shows:", "show:", r"figure-5.yaml: show must be a known setting, .* did you mean shows"),
        ("figure-5", "methods:", "method:", r"panels.MNIST.method must be a known setting, .* did you mean methods"),
        ("figure-5", "says: I", "say: I", r"claims\[0\].say must be a known setting"),
        ("figure-5", "quick: digits", "quick: digit", r"panels.MNIST must name pools, got digit; did you mean digits"),
        ("table-1", "[i-sce, adv", "[i-cse, adv", r"claims\[0\].method must be one of the panel's, got i-sce"),
        ("table-3", "attack: simba300-pixel", "attack: simba3-pixel", r"claims\[0\].attack must be one of the panel's"),
        ("figure-9", "measure: silhouette", "measure: outline", r"claims\[0\].measure must be one of the form's"),
        ("pools/digits", "title: SCE", "titel: SCE", r"members.cross-entropy.titel must be a known setting"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(copy: Path, file: str, old: str, new: str, line: str) -> None:
    path = copy / f"{file}.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=line) as caught:
        Library.read(copy)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_pool_s_sweep_names_the_pool(copy: Path) -> None:
    path = copy / "pools" / "digits.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("epochs: 6", "epochs: 0"), encoding="utf-8")
    with pytest.raises(UserError, match=r"digits.yaml, i-sce: train.epochs must be "):
        Library.read(copy).sweep("digits", "i-sce", "quick", "test")


def test_an_unknown_name_is_refused(library: Library) -> None:
    with pytest.raises(UserError, match=r"NAME must be one of figure-3, .* got figure-2; did you mean figure-"):
        library.chosen("figure-2")
