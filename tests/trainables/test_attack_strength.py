"""Our attacks against torchattacks', paired on trained networks; `-s` shows the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import pytest
from torch import Tensor, nn

from tests.trainables.reference_models import reference_model
from tests.trainables.victims import Scaled
from trainables.attacks import APGD, PGD, Attack, AutoAttack, Torchattacks
from trainables.attacks.autoattack import Part, standard
from trainables.attacks.pgd import RELATIVE_STEP
from trainables.data.splits import Split
from trainables.robustness import evaluate
from trainables.settings import AttackLoss, AttackSettings, Norm, RobustnessSettings, View

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("loss", ["sce", "i-sce"]),
    pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"]),
]

Data = Literal["mnist5k", "fashion-mnist"]
Loss = Literal["sce", "i-sce"]

# How many images in 1,000 ours may leave standing beyond theirs.
MARGIN: Final = 5


def kept(
    attack: Attack, model: nn.Module, images: Split, radius: float, view: View = "raw", norm: Norm = "l2"
) -> Tensor:
    return attack(model, images.images, images.labels, radius=radius, norm=norm, view=view, seed=1).kept


def compare(name: str, ours: Tensor, theirs: Tensor) -> None:
    print(
        f"{name}: of {len(ours)} ours keeps {int(ours.sum())}, theirs {int(theirs.sum())}, "
        f"only ours {int((ours & ~theirs).sum())}, only theirs {int((theirs & ~ours).sum())}"
    )
    assert 0 < theirs.sum() < len(theirs)
    assert ours.sum() <= theirs.sum() + MARGIN * len(ours) / 1000


@pytest.mark.parametrize("climbed", ["ce", "dlr"])
@pytest.mark.parametrize(("norm", "radius"), [("l2", 1.0), ("l2", 1.5), ("linf", 0.1)])
def test_apgd(data: Data, loss: Loss, climbed: AttackLoss, norm: Norm, radius: float) -> None:
    model, images = reference_model(data, loss)
    ours, theirs = APGD(climbed, steps=25), Torchattacks("torchattacks.APGD", {"loss": climbed, "steps": 25})
    views: Sequence[View] = ("normalized", "raw")
    for view in views:
        compare(
            f"{data} {loss} apgd25-{climbed} {norm} {radius:g} {view}",
            kept(ours, model, images, radius, view, norm),
            kept(theirs, model, images, radius, view, norm),
        )


@pytest.mark.parametrize(("norm", "radius"), [("l2", 1.5), ("linf", 0.1)])
def test_targeted_apgd(data: Data, loss: Loss, norm: Norm, radius: float) -> None:
    model, images = reference_model(data, loss)
    compare(
        f"{data} {loss} apgd10-dlr-likeliest {norm} {radius:g}",
        kept(APGD("dlr", "likeliest", 10), model, images, radius, norm=norm),
        kept(Torchattacks("torchattacks.APGDT", {"steps": 10}), model, images, radius, norm=norm),
    )


@pytest.mark.parametrize("view", ["normalized", "raw"])
@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_pgd(data: Data, loss: Loss, radius: float, view: View) -> None:
    model, images = reference_model(data, loss)
    theirs = Torchattacks("torchattacks.PGDL2", {"steps": 20, "alpha": RELATIVE_STEP * radius / 20})
    compare(
        f"{data} {loss} pgd20-ce {radius:g} {view}",
        kept(PGD(20), model, images, radius, view),
        kept(theirs, model, images, radius, view),
    )


def test_autoattack(data: Data, loss: Loss) -> None:
    model, images = reference_model(data, loss)
    images = Split(images.images[:250], images.labels[:250])
    ours = standard()
    # Their AutoAttack at the authors' settings, which its constructor does not take.
    theirs = (
        Part("apgd-ce", Torchattacks("torchattacks.APGD", {"steps": 100}), 200),
        Part("apgd-t", Torchattacks("torchattacks.APGDT", {"steps": 100}), 1800),
        Part("fab-t", Torchattacks("torchattacks.FAB", {"steps": 100, "multi_targeted": True}), 2700),
        Part("square", Torchattacks("torchattacks.Square", {"n_queries": 5000, "resc_schedule": False}), 5000),
    )
    compare(
        f"{data} {loss} autoattack 1.5",
        *(kept(AutoAttack(parts), model, images, 1.5) for parts in (ours, theirs)),
    )


@pytest.mark.parametrize("views", [("normalized", "rescaled"), ("normalized", "raw")], ids="-".join)
def test_the_scale_of_the_logits_does_not_matter(data: Data, loss: Loss, views: tuple[View, ...]) -> None:
    model, images = reference_model(data, loss)
    attacks = tuple(AttackSettings(name="apgd", loss=climbed, steps=20) for climbed in ("dlr", "ce"))
    settings = RobustnessSettings(attacks=attacks, views=views, images=1000)
    margin, worst = [], []
    for scale in (1, 10, 100, 1000):
        outcomes = evaluate([Scaled(model, scale)], images, settings, [0])
        margin.append(int(outcomes.kept[0, 0, -1, 0].sum()))
        worst.append(round(1000 * float(outcomes.robust_accuracy()[0])))
    print(f"{data} {loss} scales 1, 10, 100, 1000: dlr keeps {margin}, the worst case over {views} {worst}")
    assert max(margin) - min(margin) <= 1
    if "raw" not in views:  # cross entropy on z itself goes another way at every scale
        assert max(worst) - min(worst) <= 1
