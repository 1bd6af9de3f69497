from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainables.plugins import Branches
from trainables.models.layers.features import features_of
from trainables.registry import make, names


@pytest.mark.parametrize("name", names("model"))
def test_the_features_of_a_built_in_are_the_input_of_its_last_layer(name: str) -> None:
    model = make("model", name).build((1, 28, 28), 10).eval()
    located = features_of(model, 10)
    images = torch.rand(3, 1, 28, 28)
    features, logits = located.pass_through(images)
    assert features.shape == (3, model[-1].in_features)
    assert torch.equal(logits, model(images))
    assert torch.equal(logits, model[-1](features))


def test_the_features_of_any_model_are_captured_within_the_call() -> None:
    model = Branches(5, 2).eval()
    located = features_of(model, 5)
    images = torch.rand(3, 2, 8, 8, requires_grad=True)
    features, logits = located.pass_through(images)
    assert located.classifier is model.classifier
    assert torch.equal(logits, model(images))
    assert torch.equal(logits, model.classifier(features))
    assert not model.classifier._forward_pre_hooks
    assert torch.autograd.grad(features.sum(), images)[0].abs().sum() > 0


def test_the_last_of_several_layers_counts() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    assert features_of(model, 3).classifier is model[-1]


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))],
    ids=["no linear layer", "another number of outputs"],
)
def test_a_model_without_such_a_layer_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"^model must end in a torch\.nn\.Linear"):
        features_of(model, 3)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3]


def test_a_layer_that_is_not_used_is_refused() -> None:
    model = Unused()
    with pytest.raises(ValueError, match=r"^model must end in a torch\.nn\.Linear"):
        features_of(model, 3).pass_through(torch.rand(2, 1, 2, 2))
