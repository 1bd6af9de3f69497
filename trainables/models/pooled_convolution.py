"""A convolution and the 2x2 max pooling after it, as one operation: quick on processors for images of few channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight


class PooledConvolution(nn.Conv2d):
    """``nn.Conv2d`` of stride 1 followed by ``nn.MaxPool2d(2)``: the same function, parameters and initialisation.

    On a processor in fp32 the four outputs of each pooling window are computed as channels of one strided convolution.
    Then the maximum runs over whole channels, and the images' gradient, which attacks live on, is a matrix product:
    torch's own is slow for images of one channel (tests/benchmarks/pooled_convolution.py).

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        kernel_size: Height and width of the filters.
        padding: Zeros around the images.

    Shape:
        (n, in_channels, h, w) to (n, out_channels, h', w'), where convolution and pooling leave h' and w'.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return F.max_pool2d(super().forward(images), 2)
        assert self.bias is not None
        # Row by row whatever the strides say (those of one channel can say both): rows are what is compared below.
        images = images.flatten(1).view(images.shape)
        padding = int(self.padding[0])
        if torch.is_grad_enabled():
            pooled: Tensor = _PooledConvolution.apply(images, self.weight, padding)[0]
        else:  # without a graph an autograd function is only a detour
            pooled = _PooledConvolution.forward(images, self.weight, padding)[0]
        return pooled + self.bias.view(-1, 1, 1)


class _PooledConvolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The pooled convolution, and what its backward pass needs."""
        kernels = _four_kernels(weight)
        windows = F.conv2d(images, kernels, stride=2, padding=padding)
        upper, lower = _halves(windows)
        return torch.maximum(upper, lower), kernels, windows, upper, lower

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, ...]) -> None:
        images, _, ctx.padding = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(images, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
        if gradient is None:
            return None, None, None
        images, kernels, windows, upper, lower = ctx.saved_tensors
        gradient = _window_gradient(gradient, windows, upper, lower)
        to_images = to_weight = None
        if ctx.needs_input_grad[0]:
            columns = kernels.flatten(1).t() @ gradient.flatten(2)
            to_images = F.fold(columns, images.shape[2:], kernels.shape[2:], padding=ctx.padding, stride=2)
        if ctx.needs_input_grad[1]:
            to_kernels = conv2d_weight(  # type: ignore[no-untyped-call]
                images, kernels.shape, gradient, stride=2, padding=ctx.padding
            )
            to_weight = _sum_of_four(to_kernels)
        return to_images, to_weight, None


def _four_kernels(weight: Tensor) -> Tensor:
    """The filters (o, c, k, k) at the four places of a pooling window, (4 o, c, k + 1, k + 1), row by row."""
    return torch.cat([F.pad(weight, (right, 1 - right, down, 1 - down)) for down in (0, 1) for right in (0, 1)])


def _sum_of_four(gradient: Tensor) -> Tensor:
    """The gradient (o, c, k, k) of the filters from that of their four copies (4 o, c, k + 1, k + 1)."""
    first, second, third, fourth = gradient.chunk(4)
    return first[..., :-1, :-1] + second[..., :-1, 1:] + third[..., 1:, :-1] + fourth[..., 1:, 1:]


def _halves(windows: Tensor) -> tuple[Tensor, Tensor]:
    """The larger value of each window's upper and lower row, (n, o, h, w) each, from windows (n, 4 o, h, w)."""
    first, second, third, fourth = windows.chunk(4, 1)
    return torch.maximum(first, second), torch.maximum(third, fourth)


def _window_gradient(gradient: Tensor, windows: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """A maximum's gradient (n, o, h, w) handed to where it was, (n, 4 o, h, w); to the first of equals, as torch's."""
    first, second, third, fourth = windows.chunk(4, 1)
    to_lower = _where_positive(gradient, lower - upper)
    to_upper = gradient - to_lower
    to_second = _where_positive(to_upper, second - first)
    to_fourth = _where_positive(to_lower, fourth - third)
    return torch.cat([to_upper - to_second, to_second, to_lower - to_fourth, to_fourth], 1)


def _where_positive(values: Tensor, condition: Tensor) -> Tensor:
    """The values where the condition is above 0, else 0; ReLU's backward, for a third of the price of a mask."""
    result: Tensor = torch.ops.aten.threshold_backward(values, condition, 0)
    return result
