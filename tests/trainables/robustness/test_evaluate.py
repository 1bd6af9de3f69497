from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.audit.planted_pairs import Noisy
from tests.trainables.victims import RADIUS, Scaled, digits, trained
from trainables.attacks import Attack, attack_seed
from trainables.attacks.ddn import DDN
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.fab import FAB
from trainables.attacks.pgd import PGD
from trainables.attacks.simba import SimBA
from trainables.data.splits import Split
from trainables.robustness import Outcomes
from trainables.robustness.evaluate import evaluate
from trainables.settings import RobustnessSettings

SETTINGS = RobustnessSettings(
    attacks=(PGD(steps=5), PGD(steps=5, loss="dlr")),
    epsilon=RADIUS,
    images=40,
    batch_size=16,
)


def validation(count: int = 64) -> Split:
    return Split(*digits(count))


def test_nearly_equal_radii_have_accuracies_of_their_own() -> None:
    radii = (1.5, 1.5000001, 1.5000002, 2.0)
    kept = np.ones((1, 1, 1, 4, 4), dtype=np.bool_)
    for e in range(4):
        kept[..., e, :e] = False
    outcomes = replace(
        by_hand(),
        clean=np.ones((1, 4), dtype=np.bool_),
        kept=kept,
        distance=np.ones((1, 1, 1, 4), dtype=np.float32),
        passes=np.zeros((1, 1, 1, 4, 2), dtype=np.int64),
        sees=np.ones((1, 1), dtype=np.bool_),
        attacks=("pgd50-ce",),
        remaining=(False,),
        views=("raw",),
        epsilons=radii,
        seeds=(0,),
    )
    further = {name: float(accuracy[0]) for name, accuracy in outcomes.further_accuracy().items()}
    assert further == {
        "robust_accuracy@1.5000001": 0.75,
        "robust_accuracy@1.5000002": 0.5,
        "robust_accuracy@2": 0.25,
    }


def by_hand() -> Outcomes:
    """One replicate that keeps images 0 and 1 under the worst case, and one that keeps none."""
    kept = np.ones((2, 2, 2, 1, 4), dtype=np.bool_)
    kept[0, 0, :, 0, 3] = False
    kept[0, 1, 1, 0, 2] = False
    kept[1, :, 1] = False
    return Outcomes(
        clean=np.array([[True] * 5, [True, True, True, True, False]]),
        kept=kept,
        distance=np.linspace(0, 2, 32, dtype=np.float32).reshape(2, 2, 2, 4),
        passes=np.arange(16).reshape(2, 2, 2, 1, 2),
        attacks=("pgd50-ce", "torchattacks.APGD"),
        sees=np.ones((2, 2), dtype=np.bool_),
        remaining=(False, False),
        views=("normalized", "raw"),
        epsilons=(1.5,),
        seeds=(7, 2**32 - 1),
    )


def test_robust_accuracy_is_the_worst_case_of_each_image() -> None:
    outcomes = by_hand()
    assert outcomes.clean_accuracy().tolist() == [1.0, 0.8]
    assert outcomes.robust_accuracy().tolist() == [0.5, 0.0]
    assert {name: values.tolist() for name, values in outcomes.attack_accuracy().items()} == {
        "pgd50-ce/normalized": [0.75, 1.0],
        "pgd50-ce/worst": [0.75, 0.0],
        "torchattacks.APGD/normalized": [1.0, 1.0],
        "torchattacks.APGD/worst": [0.75, 0.0],
    }


def test_what_happened_to_each_image_has_the_names_of_the_accuracies() -> None:
    outcomes = replace(by_hand(), epsilons=(1.5, 2.0), kept=by_hand().kept.repeat(2, axis=3))
    outcomes.kept[:, :, :, 1, 0] = False
    accuracies = {
        "clean_accuracy": outcomes.clean_accuracy(),
        "robust_accuracy": outcomes.robust_accuracy(),
        **outcomes.attack_accuracy(),
        **outcomes.further_accuracy(),
    }
    shares = {name: kept.mean(axis=1).tolist() for name, kept in outcomes.by_name().items()}
    assert shares == {name: values.tolist() for name, values in accuracies.items()}
    assert shares["robust_accuracy"] != shares["robust_accuracy@2"]


def test_outcomes_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "7.npz"
    by_hand().save(path)
    again = Outcomes.load(path)
    for name, value in vars(by_hand()).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value)
            assert getattr(again, name).dtype == value.dtype
        else:
            assert getattr(again, name) == value
            assert type(getattr(again, name)[0]) is type(value[0])
    assert [file.name for file in tmp_path.iterdir()] == ["7.npz"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "7.npz"
    by_hand().save(path)
    before = path.read_bytes()

    monkeypatch.setattr(np, "savez_compressed", Mock(side_effect=OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        by_hand().save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["7.npz"]


def test_evaluation_says_what_each_attack_says_alone() -> None:
    split = validation()
    models, seeds = [trained(), trained("i-sce")], [3, 4]
    outcomes = evaluate(models, split, SETTINGS, seeds)
    assert outcomes.clean.shape == (2, 64)
    assert outcomes.kept.shape == (2, 2, 2, 1, 40)
    assert (outcomes.attacks, outcomes.views) == (("pgd5-ce", "pgd5-dlr"), ("normalized", "raw"))
    assert (outcomes.epsilons, outcomes.seeds) == ((RADIUS,), (3, 4))
    for r, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        with torch.no_grad():
            correct = (model(split.images).argmax(1) == split.labels).numpy()
        np.testing.assert_array_equal(outcomes.clean[r], correct)
        for a, attack in enumerate((PGD(steps=5), PGD(steps=5, loss="dlr"))):
            for v, view in enumerate(SETTINGS.views):
                alone = attack(
                    model,
                    split.images[:40],
                    split.labels[:40],
                    radius=RADIUS,
                    view=view,
                    seed=attack_seed(seed, outcomes.attacks[a]),
                )
                before = outcomes.kept[r, a, v - 1, 0] if v > 0 else True
                np.testing.assert_array_equal(outcomes.kept[r, a, v, 0], alone.kept.numpy() & before)
        assert (outcomes.kept[r] <= correct[:40]).all()
    worst = np.min(list(outcomes.attack_accuracy().values()), axis=0)
    assert (outcomes.robust_accuracy() <= worst).all()


def test_an_image_that_falls_in_one_view_is_not_attacked_in_the_next() -> None:
    split = validation()
    one = evaluate([trained()], split, replace(SETTINGS, views=("raw",)), [0])
    both = evaluate([trained()], split, replace(SETTINGS, views=("normalized", "raw")), [0])
    first, second = both.kept[0, 0, :, 0]
    assert 0 < first.sum() < one.clean[0, :40].sum()
    assert (second <= first).all()
    np.testing.assert_array_equal(second, one.kept[0, 0, 0, 0] & first)
    assert (both.passes[0, 0, 1, 0] <= (SETTINGS.attacks[0].steps + 1) * first.sum()).all()
    assert (both.passes[0, 0, 1, 0] < one.passes[0, 0, 0, 0]).all()


def test_the_margin_loss_runs_on_one_view_for_both() -> None:
    passes = evaluate([trained()], validation(), SETTINGS, [0]).passes[0, :, :, 0]
    assert (passes[0] > 0).all()
    assert (passes[1, 0] > 0).all()
    assert not passes[1, 1].any()


def test_an_attack_may_see_some_of_the_views_alone() -> None:
    split = validation()
    first, second = SETTINGS.attacks
    both = evaluate([trained()], split, SETTINGS, [0])
    settings = replace(SETTINGS, attacks=(replace(first, views=("raw",)), replace(second, views=("normalized",))))
    outcomes = evaluate([trained()], split, settings, [0])
    raw = evaluate([trained()], split, replace(SETTINGS, attacks=(first,), views=("raw",)), [0])
    np.testing.assert_array_equal(outcomes.kept[0, 0, 0, 0], both.clean[0, :40])  # nothing has been tried yet
    np.testing.assert_array_equal(outcomes.kept[0, 0, 1], raw.kept[0, 0, 0])
    np.testing.assert_array_equal(outcomes.kept[0, 1, 0], both.kept[0, 1, 0])
    np.testing.assert_array_equal(outcomes.kept[0, 1, 1], both.kept[0, 1, 0])
    assert list(outcomes.attack_accuracy()) == ["pgd5-ce/raw", "pgd5-dlr/normalized"] == settings.accuracy_names
    assert not outcomes.passes[0, 0, 0].any()
    assert not outcomes.passes[0, 1, 1].any()
    calls: list[tuple[float, int]] = []
    evaluate([trained()], split, settings, [0], lambda done, total: calls.append((done, total)))
    assert calls[-1] == (2, 2)


def test_what_the_clean_model_gets_wrong_has_distance_0_whatever_a_mean_of_evaluations_says() -> None:
    class Coin(nn.Module):
        """Wrong at first and right from then on."""

        calls = 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            return torch.tensor([[0.0, 1.0] if self.calls == 1 else [1.0, 0.0]]).repeat(len(images), 1)

    split = Split(torch.full((4, 1, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64))
    settings = replace(SETTINGS, attacks=(SimBA(queries=2, eot=2),), images=4, views=("raw",))
    outcomes = evaluate([Coin()], split, settings, [0])
    assert not outcomes.clean.any()
    assert not outcomes.kept.any()
    assert not outcomes.distance.any()


def test_an_attack_on_what_remains_gives_the_same_worst_case_for_less() -> None:
    split, radii = validation(), (0.2, 0.3)
    first, second = SETTINGS.attacks
    apart = evaluate([trained()], split, replace(SETTINGS, epsilon=radii), [0])
    settings = replace(SETTINGS, attacks=(first, replace(second, remaining=True)), epsilon=radii)
    cascade = evaluate([trained()], split, settings, [0])
    for e in range(2):
        np.testing.assert_array_equal(cascade.robust_accuracy(e), apart.robust_accuracy(e))
    np.testing.assert_array_equal(cascade.kept[0, 0], apart.kept[0, 0])
    np.testing.assert_array_equal(cascade.kept[0, 1, -1], apart.kept[0].all(axis=(0, 1)))
    assert (cascade.passes[0, 1, 0] < apart.passes[0, 1, 0]).all()
    assert list(cascade.attack_accuracy()) == ["pgd5-ce/normalized", "pgd5-ce/worst"] == settings.accuracy_names


def test_outcomes_depend_on_the_replicates_seed_alone() -> None:
    split = validation()
    first = evaluate([trained()], split, SETTINGS, [5])
    again = evaluate([trained("i-sce"), trained()], split, SETTINGS, [1, 5])
    np.testing.assert_array_equal(first.kept[0], again.kept[1])
    np.testing.assert_array_equal(first.kept, evaluate([trained()], split, SETTINGS, [5]).kept)
    strong = replace(SETTINGS, attacks=(PGD(steps=1),), images=64)
    drawn = {evaluate([trained()], split, strong, [seed]).kept.tobytes() for seed in range(6)}
    assert len(drawn) > 1


def test_fewer_images_and_other_batches_give_the_same_outcomes() -> None:
    split = validation()
    whole = evaluate([trained()], split, SETTINGS, [0])
    part = evaluate([trained()], split, replace(SETTINGS, images=17, batch_size=40), [0])
    np.testing.assert_array_equal(part.kept, whole.kept[..., :17])


@pytest.mark.parametrize("name", ["sce", "i-sce"])
def test_the_worst_case_is_the_same_at_every_scale_of_the_logits(name: str) -> None:
    split = validation(64)
    settings = replace(
        SETTINGS,
        attacks=(PGD(steps=10), PGD(steps=10, loss="dlr")),
        images=64,
        epsilon=0.25,
    )
    models = [Scaled(trained(name), scale) for scale in (1, 10, 100, 1000)]
    robust = 64 * evaluate(models, split, settings, [0] * 4).robust_accuracy()
    assert np.ptp(robust) <= 1.001
    assert 5 < robust[0] < 55


def test_whoever_falls_within_a_radius_has_fallen_within_a_larger_one() -> None:
    split, radii = validation(), (0.2, 0.4, 0.1)
    together = evaluate([trained()], split, replace(SETTINGS, epsilon=radii), [0])
    assert together.epsilons == radii
    kept = together.kept[0]
    apart = [evaluate([trained()], split, replace(SETTINGS, epsilon=radius), [0]) for radius in radii]
    # The smallest radius costs and finds what it does alone; each other one starts from what the smaller ones left.
    np.testing.assert_array_equal(kept[:, :, 2], apart[2].kept[0, :, :, 0])
    np.testing.assert_array_equal(together.passes[0, :, :, 2], apart[2].passes[0, :, :, 0])
    np.testing.assert_array_equal(kept[:, 0, 0], kept[:, 0, 2] & apart[0].kept[0, :, 0, 0])
    np.testing.assert_array_equal(kept[:, 0, 1], kept[:, 0, 0] & apart[1].kept[0, :, 0, 0])
    assert (together.passes[0, 0, :, :2] < together.passes[0, 0, :, 2:]).all()
    assert 0 < kept[:, :, 1].sum() < kept[:, :, 0].sum() < kept[:, :, 2].sum()
    within = together.distance[0, :, :, None] <= np.array(radii)[:, None] * (1 + 1e-4)
    np.testing.assert_array_equal(within, ~kept)
    assert together.robust_accuracy(1) < together.robust_accuracy() < together.robust_accuracy(2)
    assert together.further_accuracy() == {
        "robust_accuracy@0.4": together.robust_accuracy(1),
        "robust_accuracy@0.1": together.robust_accuracy(2),
    }


@pytest.mark.parametrize("factor", [1, 1000])
def test_the_rescaled_view_is_the_same_at_every_scale_of_the_logits(factor: float) -> None:
    split = validation()
    settings = replace(SETTINGS, attacks=SETTINGS.attacks[:1], views=("rescaled",), epsilon=0.25)
    outcomes = evaluate([trained(), Scaled(trained(), factor)], split, settings, [0, 0])
    np.testing.assert_array_equal(outcomes.kept[0], outcomes.kept[1])
    assert 5 < outcomes.kept[0].sum() < 35


def test_the_radius_follows_the_convention() -> None:
    split = validation()
    ball = evaluate([trained()], split, SETTINGS, [0]).kept
    settings = replace(SETTINGS, epsilon=RADIUS / 8, eps_convention="rms")  # 64 values an image
    np.testing.assert_array_equal(evaluate([trained()], split, settings, [0]).kept, ball)


def test_progress_counts_the_attacks() -> None:
    calls: list[tuple[float, int]] = []
    evaluate([trained()] * 2, validation(), SETTINGS, [0, 1], lambda done, total: calls.append((done, total)))
    assert {total for _, total in calls} == {8}
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert set(range(1, 9)) <= set(done)
    assert 1 / 6 in done  # the first of the six passes of a PGD of five steps


def test_too_few_images_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^images must be at most the number of validation images \(8\), got 40; "):
        evaluate([trained()], validation(8), SETTINGS, [0])


RADII = (0.5, 0.2, 0.35)


@pytest.mark.parametrize("attack", [DeepFool(), FAB(steps=8), DDN()])
def test_one_run_of_a_minimum_norm_attack_says_who_stands_at_every_radius(attack: Attack) -> None:
    split = validation()
    settings = replace(SETTINGS, attacks=(attack,), epsilon=RADII, views=("normalized",))
    outcomes = evaluate([trained()], split, settings, [0])
    alone = attack(
        trained(),
        split.images[:40],
        split.labels[:40],
        radius=max(RADII),
        view="normalized",
        seed=attack_seed(0, attack.label),
        batch_size=16,
    )
    np.testing.assert_array_equal(outcomes.distance[0, 0, 0], alone.distance)
    for e, radius in enumerate(RADII):
        np.testing.assert_array_equal(outcomes.kept[0, 0, 0, e], (alone.distance > radius).numpy())
        one = evaluate([trained()], split, replace(settings, epsilon=radius), [0])
        np.testing.assert_array_equal(one.kept[0, 0, 0, 0], outcomes.kept[0, 0, 0, e])
    robust = [outcomes.robust_accuracy(e)[0] for e in range(3)]
    assert robust[0] < robust[2] < robust[1]
    passes = outcomes.passes[0, 0, 0]
    assert passes[0].all()
    assert not passes[1:].any()


def test_the_second_view_of_a_minimum_norm_attack_runs_on_what_stands_at_the_smallest_radius() -> None:
    split = validation()
    settings = replace(SETTINGS, attacks=(DeepFool(),), epsilon=RADII)
    first, second = (
        evaluate([trained("i-sce")], split, replace(settings, views=(view,)), [0]) for view in ("normalized", "raw")
    )
    both = evaluate([trained("i-sce")], split, settings, [0])
    np.testing.assert_array_equal(both.kept[0, 0, 0], first.kept[0, 0, 0])
    np.testing.assert_array_equal(both.kept[0, 0, 1], first.kept[0, 0, 0] & second.kept[0, 0, 0])
    assert (both.kept[0, 0, 1].sum(1) < both.kept[0, 0, 0].sum(1)).any()
    assert (both.distance[0, 0, 1] <= both.distance[0, 0, 0]).all()
    beyond = first.distance[0, 0, 0] > min(RADII)
    np.testing.assert_allclose(
        both.distance[0, 0, 1][beyond],
        np.minimum(first.distance, second.distance)[0, 0, 0][beyond],
        rtol=1e-4,  # other images in the batch
    )
    assert (both.passes[0, 0, 1, 0] < second.passes[0, 0, 0, 0]).all()


def test_deepfool_does_the_same_on_logits_rescaled() -> None:
    settings = replace(SETTINGS, attacks=(DeepFool(),), views=("normalized", "raw", "rescaled"))
    passes = evaluate([trained()], validation(), settings, [0]).passes[0, 0, :, 0]
    assert passes[:2].all()
    assert not passes[2].any()


def test_a_random_models_outcomes_depend_on_the_seed_alone() -> None:
    model = nn.Sequential(Noisy(0.2), *trained()).eval()
    outcomes = []
    for state in (0, 1):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        outcomes.append(evaluate([model], validation(), SETTINGS, [3]))
        assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(outcomes[0].clean, outcomes[1].clean)
    np.testing.assert_array_equal(outcomes[0].kept, outcomes[1].kept)
    other = evaluate([model], validation(), SETTINGS, [4])
    assert not np.array_equal(other.clean, outcomes[0].clean), "another seed draws other noise"
