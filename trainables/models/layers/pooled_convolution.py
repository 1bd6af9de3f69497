"""A convolution and the 2x2 max pooling after it, as one operation: quick on processors for images of few channels."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# gradient where values > 0, else 0, for a third of the price of a mask.
_WHERE_POSITIVE: Final = torch.ops.aten.threshold_backward.grad_input


class PooledConvolution(nn.Conv2d):
    """``nn.Conv2d`` of stride 1 followed by ``nn.MaxPool2d(2)``: the same function, parameters and initialisation.

    On a processor in fp32 the four outputs of each pooling window are computed as channels of one strided convolution,
    and that, like its gradients, as a product of matrices for each row. torch's own convolutions are slow where there
    are few channels (tests/benchmarks/pooled_convolution.py).

    All of it keeps the rows first and the images last in memory: (height, channels, width, n). So whatever is gathered,
    compared or added lies in runs of n values at least, the four outputs of a window are four blocks of each row, a
    window reads rows that lie one after the other, which need no copy for each window that reads them, and a further
    such layer reads what the one before it wrote, as it lies.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        kernel_size: Height and width of the filters, odd.
        padding: Zeros around the images.

    Shape:
        (n, in_channels, h, w) to (n, out_channels, h', w'), where convolution and pooling leave h' and w'.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> None:
        assert kernel_size % 2, "the windows are taken apart by pairs of rows and of columns"
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return F.max_pool2d(super().forward(images), 2)
        inputs = images, self.weight, self.bias, int(self.padding[0])
        if not torch.is_grad_enabled():  # without a graph an autograd function is only a detour
            return _pooled_convolution(*inputs)[0]
        pooled: Tensor = _PooledConvolution.apply(*inputs)
        return pooled


class _PooledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        pooled, columns, kernels, outputs, of_rows = _pooled_convolution(images, weight, bias, padding)
        lead, lead_of_rows = (sides[:, 1].sub_(sides[:, 0]) for sides in (outputs, of_rows))
        ctx.padding, ctx.rows_first = padding, images.permute(2, 1, 3, 0).is_contiguous()
        ctx.shape, ctx.weight_shape = images.shape, weight.shape
        to_images, to_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(columns if to_weight else None, kernels if to_images else None, lead, lead_of_rows)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        columns, kernels, lead, lead_of_rows = ctx.saved_tensors
        gradient = gradient.permute(2, 1, 3, 0).flatten(2)  # (h', o, w' n)
        to_outputs = _to_larger(_to_larger(gradient, lead_of_rows), lead)  # (h', 4 o, w' n)
        to_images = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_images = _to_images(to_outputs, kernels, ctx.shape, ctx.padding)
            if not ctx.rows_first:
                to_images = to_images.contiguous()
        if ctx.needs_input_grad[1]:
            to_weight = _sum_of_four(torch.bmm(columns, to_outputs.transpose(1, 2)).sum(0).t(), ctx.weight_shape)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 2))
        return to_images, to_weight, to_bias, None


def _pooled_convolution(images: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> tuple[Tensor, ...]:
    """The layer's output (n, o, h', w'), and what its gradients need."""
    assert bias is not None
    images = images.permute(2, 1, 3, 0)
    if padding:
        height, channels, width, n = images.shape
        padded = images.new_zeros(height + 2 * padding, channels, width + 2 * padding, n)
        padded[padding:-padding, :, padding:-padding] = images
        images = padded
    columns, width = _columns(images, weight.shape[2] + 1)
    kernels = _four_kernels(weight)
    rows, _, places = columns.shape
    outputs = torch.bmm(kernels.expand(rows, -1, -1), columns)
    outputs = outputs.view(rows, 2, 2 * len(weight), places)  # the left ones and the right ones
    of_rows = torch.maximum(outputs[:, 0], outputs[:, 1])
    of_rows = of_rows.view(rows, 2, len(weight), places)  # the upper ones and the lower ones
    pooled = torch.maximum(of_rows[:, 0], of_rows[:, 1]).add_(bias.unsqueeze(1))
    pooled = pooled.view(rows, len(weight), width, images.shape[3]).permute(3, 1, 0, 2)
    return pooled, columns, kernels, outputs, of_rows


def _columns(images: Tensor, size: int) -> tuple[Tensor, int]:
    """What the windows of stride 2 read in images (h, c, w, n), (h', size c size, w' n), and w'.

    Each pair of rows is gathered once, (h' + size / 2 - 1, 2 c size, w' n); the windows are views of it that overlap.
    """
    pairs = images[: len(images) // 2 * 2].unfold(2, size, 2)
    rows, channels, width, n, _ = pairs.shape
    pairs = pairs.permute(0, 1, 4, 2, 3).reshape(rows // 2, 2 * channels * size, width * n)
    return pairs.unfold(0, size // 2, 1).permute(0, 3, 1, 2).flatten(1, 2), width


def _to_images(to_outputs: Tensor, kernels: Tensor, shape: torch.Size, padding: int) -> Tensor:
    """The gradient of images, of ``shape`` (n, c, h, w), from that of the four outputs (h', 4 o, w' n)."""
    n, channels, height, width = shape
    images = to_outputs.new_zeros(height + 2 * padding, channels, width + 2 * padding, n)
    rows = len(to_outputs)
    size = math.isqrt(kernels.shape[1] // channels)
    to_pairs = to_outputs.new_zeros(rows + size // 2 - 1, 2 * channels * size, to_outputs.shape[2])
    # Windows overlap: only what lies in the same two rows of each, then in the same two columns, can be added at once.
    for above, of_pair in enumerate(kernels.t().chunk(size // 2)):
        to_pairs[above : above + rows].baddbmm_(of_pair.expand(rows, -1, -1), to_outputs)
    into = images[: 2 * len(to_pairs)].unfold(2, size, 2).permute(0, 1, 4, 2, 3)  # (rows, c, size, w', n)
    for columns, part in zip(into.chunk(size // 2, 2), to_pairs.view(into.shape).chunk(size // 2, 2), strict=True):
        columns.add_(part)
    return images[padding : padding + height, :, padding : padding + width].permute(3, 1, 0, 2)


def _four_kernels(weight: Tensor) -> Tensor:
    """The filters (o, c, k, k) at the four places of a pooling window, column by column: (4 o, (k + 1) c (k + 1))."""
    out_channels, channels, size, _ = weight.shape
    kernels = weight.new_zeros(2, 2, out_channels, size + 1, channels, size + 1)
    _places(kernels).copy_(weight.transpose(1, 2))
    return kernels.view(4 * out_channels, -1)


def _sum_of_four(gradient: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of the filters, of ``shape`` (o, c, k, k), from that of the four kernels."""
    out_channels, channels, size, _ = shape
    left, right = _places(gradient.reshape(2, 2, out_channels, size + 1, channels, size + 1)).unbind()
    upper, lower = (left + right).unbind()
    return (upper + lower).transpose(1, 2)


def _places(kernels: Tensor) -> Tensor:
    """Where the filters stand in the four kernels (2, 2, o, k + 1, c, k + 1), as a view of them: (2, 2, o, k, c, k)."""
    size = kernels.shape[-1] - 1
    right, down, *filters = kernels.stride()
    # One column further in the right kernels, one row further in the lower ones.
    shape = (*kernels.shape[:3], size, kernels.shape[4], size)
    return kernels.as_strided(shape, (right + filters[3], down + filters[1], *filters))


def _to_larger(gradient: Tensor, lead: Tensor) -> Tensor:
    """The gradient of a maximum handed to the larger of two values; to the first of equals, as torch's.

    Args:
        gradient: Shape (h, r, p).
        lead: By how much the second value is the larger one, (h, r, p).

    Returns:
        The gradient of the first and of the second, (h, 2 r, p).
    """
    result: Tensor = gradient.new_empty(len(gradient), 2, *gradient.shape[1:])
    first, second = result.unbind(1)
    _WHERE_POSITIVE(gradient, lead, 0, grad_input=second)
    torch.sub(gradient, second, out=first)
    return result.flatten(1, 2)
