from __future__ import annotations

import pytest
import torch

from trainables.models import Model, build_model
from trainables.models.layers.features import features_of
from trainables.registry import make

PLUGINS = "tests.trainables.plugins"


def test_torchvisions_resnet18_works_by_its_path_for_any_number_of_classes() -> None:
    model: Model = make("model", "torchvision.models:resnet18", {"zero_init_residual": True})
    model.check((3, 32, 32), 3)
    built = build_model(model, (3, 32, 32), 3, (torch.full((3,), 0.5), torch.full((3,), 0.2))).eval()
    images = torch.rand(2, 3, 32, 32)
    features, logits = features_of(built, 3).pass_through(images)
    assert features.shape == (2, 512)
    assert logits.shape == (2, 3)
    assert torch.equal(logits, built(images))


def test_a_factory_gets_what_it_has_arguments_for() -> None:
    model: Model = make("model", f"{PLUGINS}:Branches", {"width": 3})
    assert model.parameters == ("width",)
    assert model.build((2, 8, 8), 5)(torch.rand(4, 2, 8, 8)).shape == (4, 5)


def test_building_for_the_check_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    make("model", f"{PLUGINS}:Branches").check((2, 8, 8), 5)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("path", "shape", "message"),
    [
        ("torchvision.models:resnet18", (1, 28, 28), "model must take images of shape 1x28x28, got .*resnet18"),
        (f"{PLUGINS}:Branches", (1, 2, 2), "model must take images of shape 1x2x2"),
        (f"{PLUGINS}:two_logits", (1, 4, 4), "model must return one logit for each of 3 classes, .* shape 2x2 for 2"),
        (f"{PLUGINS}:refusing", (1, 4, 4), r"model must be a factory that can be called, got .* \(KeyError: 3\)"),
        (f"{PLUGINS}:number", (1, 4, 4), "model must be a factory of torch.nn.Module, got .* which returned int"),
    ],
)
def test_a_model_that_does_not_fit_says_so_in_one_line(path: str, shape: tuple[int, int, int], message: str) -> None:
    model: Model = make("model", path)
    with pytest.raises(ValueError, match=message) as caught:
        model.check(shape, 3)
    assert "\n" not in str(caught.value)
