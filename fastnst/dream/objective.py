"""How much a network sees in a picture: what a dream ascends."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastnst.config import DreamConfig
from fastnst.device import autocast, pick_precision
from fastnst.dream.inception import Features, open_features
from fastnst.image import read_picture, to_array
from fastnst.losses import at_least_float32

# By eye.
DEFAULT_WEIGHTS = {"inception_v3": {"Mixed_6a": 1.0, "Mixed_6c": 1.0}, "googlenet": {"inception4c": 1.0}}
VGG_WEIGHTS = {"relu4_3": 1.0, "relu5_2": 0.2}

GUIDE_SIZE = 224  # pixels, the longer side
_ROWS = 1 << 22  # products of features at once, when the guide's nearest ones are looked for


class Objective:
    """How much a network sees: (1, 3, H, W) RGB 0..1 -> (L,), one term for each layer of a weight that is not 0.

    The mean square of a layer's features, or with a guide (1, 3, H, W) the mean product of each place's features with
    those of the guide that fit best.

    Source: Mordvintsev et al. 2015, and their notebook for the guide.
    """

    def __init__(
        self,
        features: Features,
        weights: dict[str, float],
        guide: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.features, self.dtype = features, dtype
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.guides = None
        if guide is not None:
            with torch.no_grad():
                self.guides = {name: values[0].flatten(1) for name, values in self._features(guide).items()}  # (C, P)

    @property
    def smallest(self) -> int:
        """The side in pixels of the smallest picture all layers see."""
        return max(map(self.features.smallest, self.weights))

    def __call__(self, images: Tensor) -> Tensor:
        features = self._features(images)
        if self.guides is None:
            return torch.stack([features[name].square().mean() for name in self.weights])
        return torch.stack([likeness(features[name][0].flatten(1), self.guides[name]) for name in self.weights])

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        return extract(self.features, images, list(self.weights), self.dtype)


def extract(network: Features, images: Tensor, layers: Sequence[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Features in float32 of (N, 3, H, W) RGB 0..1, with convolutions in this arithmetic."""
    with autocast(images.device, dtype):
        features = network(images.contiguous(memory_format=torch.channels_last), layers)
    return {name: at_least_float32(values) for name, values in features.items()}


def likeness(features: Tensor, guide: Tensor) -> Tensor:
    """(C, P) and (C, Q) -> the largest product of each place with any of the guide's, mean over places and channels."""
    with torch.no_grad():
        pieces = torch.split(features.T, max(1, _ROWS // guide.shape[1]))
        nearest = torch.cat([(piece @ guide).argmax(1) for piece in pieces])  # (P,)
    return (features * guide[:, nearest]).mean()


def open_objective(config: DreamConfig, device: torch.device) -> Objective:
    """What the config wants to be seen; InputError for an unusable guide, and as `open_features` for the network."""
    weights = config.weights or DEFAULT_WEIGHTS.get(config.network, VGG_WEIGHTS)
    features = open_features(config.network, list(weights))
    features.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    guide = None
    if config.guide is not None:
        guide = torch.from_numpy(to_array(read_picture(config.guide, max_size=GUIDE_SIZE).rgb)).to(device)
    return Objective(features, weights, guide, pick_precision(config.precision, device))
