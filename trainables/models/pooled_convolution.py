"""A convolution and the 2x2 max pooling after it, as one operation: quick on processors for images of few channels."""

from __future__ import annotations

from collections.abc import Iterator
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
    and that, like its gradients, as one product of matrices. torch's own convolutions are slow where channels are few
    (tests/benchmarks/pooled_convolution.py).

    All of it keeps the images last in memory: (channels, height, width, n). So whatever is gathered, compared or added
    lies in runs of n values, the four outputs of a window are four whole blocks, and a further such layer reads what
    the one before it wrote, as it lies.

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
        lead, lead_of_rows = outputs[1].sub_(outputs[0]), of_rows[1].sub_(of_rows[0])
        ctx.padding, ctx.images_last = padding, images.permute(1, 2, 3, 0).is_contiguous()
        ctx.shape, ctx.weight_shape, ctx.pooled_shape = images.shape, weight.shape, pooled.shape
        to_images, to_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(columns if to_weight else None, kernels if to_images else None, lead, lead_of_rows)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        columns, kernels, lead, lead_of_rows = ctx.saved_tensors
        gradient = gradient.permute(1, 2, 3, 0).flatten(1)  # (o, h' w' n)
        to_outputs = _to_larger(_to_larger(gradient, lead_of_rows), lead)  # (4 o, h' w' n)
        to_images = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            windows = (kernels.t() @ to_outputs).view(*_window_shape(ctx.weight_shape), *ctx.pooled_shape[2:], -1)
            to_images = _sum_of_windows(windows, ctx.shape, ctx.padding)
            if not ctx.images_last:
                to_images = to_images.contiguous()
        if ctx.needs_input_grad[1]:
            to_weight = _sum_of_four((columns @ to_outputs.t()).t(), ctx.weight_shape)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(1)
        return to_images, to_weight, to_bias, None


def _pooled_convolution(images: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> tuple[Tensor, ...]:
    """The layer's output (n, o, h', w'), and what its gradients need."""
    assert bias is not None
    out_channels, _, size, _ = weight.shape
    images = images.permute(1, 2, 3, 0)
    if padding:
        channels, height, width, n = images.shape
        padded = images.new_zeros(channels, height + 2 * padding, width + 2 * padding, n)
        padded[:, padding:-padding, padding:-padding] = images
        images = padded
    windows = _windows(images, size + 1)
    columns = windows.flatten(3).flatten(0, 2)  # (c s s, h' w' n)
    kernels = _four_kernels(weight)
    outputs = (kernels @ columns).view(2, 2 * out_channels, -1)  # the left ones and the right ones
    of_rows = torch.maximum(outputs[0], outputs[1]).view(2, out_channels, -1)  # the upper ones and the lower ones
    pooled = torch.maximum(of_rows[0], of_rows[1]).add_(bias.unsqueeze(1))
    return pooled.view(out_channels, *windows.shape[3:]).permute(3, 0, 1, 2), columns, kernels, outputs, of_rows


def _window_shape(weight_shape: torch.Size) -> tuple[int, int, int]:
    """What the filters (o, c, k, k) read for one pooling window: (c, k + 1, k + 1)."""
    _, channels, size, _ = weight_shape
    return channels, size + 1, size + 1


def _windows(images: Tensor, size: int) -> Tensor:
    """The windows of stride 2 in images (c, h, w, n), as a view of them: (c, size, size, h', w', n)."""
    return images.unfold(1, size, 2).unfold(2, size, 2).permute(0, 4, 5, 1, 2, 3)


def _sum_of_windows(windows: Tensor, shape: torch.Size, padding: int) -> Tensor:
    """The gradient of images, of ``shape`` (n, c, h, w), from that of their padded windows, (c, s, s, h', w', n)."""
    n, channels, height, width = shape
    total = windows.new_zeros(channels, height + 2 * padding, width + 2 * padding, n)
    # Windows overlap: only what lies in the same two rows and columns of each of them can be added at once.
    for into, part in zip(_pairs(_windows(total, windows.shape[1])), _pairs(windows), strict=True):
        into.add_(part)
    return total[:, padding : padding + height, padding : padding + width].permute(3, 0, 1, 2)


def _pairs(windows: Tensor) -> Iterator[Tensor]:
    """Windows (c, s, s, ...) by two of their rows and two of their columns, (c, 2, 2, ...)."""
    pairs = windows.shape[1] // 2
    for rows in windows.chunk(pairs, 1):
        yield from rows.chunk(pairs, 2)


def _four_kernels(weight: Tensor) -> Tensor:
    """The filters (o, c, k, k) at the four places of a pooling window, column by column: (4 o, c (k + 1) (k + 1))."""
    kernels = weight.new_zeros(2, 2, len(weight), *_window_shape(weight.shape))
    _places(kernels).copy_(weight)
    return kernels.view(4 * len(weight), -1)


def _sum_of_four(gradient: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of the filters, of ``shape`` (o, c, k, k), from that of the four kernels."""
    left, right = _places(gradient.reshape(2, 2, shape[0], *_window_shape(shape))).unbind()
    upper, lower = (left + right).unbind()
    return upper + lower


def _places(kernels: Tensor) -> Tensor:
    """Where the filters stand in the four kernels (2, 2, o, c, k + 1, k + 1), as a view of them: (2, 2, o, c, k, k)."""
    size = kernels.shape[-1] - 1
    right, down, *filters = kernels.stride()
    # One column further in the right kernels, one row further in the lower ones.
    return kernels.as_strided((*kernels.shape[:4], size, size), (right + filters[3], down + filters[2], *filters))


def _to_larger(gradient: Tensor, lead: Tensor) -> Tensor:
    """The gradient of a maximum handed to the larger of two values; to the first of equals, as torch's.

    Args:
        gradient: Shape (r, p).
        lead: By how much the second value is the larger one, (r, p).

    Returns:
        The gradient of the first and of the second, (2 r, p).
    """
    result: Tensor = gradient.new_empty(2, *gradient.shape)
    first, second = result.unbind()
    _WHERE_POSITIVE(gradient, lead, 0, grad_input=second)
    torch.sub(gradient, second, out=first)
    return result.flatten(0, 1)
