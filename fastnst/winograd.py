"""Convolutions of 3x3 in float32 on a processor, in a quarter of the multiplications.

Each 4x4 pixels of the output come from 6x6 of the input. Both change into bases in which the convolution is 36 products
instead of 144. That is 36 matrix products, over all channels and tiles at once.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 4  # pixels of the output, a side; larger ones save little more, and cost accuracy
SEEN = TILE + 2  # pixels of the input
POINTS = SEEN * SEEN
FEWEST = 48  # channels, below which the changes of basis cost more than is saved
LARGEST = 1.5  # pixels computed for one that is there: beyond that, nothing is saved
CACHE = 2 << 20  # bytes of the tiles that are computed at once, which then stay near the processor


def _squared(matrix: list[list[float]]) -> Tensor:
    """Of rows and columns at once: (n, m) -> (n*n, m*m)."""
    rows = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(rows, rows)


# The transposed B, G and the transposed A of the paper, for polynomials at 0, 1, -1, 2, -2 and infinity.
_INPUT = _squared(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
).float()
_KERNEL = _squared(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
).float()
_OUTPUT = _squared([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]).float()
_INPUT_ADJOINT, _KERNEL_ADJOINT, _OUTPUT_ADJOINT = _INPUT.T.clone(), _KERNEL.T.clone(), _OUTPUT.T.clone()


def applies(x: Tensor, weight: Tensor, padding: int = 0) -> bool:
    """Whether a convolution of features (N, C, H, W), to be padded so far, with (K, C, 3, 3) is faster this way."""
    height, width = (side + 2 * padding - 2 for side in x.shape[-2:])
    return (
        weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= FEWEST
        and type(x) is Tensor  # others trace or count what torch does
        and x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _tiles(height) * _tiles(width) * TILE * TILE <= LARGEST * height * width
    )


def transform(weight: Tensor) -> Tensor:
    """Kernels as what they multiply: (K, C, 3, 3) -> (36, C, K)."""
    kernels, channels = weight.shape[:2]
    taps = weight.detach().permute(2, 3, 1, 0).reshape(9, -1)
    return (_KERNEL @ taps).view(POINTS, channels, kernels)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, kernels: Tensor | None = None) -> Tensor:
    """A convolution without padding: (N, C, H + 2, W + 2), (K, C, 3, 3) -> (N, K, H, W), channels_last.

    `kernels` are those that `transform` made of `weight`, where it does not change.
    """
    output: Tensor = _Convolution.apply(x, weight, bias, kernels)
    return output


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kernels: Tensor | None) -> Tensor:
        kernels = transform(weight) if kernels is None else kernels
        number, _, height, width = x.shape
        size = height - 2, width - 2
        tiles = _overlapping(x)
        output = torch.empty((number, len(weight), *size), memory_format=torch.channels_last)
        pixels = output.permute(0, 2, 3, 1)  # (N, H, W, K)
        for picture, rows in _chunks(tiles, kernels):
            products = torch.bmm(_changed(tiles[picture, rows]), kernels).flatten(1)
            whole = (_OUTPUT @ products).view(TILE, TILE, -1, tiles.shape[2], len(weight)).permute(2, 0, 3, 1, 4)
            _write(whole, bias, pixels[picture, rows.start * TILE : rows.stop * TILE])
        ctx.kernels = kernels
        ctx.save_for_backward(x if weight.requires_grad else x[:0])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (x,) = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        kernels: Tensor = ctx.kernels
        channels, outputs = kernels.shape[1:]
        pixels = _whole(gradient)  # (N, h, 4, w, 4, K)
        number, down, _, across, _, _ = pixels.shape
        padded = gradient.new_zeros(number, TILE * (down + 1), TILE * (across + 1), channels)
        tiles = padded.view(number, down + 1, TILE, across + 1, TILE, channels).permute(0, 1, 3, 2, 4, 5)
        seen = _overlapping(x) if of_weight else tiles
        of_kernels = torch.zeros_like(kernels) if of_weight else kernels
        for picture, rows in _chunks(pixels.transpose(2, 3)[:, :, :, 0], kernels):
            products = _OUTPUT_ADJOINT @ pixels[picture, rows].permute(1, 3, 0, 2, 4).reshape(TILE * TILE, -1)
            products = products.view(POINTS, -1, outputs)
            if of_weight:
                of_kernels.baddbmm_(_changed(seen[picture, rows]).transpose(1, 2), products)
            if of_x:
                values = torch.bmm(products, kernels.transpose(1, 2)).flatten(1)
                _add(tiles[picture, rows.start : rows.stop + 1], (_INPUT_ADJOINT @ values))
        height, width = gradient.shape[-2:]
        return (
            padded[:, : height + 2, : width + 2].permute(0, 3, 1, 2) if of_x else None,
            _taps(of_kernels) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _taps(kernels: Tensor) -> Tensor:
    """The adjoint of `transform`: (36, C, K) -> (K, C, 3, 3)."""
    taps = _KERNEL_ADJOINT @ kernels.flatten(1)
    return taps.view(3, 3, *kernels.shape[1:]).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def _tiles(pixels: int) -> int:
    """How many cover so many pixels."""
    return -(-pixels // TILE)


def _overlapping(x: Tensor) -> Tensor:
    """Padded features, and zeros up to whole tiles, as tiles see them: (N, C, H + 2, W + 2) -> (N, h, w, 6, 6, C)."""
    number, channels, height, width = x.shape
    down, across = _tiles(height - 2), _tiles(width - 2)
    pixels = _filled(x, TILE * down + 2, TILE * across + 2)
    picture, row, column, channel = pixels.stride()
    return pixels.as_strided(
        (number, down, across, SEEN, SEEN, channels),
        (picture, TILE * row, TILE * column, row, column, channel),
        pixels.storage_offset(),
    )


def _whole(gradient: Tensor) -> Tensor:
    """That of an output, and zeros up to whole tiles: (N, K, H, W) -> (N, h, 4, w, 4, K)."""
    number, outputs, height, width = gradient.shape
    down, across = _tiles(height), _tiles(width)
    return _filled(gradient, TILE * down, TILE * across).view(number, down, TILE, across, TILE, outputs)


def _filled(x: Tensor, height: int, width: int) -> Tensor:
    """With zeros up to that size, and without a gap in memory: (N, C, H, W) -> (N, height, width, C)."""
    pixels = x.permute(0, 2, 3, 1)
    if pixels.shape[1:3] == (height, width) and pixels.is_contiguous():
        return pixels
    filled = pixels.new_zeros(len(x), height, width, x.shape[1])
    filled[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return filled


def _chunks(tiles: Tensor, kernels: Tensor) -> Iterator[tuple[int, slice]]:
    """Pictures, and rows of their tiles that are computed at once: few, but the kernels are read for each anew."""
    number, down, across = tiles.shape[:3]
    row = POINTS * across * max(kernels.shape[1:]) * kernels.element_size()
    rows = max(1, max(CACHE, kernels.nbytes) // row)
    for picture in range(number):
        for start in range(0, down, rows):
            yield picture, slice(start, min(start + rows, down))


def _changed(tiles: Tensor) -> Tensor:
    """What tiles see, in the other basis: (h, w, 6, 6, C) -> (36, h*w, C)."""
    channels = tiles.shape[-1]
    return (_INPUT @ tiles.permute(2, 3, 0, 1, 4).reshape(POINTS, -1)).view(POINTS, -1, channels)


def _write(whole: Tensor, bias: Tensor | None, pixels: Tensor) -> None:
    """Rows of tiles, (h, 4, w, 4, K), and the bias into an output's (H, W, K), which is at most as large."""
    rows, _, columns, _, outputs = whole.shape
    if pixels.shape[:2] == (TILE * rows, TILE * columns):
        target = pixels.view(whole.shape)
        target.copy_(whole) if bias is None else torch.add(whole, bias, out=target)
        return
    pixels.copy_(whole.reshape(TILE * rows, TILE * columns, outputs)[: len(pixels), : pixels.shape[1]])
    if bias is not None:
        pixels += bias


def _add(tiles: Tensor, values: Tensor) -> None:
    """Add what tiles see, (36, h*w*C), to tiles that do not overlap, (h + 1, w + 1, 4, 4, C)."""
    down, across, _, _, channels = tiles.shape
    seen = values.view(SEEN, SEEN, down - 1, across - 1, channels).permute(2, 3, 0, 1, 4)
    first, beyond = slice(0, TILE), slice(TILE, SEEN)  # a tile sees two pixels of the next
    tiles[:-1, :-1] += seen[:, :, first, first]
    tiles[:-1, 1:, :, : SEEN - TILE] += seen[:, :, first, beyond]
    tiles[1:, :-1, : SEEN - TILE] += seen[:, :, beyond, first]
    tiles[1:, 1:, : SEEN - TILE, : SEEN - TILE] += seen[:, :, beyond, beyond]
