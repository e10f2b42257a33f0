"""What makes frames of a scene alike: where scenes begin, and statistics that are averaged within one."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.errors import UsageError
from fastnst.image import Pixels
from fastnst.nets.rows import Vector

# What is more than usual at a cut: the share of pixels of another color, the mean difference from the frame before in
# gray levels, and how many times the usual difference that is.
_CUT_COLORS, _CUT_LEVELS, _CUT_TIMES = 0.3, 12.0, 2.0


class CutDetector:
    """Whether a frame begins another scene than the frame before it; a pan, a fade and noise do not.

    At a cut two things change at once: which colors there are, which movement within a scene leaves alone, and where
    they are, by more than the frames before did, which the slow change of all colors in a fade does not.
    """

    def __init__(self) -> None:
        self.before: tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]] | None = None
        self.usual = 0.0

    def __call__(self, rgb: Pixels) -> bool:
        """Whether this frame, uint8 (H, W, 3), is the first of a scene; the very first is none."""
        small = np.asarray(Image.fromarray(rgb).resize((48, 48), Image.Resampling.BOX))
        thumbnail = small.reshape(16, 3, 16, 3, 3).mean((1, 3), dtype=np.float32)
        cells = (small.reshape(-1, 3) >> 5) @ np.array([64, 8, 1])  # of 8x8x8 colors
        colors = np.bincount(cells, minlength=512) / len(cells)
        before, self.before = self.before, (thumbnail, colors)
        if before is None:
            return False
        change = float(np.abs(thumbnail - before[0]).mean())
        other = float(np.abs(colors - before[1]).sum()) / 2
        if other > _CUT_COLORS and change > max(_CUT_LEVELS, _CUT_TIMES * self.usual):
            self.usual = 0.0
            return True
        self.usual += (change - self.usual) / 4
        return False


class SmoothedStatistics:
    """The statistics of each normalization layer, averaged over the frames of a scene: what is lit stays lit.

    An exponential average: `smooth` is the share of the past, 0 is none. Reset at cuts.
    """

    def __init__(self, smooth: float) -> None:
        if not 0 <= smooth < 1:
            raise UsageError(f"--smooth is {smooth} but must be at least 0 and less than 1")
        self.smooth = smooth
        self.averages: dict[str, tuple[Vector, Vector]] = {}

    def __call__(self, layer: str, mean: Vector, variance: Vector) -> tuple[Vector, Vector]:
        """The average with those of the frame that is stylized now, arrays of one shape per layer."""
        if layer in self.averages:
            old_mean, old_variance = self.averages[layer]
            mean = self.smooth * old_mean + (1 - self.smooth) * mean
            variance = self.smooth * old_variance + (1 - self.smooth) * variance
        self.averages[layer] = mean, variance
        return mean, variance

    def reset(self) -> None:
        """Forget the scene before a cut."""
        self.averages.clear()
