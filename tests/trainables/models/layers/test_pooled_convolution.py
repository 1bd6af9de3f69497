from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from trainables.models.layers.pooled_convolution import PooledConvolution


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
