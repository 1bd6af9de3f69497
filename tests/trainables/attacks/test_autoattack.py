from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.attacks.cascade import Cascade
from tests.trainables.victims import digits, linear, trained
from trainables.attacks import Attack, Batch, attack_seed
from trainables.attacks.apgd import APGD
from trainables.attacks.autoattack import AutoAttack, Part
from trainables.attacks.engine.victim import Victim
from trainables.attacks.fab import FAB
from trainables.attacks.pgd import PGD
from trainables.attacks.square import Square
from trainables.registry import make

RADIUS = 0.25


@dataclass(frozen=True, kw_only=True)
class Recorded(Attack):
    """An attack that records the images and the seed of each run."""

    attack: Attack
    runs: list[tuple[list[int], int]] = field(default_factory=list)

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        self.runs.append((batch.index.tolist(), seed))
        yield from self.attack.run(victim, batch, seed=seed, batch_size=batch_size)


@dataclass(frozen=True, kw_only=True)
class Far(Attack):
    """Finds every image's misclassified neighbour, outside the ball or inside."""

    share: float

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        del victim, seed, batch_size
        direction = torch.ones_like(batch.clean) / batch.clean[0].numel() ** 0.5
        yield replace(batch, images=batch.clean + self.share * batch.radius * direction)


def cascade() -> tuple[Part, ...]:
    return (
        Part("a", Recorded(attack=APGD(loss="ce", steps=2)), 4),
        Part("b", Recorded(attack=PGD(steps=3, loss="dlr")), 6),
        Part("c", Recorded(attack=APGD(loss="dlr", target="likeliest", steps=5)), 40),
    )


def test_each_part_runs_on_what_the_others_have_left() -> None:
    images, labels = digits(96)
    parts = cascade()
    result = Cascade(given=tuple(parts))(trained(), images, labels, radius=RADIUS, seed=5, batch_size=16)
    standing = torch.ones(96, dtype=torch.bool)
    forward, backward = len(images), 0  # the clean images
    for part in parts:
        assert isinstance(part.attack, Recorded)
        alone = part.attack.attack(
            trained(), images, labels, radius=RADIUS, seed=attack_seed(5, part.name), standing=standing, batch_size=16
        )
        attacked, seed = part.attack.runs[0]
        with torch.no_grad():
            correct = trained()(images).argmax(1) == labels
        assert attacked == (standing & correct).nonzero().flatten().tolist()
        assert seed == attack_seed(5, part.name)
        standing = alone.kept
        forward += alone.forward_passes - len(images)
        backward += alone.backward_passes
    assert torch.equal(result.kept, standing)
    assert (result.forward_passes, result.backward_passes) == (forward, backward)
    lengths = [len(part.attack.runs[0][0]) for part in parts if isinstance(part.attack, Recorded)]
    assert 96 > lengths[0] > lengths[1] > lengths[2] > result.kept.sum() > 0


@pytest.mark.parametrize(("share", "attacked"), [(1.5, 20), (0.9, 0)])
def test_what_falls_outside_the_ball_still_stands(share: float, attacked: int) -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.full((20, 1, 4, 4), 0.5)
    after = Recorded(attack=APGD(steps=1))
    parts = [Part("far", Far(share=share), 1), Part("after", after, 1)]
    result = Cascade(given=tuple(parts))(model, images, torch.zeros(20, dtype=torch.int64), radius=0.1)
    assert [len(index) for index, _ in after.runs] == ([attacked] if attacked else [])
    assert result.kept.all() == bool(attacked)


def test_progress_climbs_through_the_shares_of_the_parts() -> None:
    images, labels = digits(24)
    seen: list[float] = []
    at_start: list[float] = []

    @dataclass(frozen=True, kw_only=True)
    class Noted(Recorded):
        def run(self, victim: Victim, batch: Batch, **options: Any) -> Iterator[Batch]:
            at_start.append(seen[-1] if seen else 0.0)
            return super().run(victim, batch, **options)

    parts = [part._replace(attack=Noted(attack=part.attack)) for part in cascade()]
    result = Cascade(given=tuple(parts))(trained(), images, labels, radius=0.05, progress=seen.append)
    assert result.kept.any()
    assert all(earlier <= later for earlier, later in pairwise(seen))
    assert seen[-1] == pytest.approx(1.0)
    assert at_start == pytest.approx([0.0, 4 / 50, 10 / 50])
    assert len(set(seen)) > 10


def test_it_needs_four_classes() -> None:
    model = linear(torch.eye(3, 4), torch.zeros(3))
    images = torch.eye(3, 4).view(3, 1, 2, 2)
    with pytest.raises(ValueError, match=r"^attacks must not name autoattack for fewer than 4 classes, got 3; choose"):
        AutoAttack()(model, images, torch.arange(3), radius=0.1)


def test_the_standard_version_is_the_authors() -> None:
    ce, targeted, fab, square = (part.attack for part in AutoAttack().parts())
    assert isinstance(ce, APGD)
    assert (ce.loss, ce.target, ce.steps, ce.restarts) == ("ce", "untargeted", 100, 1)
    assert isinstance(targeted, APGD)
    settings = (targeted.loss, targeted.target, targeted.steps, targeted.restarts, targeted.targets)
    assert settings == ("dlr", "likeliest", 100, 1, 9)
    assert fab == FAB(target="likeliest", steps=100, restarts=1, targets=9)
    assert square == Square(queries=5000, share=0.8)
    assert isinstance(make("attack", "autoattack"), AutoAttack)
    assert AutoAttack().label == "autoattack"


def test_the_standard_version_runs_and_leaves_no_more_than_its_parts() -> None:
    images, labels = digits(12)
    result = AutoAttack()(trained(), images, labels, radius=0.15)
    assert 0 < result.kept.sum() < 12
    for part in AutoAttack().parts()[:2]:
        alone: Tensor = part.attack(trained(), images, labels, radius=0.15, seed=attack_seed(0, part.name)).kept
        assert not (result.kept & ~alone).any()
