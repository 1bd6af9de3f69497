from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from trainables.models import build_model
from trainables.models.pooled_convolution import PooledConvolution
from trainables.settings import ModelName

PARAMETERS = [("lenet5", 1, 61_706), ("cnn8", 3, 814_122), ("resnet32", 1, 463_866), ("resnet32", 3, 464_154)]


@pytest.mark.parametrize(("name", "channels", "parameters"), PARAMETERS)
def test_parameter_counts(name: ModelName, channels: int, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in build_model(name, channels).parameters()) == parameters


@pytest.mark.parametrize("name", get_args(ModelName))
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_every_model_reads_digits_and_colour_images(name: ModelName, channels: int, size: int) -> None:
    model = build_model(name, channels, classes=7, size=size).eval()
    images = torch.rand(5, channels, size, size)
    z = model(images)
    assert z.shape == (5, 7)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(images), z, rtol=1e-4, atol=1e-5)


def test_resnet32_halves_the_resolution_twice_and_pads_the_shortcut_with_zeros() -> None:
    model = build_model("resnet32", 3).eval()
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
    model = build_model("cnn8", 3, statistics=(mean, deviation))
    images = torch.rand(4, 3, 32, 32)
    standardised = (images - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(model(images), model[1:](standardised))
    assert {"0.mean", "0.deviation"} <= model.state_dict().keys()
    assert sum(parameter.numel() for parameter in model.parameters()) == 814_122


@torch.no_grad()
def test_models_of_one_architecture_go_through_one_pass() -> None:
    models = [build_model("lenet5", 1) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    images = torch.rand(3, 4, 1, 28, 28)
    together = vmap(lambda p, b, x: functional_call(skeleton, (p, b), (x,)))(parameters, buffers, images)
    apart = torch.stack([model(batch) for model, batch in zip(models, images, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize(("channels", "size", "padding"), [(1, 28, 2), (3, 32, 0), (1, 31, 1)])
def test_a_pooled_convolution_is_a_convolution_and_a_pooling(
    channels: int, size: int, padding: int, count: int
) -> None:
    layer = PooledConvolution(channels, 6, 5, padding=padding)
    images = torch.rand(count, channels, size, size, requires_grad=True)
    inputs = (images, layer.weight, layer.bias)
    ours = layer(images)
    torchs = F.max_pool2d(F.conv2d(*inputs, padding=padding), 2)
    torch.testing.assert_close(ours, torchs)
    slopes = torch.rand_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, slopes), torch.autograd.grad(torchs, inputs, slopes), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
def test_a_pooled_convolution_reads_what_another_one_wrote(format_: torch.memory_format) -> None:
    layers = [PooledConvolution(3, 6, 5, padding=2), PooledConvolution(6, 16, 5)]
    images = torch.rand(4, 3, 28, 28).contiguous(memory_format=format_).requires_grad_()
    inputs = [images, *(parameter for layer in layers for parameter in layer.parameters())]
    between = layers[0](images).relu()
    assert between.permute(2, 1, 3, 0).is_contiguous()  # as the next layer reads it: nothing is moved in between
    ours, torchs = layers[1](between), images
    for layer in layers:
        torchs = F.max_pool2d(F.conv2d(torchs.relu(), layer.weight, layer.bias, padding=layer.padding), 2)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, torchs)
    slopes = torch.rand_like(ours)
    found = torch.autograd.grad(ours, inputs, slopes)
    assert found[0].is_contiguous()
    torch.testing.assert_close(found, torch.autograd.grad(torchs, inputs, slopes), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(layers[1](layers[0](images).relu()), ours)


def test_a_window_of_equal_values_hands_its_gradient_on_once() -> None:
    layer = PooledConvolution(1, 1, 1)
    nn.init.ones_(layer.weight)
    images = torch.ones(1, 1, 4, 4, requires_grad=True)
    layer(images).sum().backward()
    assert images.grad is not None
    assert images.grad.flatten().tolist() == [1, 0, 1, 0, 0, 0, 0, 0] * 2


def test_gradients_of_the_pooled_convolution() -> None:
    layer = PooledConvolution(2, 3, 5, padding=2).double()
    images = torch.rand(2, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, images)
    assert torch.autograd.gradcheck(
        lambda weight, bias: functional_call(layer, {"weight": weight, "bias": bias}, images.detach()),
        (layer.weight, layer.bias),
    )
