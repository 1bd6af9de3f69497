"""Planted adversarial examples: the active test of an audit's own attacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.victims import CLASSES, RADIUS, digits, trained
from trainables.attacks import Attack, Batch
from trainables.attacks.apgd import APGD
from trainables.attacks.engine.victim import Victim
from trainables.attacks.pgd import PGD
from trainables.audit.planted import Planted, plant_and_search


class Idle(Attack):
    """An attack that does nothing."""

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        del victim, batch, seed, batch_size
        yield from ()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_planted_examples_are_found_by_an_attack_and_missed_without_one(norm: str) -> None:
    images, _ = digits(20)
    model, usable = trained(), np.ones(20, dtype=np.bool_)
    radius = RADIUS if norm == "l2" else RADIUS / 6

    def search(attack: Attack) -> Planted | str:
        return plant_and_search(
            model,
            images,
            usable,
            [attack],
            radius=radius,
            norm=norm,  # type: ignore[arg-type]
            count=10,
            seed=0,
            batch_size=16,
            progress=lambda _: None,
        )

    hit, missed = search(APGD(steps=50)), search(Idle())
    assert isinstance(hit, Planted)
    assert isinstance(missed, Planted)
    assert hit.planted == missed.planted >= 8
    assert hit.broken == hit.planted
    assert missed.broken == 0


class Headed(nn.Module):
    """Logits that are computed from what a linear layer gives: distances to centres, or cosines.

    Of the kind ``ignored``, the last linear layer gives logits that the head does not read, as with `Replicate`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
        self.centres = nn.Parameter(torch.randn(CLASSES, 7))
        self.unused = nn.Linear(3, CLASSES)
        self.last = nn.Linear(7, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        h = self.body(images)
        if self.kind == "ignored":
            self.last(h)
        if self.kind != "cosines":
            return -torch.cdist(h, self.centres)
        return nn.functional.normalize(h) @ nn.functional.normalize(self.centres).T


NOT_LINEAR = {
    "no linear layer": lambda: nn.Sequential(nn.Conv2d(1, 5, 8), nn.Flatten()),
    "distances": lambda: Headed("distances"),
    "cosines": lambda: Headed("cosines"),
    "a layer that the head ignores": lambda: Headed("ignored"),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_nothing_can_be_planted_where_no_linear_layer_gives_the_logits(name: str) -> None:
    images, _ = digits(4)
    model = NOT_LINEAR[name]()
    outcome = plant_and_search(
        model,
        images,
        np.ones(4, dtype=np.bool_),
        [PGD(steps=2)],
        radius=RADIUS,
        norm="l2",
        count=4,
        seed=0,
        batch_size=16,
        progress=lambda _: None,
    )
    assert outcome == "the model's logits do not come from a linear layer that could be replaced"
