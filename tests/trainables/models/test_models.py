from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from trainables.models import build_model
from trainables.models.cnn8 import CNN8
from trainables.models.layers.features import features_of
from trainables.models.lenet5 import LeNet5
from trainables.models.resnet32 import ResNet32
from trainables.registry import make, names

PARAMETERS = [
    ("lenet5", (1, 28, 28), 61_706),
    ("lenet5", (1, 20, 20), 61_706),
    ("cnn8", (3, 32, 32), 814_122),
    ("resnet32", (1, 28, 28), 463_866),
    ("resnet32", (3, 32, 32), 464_154),
]


@pytest.mark.parametrize(("name", "shape", "parameters"), PARAMETERS)
def test_parameter_counts(name: str, shape: tuple[int, int, int], parameters: int) -> None:
    model = build_model(make("model", name), shape, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", names("model"))
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 20, 20), (2, 31, 31), (1, 9, 9), (1, 28, 21)])
def test_every_model_reads_images_of_any_size_that_it_accepts(
    name: str, width: int, shape: tuple[int, int, int]
) -> None:
    described = make("model", name, {"width": width})
    described.check(shape, 7)
    model = build_model(described, shape, 7).eval()
    images = torch.rand(5, *shape)
    z = model(images)
    assert z.shape == (5, 7)
    assert isinstance(model, nn.Sequential)
    assert isinstance(model[-1], nn.Linear)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(images), z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", names("model"))
def test_a_width_multiplies_the_parameters(name: str) -> None:
    narrow, wide = (
        sum(parameter.numel() for parameter in make("model", name, {"width": width}).build((1, 28, 28), 3).parameters())
        for width in (1, 2)
    )
    assert 3 < wide / narrow < 4.1


@pytest.mark.parametrize("name", names("model"))
def test_an_embedding_is_a_linear_layer_before_the_classifier_and_holds_the_features(name: str) -> None:
    plain, embedded = (make("model", name, settings) for settings in ({}, {"embedding": 3}))
    models = [build_model(each, (1, 28, 28), 10).eval() for each in (plain, embedded)]
    before, after = (features_of(model, 10) for model in models)
    width = before.classifier.in_features
    added = 3 * (width + 1) + (3 + 1) * 10 - (width + 1) * 10
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert sizes[1] - sizes[0] == added
    [inserted] = [layer for layer in models[1].modules() if isinstance(layer, nn.Linear) and layer.out_features == 3]
    nn.init.constant_(inserted.bias, -1000.0)
    images = torch.rand(4, 1, 28, 28)
    features, logits = after.pass_through(images)
    assert features.shape == (4, 3)
    assert features.max() < 0, "no activation follows"
    torch.testing.assert_close(logits, after.classifier(features))
    assert "embedding" not in plain.to_document()


def test_an_embedding_as_wide_as_there_are_classes_is_not_taken_for_the_classifier() -> None:
    model = build_model(LeNet5(embedding=10), (1, 28, 28), 10)
    assert features_of(model, 10).classifier is model[-1][1]  # type: ignore[index]


def test_models_of_ones_own_take_an_embedding_too() -> None:
    described = make("model", "tests.trainables.plugins:Branches", {"width": 2, "embedding": 5})
    described.check((1, 28, 28), 10)
    assert features_of(build_model(described, (1, 28, 28), 10), 10).classifier.in_features == 5
    with pytest.raises(ValueError, match=r"^model must end in a torch\.nn\.Linear with one output per class"):
        build_model(make("model", "tests.trainables.plugins:two_logits", {"embedding": 5}), (1, 28, 28), 10)
    with pytest.raises(ValueError, match=r"^embedding must be at least 1, got 0"):
        LeNet5(embedding=0)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 28, 33)])
def test_lenet5_says_which_images_it_takes(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"^data\.size must give images of at most 32x32 pixels .*got \d+x\d+"):
        LeNet5().check(shape, 10)


@pytest.mark.parametrize("name", names("model"))
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_last_in_memory(name: str, channels: int) -> None:
    model = build_model(make("model", name), (channels, 32, 32), 10)
    weights = [parameter for parameter in model.parameters() if parameter.dim() == 4 and parameter.shape[1] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_resnet32_halves_the_resolution_twice_and_pads_the_shortcut_with_zeros() -> None:
    model = ResNet32().build((3, 32, 32), 10).eval()
    shapes = []
    x = torch.rand(2, 3, 32, 32)
    for layer in model:
        shortcut, x = x, layer(x)
        shapes.append(tuple(x.shape[1:]))
        if hasattr(layer, "residual"):
            stride = shortcut.shape[-1] // x.shape[-1]
            added = x - layer.residual(shortcut)
            kept = shortcut.shape[1]
            torch.testing.assert_close(added[:, :kept], shortcut[:, :, ::stride, ::stride], rtol=1e-4, atol=1e-4)
            assert (added[:, kept:].abs() < 1e-4).all()
    assert shapes[1:16] == [(16, 32, 32)] * 5 + [(32, 16, 16)] * 5 + [(64, 8, 8)] * 5
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) + 1 == 32


def test_the_model_standardises_its_own_input() -> None:
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])
    model = build_model(CNN8(), (3, 32, 32), 10, (mean, deviation))
    assert isinstance(model, nn.Sequential)
    images = torch.rand(4, 3, 32, 32)
    standardised = (images - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(model(images), model[1:](standardised))
    assert {"0.mean", "0.deviation"} <= model.state_dict().keys()
    assert sum(parameter.numel() for parameter in model.parameters()) == 814_122


@torch.no_grad()
def test_models_of_one_architecture_go_through_one_pass() -> None:
    models = [LeNet5().build((1, 28, 28), 10) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    images = torch.rand(3, 4, 1, 28, 28)
    together = vmap(lambda p, b, x: functional_call(skeleton, (p, b), (x,)))(parameters, buffers, images)
    apart = torch.stack([model(batch) for model, batch in zip(models, images, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
