"""What a network's pictures of late had for Gram matrices, in the mean."""

from collections.abc import Mapping

from torch import Tensor

HORIZON = 100  # pictures that the mean reaches back, roughly
SHARE = 0.5  # of one picture in what is compared with the style, in the second half of a run


def picture_share(done: float) -> float:
    """That share when so much of a run is done, 0..1: all at first, when the mean lags far behind the network."""
    return 1 - (1 - SHARE) * min(2 * done, 1)


class RecentGrams:
    """The running means by style layer, (1, C, C); none before the first step."""

    def __init__(self) -> None:
        self.means: dict[str, Tensor] = {}

    def add(self, grams: Mapping[str, Tensor], pictures: int) -> None:
        """Take in the mean Gram matrices of so many pictures."""
        share = min(pictures / HORIZON, 1)
        self.means = {name: self.means.get(name, gram).lerp(gram, share) for name, gram in grams.items()}
