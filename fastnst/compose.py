"""After the network: how much of the painting, and whose colors. Pictures are uint8 (H, W, 3) sRGB throughout."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnst.image import Pixels

# Luma of ITU-R BT.601, as in JPEG and in Gatys et al. 2016, "Preserving color in neural artistic style transfer".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def blend(content: Pixels, stylized: Pixels, strength: float) -> Pixels:
    """Cross-fade: strength 0 is the content, 1 the stylized picture."""
    if strength == 1:
        return stylized
    return _pixels(content + (stylized.astype(np.float32) - content) * strength)


def keep_luma_colors(content: Pixels, stylized: Pixels) -> Pixels:
    """Brightness of the stylized picture, colors of the content.

    Source: Gatys et al. 2016, luminance-only transfer.
    """
    given, painted = content.astype(np.float32), stylized.astype(np.float32)
    return _pixels(given + ((painted - given) @ _LUMA)[..., None])


def keep_histogram_colors(content: Pixels, stylized: Pixels) -> Pixels:
    """The stylized picture with its mean color and color covariance moved to those of the content.

    Source: Gatys et al. 2016, color histogram matching with the symmetric matrix square root.
    """
    given, painted = content.reshape(-1, 3).astype(np.float64) / 255, stylized.reshape(-1, 3).astype(np.float64) / 255
    root_given, root_painted = _square_root(_covariance(given)), _square_root(_covariance(painted))
    matched = (painted - painted.mean(0)) @ np.linalg.solve(root_painted, root_given) + given.mean(0)
    return _pixels(matched.reshape(stylized.shape) * 255)


def _covariance(colors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # A little of every color, so that grey pictures keep an invertible matrix.
    return np.asarray(np.cov(colors, rowvar=False) + 1e-5 * np.eye(3))


def _square_root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def _pixels(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    pixels: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return pixels
