"""The audit on networks and evidence small enough to see through, and its exact tests in rational numbers."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.audit.planted_pairs import Noisy, Quantised
from tests.trainables.victims import RADIUS, Scaled, digits, linear, trained
from trainables.attacks import Attack
from trainables.attacks.apgd import APGD
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.pgd import PGD
from trainables.attacks.torchattacks import Torchattacks
from trainables.audit import Audit, Claim, Profile, audit, cheap_claim
from trainables.audit.checks import claim_checks, general_checks
from trainables.audit.evidence import QUICK, Evidence, Run
from trainables.audit.planted import Planted
from trainables.audit.verdict import Check, Gap, Images, exact_interval, judge, mcnemar
from trainables.settings import View

SMALL = Profile(
    name="small",
    images=100,
    steps=20,
    targets=3,
    queries=60,
    draws=20,
    fab=True,
    restarts=1,
    probes=60,
    planted=12,
)
TINY = replace(SMALL, steps=3, targets=1, queries=10, draws=5, fab=False, probes=10, planted=2)
COUNT = 200


def small_audit(model: nn.Module, *claims: Claim, profile: Profile = SMALL, seed: int = 0) -> Audit:
    images, labels = digits(COUNT)
    return audit(model, images, labels, claims, radius=RADIUS, profile=profile, seed=seed)


def claimed(model: nn.Module, *attacks: Attack, views: tuple[View, ...] = ("raw",)) -> Claim:
    images, labels = digits(COUNT)
    return cheap_claim(model, images, labels, radius=RADIUS, attacks=attacks, views=views, name="claim")


def failed(result: Audit) -> set[str]:
    return {check.name for check in result.checks if check.state == "failed"}


# Verdicts.


def by_hand(kept: int, n: int = 500) -> Claim:
    return Claim("claim", (PGD(),), ("raw",), np.arange(n) < kept)


def check(state: str, claim: str | None) -> Check:
    return Check("sign", "source", claim, 1.0, 0.0, False, state, "sentence")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lost", "checks", "errors", "word"),
    [
        (0, [], [], "sound"),
        (5, [], [], "sound"),  # 1 point of 500: within the tolerance
        (25, [], [], "masked"),
        (25, [check("failed", None)], ["broken"], "masked"),
        (0, [check("failed", None)], [], "suspicious"),
        (0, [check("failed", "claim")], [], "suspicious"),
        (0, [check("failed", "another")], [], "sound"),
        (0, [check("not done", None), check("passed", "claim")], [], "sound"),
        (0, [], ["broken"], "suspicious"),
    ],
)
def test_a_verdict_follows_from_the_gap_and_the_checks_that_concern_it(
    lost: int, checks: list[Check], errors: list[str], word: str
) -> None:
    claim = by_hand(300)
    verdict = judge(claim, np.arange(500) < 300 - lost, checks, errors)
    assert verdict.word == word
    assert verdict.gap.lost == lost
    if word == "masked":
        assert "60.0 % is claimed, 55.0 % holds" in verdict.sentence


def test_a_claim_on_fewer_images_is_judged_on_those() -> None:
    verified = np.zeros(500, dtype=np.bool_)
    verified[:100] = True
    assert judge(by_hand(100, n=100), verified, [], []).word == "sound"


def test_a_gap_counts_beyond_chance_and_tolerance() -> None:
    everything = np.ones(2000, dtype=np.bool_)
    assert not Gap.between(everything, np.arange(2000) >= 15).counts  # 0.75 points, certain but small
    assert Gap.between(everything, np.arange(2000) >= 60).counts
    assert not Gap.between(everything[:20], np.arange(20) >= 2).counts  # 10 points, by chance
    # Two outcomes that differ on many images without one being better.
    assert not Gap.between(np.arange(2000) < 1000, np.arange(2000) >= 1000).counts


# The exact tests.


def tail(successes: int, n: int, probability: Fraction) -> Fraction:
    """P(X >= successes) of a binomial X over ``n`` trials."""
    return sum(
        (comb(n, k) * probability**k * (1 - probability) ** (n - k) for k in range(successes, n + 1)), Fraction(0)
    )


def lower_end(successes: int, n: int) -> float:
    """The share at which as many successes or more have a chance of 2.5 %, by bisection."""
    low, high = Fraction(0), Fraction(successes, n)
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(successes, n, middle) < Fraction(25, 1000) else (low, middle)
    return float(low)


@pytest.mark.parametrize(("successes", "n"), [(0, 30), (1, 30), (17, 30), (29, 30), (30, 30), (7, 90)])
def test_the_interval_is_clopper_and_pearsons(successes: int, n: int) -> None:
    low, high = exact_interval(successes, n)
    assert low == pytest.approx(lower_end(successes, n) if successes else 0, abs=1e-9)
    others = n - successes
    assert high == pytest.approx(1 - lower_end(others, n) if others else 1, abs=1e-9)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (0, 5), (7, 7), (3, 12), (12, 3), (40, 21)])
def test_mcnemars_p_value_is_the_binomial_tail(lost: int, gained: int) -> None:
    first = np.array([True] * lost + [False] * gained + [True, False])
    second = np.array([False] * lost + [True] * gained + [True, False])
    expected = min(Fraction(1), 2 * tail(max(lost, gained), lost + gained, Fraction(1, 2))) if lost + gained else 1
    assert mcnemar(first, second) == pytest.approx(float(expected), abs=1e-9)


# Checks, on evidence by hand.


def evidence(n: int = 500) -> Evidence:
    """Of a sound evaluation: white-box attacks break the first 300 images, the others nothing more."""
    everything, none = np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    left = np.arange(n) >= 300

    def run(key: str, broken: Images, attacked: Images = everything) -> Run:
        return Run(key, key, "raw", attacked, broken)

    runs = {key: run(key, ~left) for key in ("ce raw", "ce normalized", "margin", "deepfool raw")}
    runs |= {"single": run("single", np.arange(n) < 50)}
    runs |= {key: run(key, none, left) for key in ("longer", "square", "noise", "transfer")}
    return Evidence(
        clean=everything,
        distance=np.full(n, np.inf, np.float32),
        no_gradient=none,
        misled=none,
        moved=np.zeros(40),
        runs=runs,
        curve=[(0.5, np.arange(100) < 80), (1.0, np.arange(100) < 30), (14.0, np.zeros(100, dtype=np.bool_))],
        planted=Planted(32, 32),
        claims_planted={"claim": Planted(32, 31)},
    )


def broken_by(evidence: Evidence, key: str, images: slice) -> Evidence:
    broken = evidence.runs[key].broken.copy()
    broken[images] = True
    return replace(evidence, runs=evidence.runs | {key: replace(evidence.runs[key], broken=broken)})


def first(count: int, n: int = 500) -> Images:
    chosen: Images = np.arange(n) < count
    return chosen


SOUND = evidence()
GENERAL_FAILURES = {
    "randomised output": replace(SOUND, spread=1e-3),
    "probabilities, not logits": replace(SOUND, probabilities=True),
    "zero gradients": replace(SOUND, no_gradient=first(1)),
    "misleading gradients": replace(SOUND, misled=first(60)),
    "Square beats white-box": broken_by(SOUND, "square", slice(300, 302)),  # 0.4 points
    "random draws beat white-box": broken_by(SOUND, "noise", slice(300, 302)),
    "transfer beats white-box": broken_by(SOUND, "transfer", slice(300, 302)),
    "more steps and restarts": broken_by(SOUND, "longer", slice(300, 330)),
    "single step beats iterative": broken_by(SOUND, "single", slice(330)),
    "falls with the radius": replace(SOUND, curve=[(0.5, first(30, 100)), (1.0, first(80, 100)), (9.0, first(0, 100))]),
    "unbounded attack": replace(SOUND, curve=[*SOUND.curve[:2], (14.0, first(5, 100))]),
    "loss still moving": replace(SOUND, moved=np.linspace(0, 0.2, 40)),
    "planted adversarial examples": replace(SOUND, planted=Planted(32, 20)),
}


def test_sound_evidence_passes_every_check() -> None:
    assert {check.state for check in general_checks(SOUND)} == {"passed"}
    assert {check.state for check in claim_checks(SOUND, by_hand(200))} == {"passed"}
    # One image is 0.2 points, and the source's flag is for more.
    one_image = broken_by(SOUND, "square", slice(300, 301))
    assert {check.state for check in general_checks(one_image)} == {"passed"}


@pytest.mark.parametrize("name", GENERAL_FAILURES)
def test_each_check_of_the_model_fails_alone(name: str) -> None:
    checks = general_checks(GENERAL_FAILURES[name])
    assert [check.name for check in checks if check.state == "failed"] == [name]
    assert {check.claim for check in checks} == {None}
    assert all(check.sentence and check.source and "{" not in check.sentence for check in checks)


def test_every_check_of_the_model_has_a_failure_here() -> None:
    assert [check.name for check in general_checks(SOUND)] == list(GENERAL_FAILURES)


@pytest.mark.parametrize(
    ("name", "evidence", "kept"),
    [
        # The first 300 images are lost to the claim's attacks, which see raw logits alone.
        ("the other logits", broken_by(SOUND, "ce normalized", slice(300, 400)), np.arange(500) >= 300),
        ("a loss of margins", broken_by(SOUND, "margin", slice(300, 400)), np.arange(500) >= 300),
        ("an adaptive step", broken_by(SOUND, "ce raw", slice(300, 400)), np.arange(500) >= 300),
        ("a single step", broken_by(SOUND, "single", slice(400)), np.arange(500) >= 300),
        ("planted adversarial examples", replace(SOUND, claims_planted={"claim": Planted(32, 20)}), ~first(300)),
    ],
)
def test_each_check_of_a_claim_fails(name: str, evidence: Evidence, kept: Images) -> None:
    claim = Claim("claim", (PGD(),), ("raw",), kept)
    checks = claim_checks(evidence, claim)
    assert name in [check.name for check in checks if check.state == "failed"]
    assert {check.claim for check in checks} == {"claim"}


def test_silent_success_concerns_attacks_that_may_return_less_than_they_found() -> None:
    silent = replace(SOUND, silent={"claim": first(20, 100)})
    theirs = Claim("claim", (Torchattacks(attack="PGDL2"),), ("raw",), ~first(300))
    ours = replace(theirs, attacks=(PGD(),))
    states = {
        claim: next(check.state for check in claim_checks(silent, claim) if check.name == "silent success")
        for claim in (theirs, ours)
    }
    assert states == {theirs: "failed", ours: "passed"}


def test_gaps_between_a_claims_own_parts_are_not_held_against_it() -> None:
    # Cross entropy on f breaks 100 images more than on z; the claim is the worst case of both.
    stronger = broken_by(SOUND, "ce normalized", slice(300, 400))
    worst = Claim("claim", (APGD(),), ("normalized", "raw"), np.arange(500) >= 400)
    assert {check.state for check in claim_checks(stronger, worst)} == {"passed"}


def test_what_was_not_run_is_not_done_and_says_why() -> None:
    runs = {key: run for key, run in SOUND.runs.items() if key != "transfer"}
    runs["square"] = replace(runs["square"], error="out of order")
    checks = {check.name: check for check in general_checks(replace(SOUND, runs=runs, planted="no layer", curve=[]))}
    not_done = {name: check.sentence for name, check in checks.items() if check.state == "not done"}
    assert not_done["transfer beats white-box"].startswith("no second model")
    assert not_done["Square beats white-box"] == "out of order"
    assert not_done["planted adversarial examples"] == "no layer"
    assert all(check.value is None for check in checks.values() if check.state == "not done")


# The whole audit, on networks of a second.


def test_a_sound_pair_is_sound_and_nothing_is_changed() -> None:
    model = copy.deepcopy(trained()).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    reported: list[tuple[float, int]] = []
    images, labels = digits(COUNT)
    result = audit(
        model,
        images,
        labels,
        radius=RADIUS,
        profile=SMALL,
        surrogate=trained("i-sce"),
        progress=lambda done, total, _: reported.append((done, total)),
    )
    [verdict] = result.verdicts
    assert verdict.word == "sound"
    assert failed(result) == set()
    assert verdict.claim.accuracy >= result.verified.mean()
    assert result.verified.mean() < result.clean.mean()
    assert {check.state for check in result.checks} == {"passed"}
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert reported == sorted(reported)
    assert any(0 < done < 1 for done, _ in reported)  # of the claim, which takes long
    assert {total for _, total in reported} == {round(max(done for done, _ in reported))}


def test_the_same_seed_gives_the_same_audit() -> None:
    first, second = small_audit(trained(), seed=3), small_audit(trained(), seed=3)
    np.testing.assert_array_equal(first.verified, second.verified)
    assert first.checks == second.checks
    assert first.runs == second.runs


def test_the_audit_of_a_random_model_depends_on_the_seed_alone() -> None:
    model = nn.Sequential(Noisy(0.2), *trained()).eval()
    results = []
    for state in (0, 1):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        results.append(small_audit(model, profile=TINY))
        assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(results[0].verified, results[1].verified)
    assert results[0].checks == results[1].checks


def test_the_verified_outcome_is_the_worst_of_everything() -> None:
    claim = claimed(trained(), PGD())
    fewer = replace(claim, kept=claim.kept & (np.arange(COUNT) >= 10))  # it lost ten images that nobody else may break
    result = small_audit(trained(), fewer)
    assert not result.verified[:10].any()
    assert (result.verified <= result.clean).all()
    assert (result.verified <= fewer.kept).all()


PGDL2 = Torchattacks(attack="PGDL2", options={"steps": 20})
MASKED = {
    "one step": (lambda: trained(), PGD(steps=1), "raw"),
    "logits x 1000": (lambda: Scaled(trained(), 1000.0), PGDL2, "raw"),
    "quantised input": (lambda: nn.Sequential(Quantised(6), *trained()), PGD(), "raw"),
    "noise at inference": (lambda: nn.Sequential(Noisy(0.2), *trained()), PGD(), "raw"),
    "DeepFool on f": (lambda: trained("i-sce"), DeepFool(), "normalized"),
}


@pytest.mark.parametrize("name", MASKED)
def test_masked_pairs_are_caught(name: str) -> None:
    make, attack, view = MASKED[name]
    model = make().eval()
    result = small_audit(model, claimed(model, attack, views=(view,)))  # type: ignore[arg-type]
    assert result.verdicts[0].word != "sound"
    assert result.randomised == (name == "noise at inference")


class RoundedLogits(nn.Module):
    """Logits in whole steps: gradients are 0 everywhere, and what an attack could follow is hidden in the steps."""

    def __init__(self, model: nn.Module, step: float) -> None:
        super().__init__()
        self.model, self.step = model, step

    def forward(self, images: Tensor) -> Tensor:
        return (self.model(images) / self.step).round() * self.step


class Cut(nn.Module):
    """A model that no gradient passes, by a conversion that no straight-through gradient sees."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 8).to(torch.int64).to(images.dtype) / 8)


def test_an_audit_attacks_through_rounding() -> None:
    result, plain = small_audit(RoundedLogits(trained(), 0.5).eval()), small_audit(trained())
    broken = {run["name"]: run["broken"] for run in result.runs}
    assert broken["APGD through rounding, cross entropy"] > 20, "what the model's own gradients do not find"
    assert not result.upper_bound
    assert abs(result.verified.mean() - plain.verified.mean()) < 0.05, "rounding adds no robustness"
    assert not plain.upper_bound
    assert "APGD through rounding, cross entropy" not in {run["name"] for run in plain.runs}


def test_what_attacks_through_rounding_miss_many_queries_find() -> None:
    """The identity says little of pixels in six grey levels. What queries find beyond it is counted, and distrusted."""
    result = small_audit(nn.Sequential(Quantised(6), *trained()).eval())
    broken = {run["name"]: run["broken"] for run in result.runs}
    assert broken["Square, many queries"] > 0
    assert result.upper_bound


def test_what_no_attack_can_follow_is_an_upper_bound() -> None:
    result = small_audit(Cut(trained()).eval())
    assert result.upper_bound


def test_what_is_held_against_one_evaluation_is_not_held_against_another() -> None:
    model = trained()
    weak = claimed(model, PGD(steps=1))
    strong = replace(claimed(model, APGD(), views=("normalized", "raw")), name="worst case")
    result = small_audit(model, weak, strong)
    assert [verdict.word for verdict in result.verdicts] == ["masked", "sound"]


class NoGradient(nn.Module):
    """A model that no gradient passes through."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


def test_an_evaluation_that_cannot_be_completed_is_suspicious() -> None:
    model = NoGradient(trained())
    kept = np.zeros(COUNT, dtype=np.bool_)  # a claim that nothing can lower
    result = small_audit(model, Claim("claim", (PGD(steps=2),), ("raw",), kept))
    [verdict] = result.verdicts
    assert verdict.word == "suspicious"
    assert "could not be completed" in verdict.sentence
    assert "zero gradients" in failed(result)


def test_few_classes_have_no_margin_loss_and_are_audited_all_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 64, generator=generator)
    images = torch.rand(COUNT, 1, 8, 8, generator=generator)
    model = linear(weights, -(weights @ torch.full((64,), 0.5)))
    labels = model(images).argmax(1)
    result = audit(model, images, labels, radius=0.1, profile=SMALL)
    [verdict] = result.verdicts
    assert verdict.word == "sound"
    assert [attack.loss for attack in verdict.claim.attacks] == ["ce"]


@pytest.mark.parametrize(
    ("profile", "claim", "message"),
    [
        (QUICK, None, "images must be at least 500 for the profile quick, got 200; give more of them"),
        (SMALL, by_hand(1, n=400), "claims must be on 1 to 200 images, got 400 for claim; give its images"),
    ],
)
def test_what_cannot_be_audited_is_one_line(profile: Profile, claim: Claim | None, message: str) -> None:
    with pytest.raises(ValueError, match=r"^(images|claims)") as caught:
        small_audit(trained(), *([claim] if claim else []), profile=profile)
    assert str(caught.value) == message
