"""Noise that a network adds to what it is given, so that flat areas have something to make strokes of.

Where a photo is flat, a network has nothing to place a stroke by, and paints a smooth gradient of colors. Ulyanov et
al. 2016, "Texture networks", give theirs noise as an input of its own; here it is added to the picture, as faint signs
in a color: photographs have no colors as fine as that, so that nothing of them is covered.

It depends on the place in the picture alone: the same in torch, in an ONNX file, in bands, and from run to run.
"""

import functools
import math

import numpy as np
import numpy.typing as npt

PERIODS = 61, 67  # pixels. Of the product of two tiles nothing repeats before a common multiple of their sides, 4087.
COLOR = np.array([[[1]], [[-1]], [[0]]], np.float32)  # RGB, red against green: brightness changes by a third of it

Array = npt.NDArray[np.float32]


@functools.cache
def tiles() -> tuple[Array, ...]:
    """Signs, -1 or 1, for each of `PERIODS`: (period, period)."""
    random = np.random.RandomState(0)  # whose numbers never change, as those of newer generators may
    return tuple(np.float32(2) * random.randint(0, 2, (side, side)).astype(np.float32) - 1 for side in PERIODS)


def grain(height: int, width: int, row: int = 0, column: int = 0) -> Array:
    """That of a part of a picture which begins at a row and a column: (3, height, width), -1 to 1."""
    rows, columns = np.arange(row, row + height)[:, None], np.arange(column, column + width)
    first, second = (tile[rows % len(tile), columns % len(tile)] for tile in tiles())
    return first * second * COLOR


def drawn_grain(seed: int, position: int, height: int, width: int) -> Array:
    """That of an image which training sees: of another place for each, but always the same at a position of a run."""
    row, column = np.random.default_rng([seed, position]).integers(0, math.prod(PERIODS), 2)
    return grain(height, width, int(row), int(column))
