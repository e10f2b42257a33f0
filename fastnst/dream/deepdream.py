"""DeepDream: a picture changed until a network sees more of what it sees in it already (Mordvintsev et al. 2015)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.config import DreamConfig
from fastnst.device import pick_precision, torch_device
from fastnst.dream.inception import Features, open_features
from fastnst.errors import InputError, Interrupted
from fastnst.files import check_output, printable
from fastnst.image import (
    Picture,
    output_format,
    read_picture,
    to_array,
    to_pixels,
    write_picture,
)
from fastnst.interrupt import caught_signals
from fastnst.losses import at_least_float32
from fastnst.video.write import check_animation, write_animation

log = logging.getLogger(__name__)

# By eye.
DEFAULT_WEIGHTS = {"inception_v3": {"Mixed_6a": 1.0, "Mixed_6c": 1.0}, "googlenet": {"inception4c": 1.0}}
VGG_WEIGHTS = {"relu4_3": 1.0, "relu5_2": 0.2}

MARGIN = 32  # pixels around a tile that its gradient sees; a random grid hides what lies farther
RATE = 12  # frames of a zoom a second
GUIDE_SIZE = 224  # pixels, the longer side
# The root of the covariance of colors in photographs, whose largest value is 1 (of the matrix of Olah et al. 2017,
# "Feature Visualization"): steps along it go through colors that belong together instead of shrill ones.
COLORS = ((0.4561, 0.2762, 0.2042), (0.2762, 0.4102, 0.2802), (0.2042, 0.2802, 0.4803))

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
        return torch.stack([_likeness(features[name][0].flatten(1), self.guides[name]) for name in self.weights])

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        return extract(self.features, images, list(self.weights), self.dtype)


def extract(network: Features, images: Tensor, layers: Sequence[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Features in float32 of (N, 3, H, W) RGB 0..1, with convolutions in this arithmetic."""
    autocast: Any = nullcontext()
    if dtype is not torch.float32:
        autocast = torch.autocast(images.device.type, dtype=dtype)
    with autocast:
        features = network(images.contiguous(memory_format=torch.channels_last), layers)
    return {name: at_least_float32(values) for name, values in features.items()}


def _likeness(features: Tensor, guide: Tensor) -> Tensor:
    """(C, P) and (C, Q) -> the largest product of each place with any of the guide's, mean over places and channels."""
    with torch.no_grad():
        pieces = torch.split(features.T, max(1, _ROWS // guide.shape[1]))
        nearest = torch.cat([(piece @ guide).argmax(1) for piece in pieces])  # (P,)
    return (features * guide[:, nearest]).mean()


class Tile(NamedTuple):
    """A part of a picture, what is seen of its neighbors too, where it lies in that, and its share of the picture."""

    own: tuple[slice, slice]
    seen: tuple[slice, slice]
    inside: tuple[slice, slice]
    share: float


def tiles(height: int, width: int, rows: Sequence[int], columns: Sequence[int]) -> Iterator[Tile]:
    """The parts of a picture cut at these rows and columns, each with MARGIN pixels of its neighbors."""
    for top, bottom in zip([0, *rows], [*rows, height], strict=True):
        for left, right in zip([0, *columns], [*columns, width], strict=True):
            y, x = max(top - MARGIN, 0), max(left - MARGIN, 0)
            yield Tile(
                own=(slice(top, bottom), slice(left, right)),
                seen=(slice(y, min(bottom + MARGIN, height)), slice(x, min(right + MARGIN, width))),
                inside=(slice(top - y, bottom - y), slice(left - x, right - x)),
                share=(bottom - top) * (right - left) / (height * width),
            )


def cuts(length: int, tile: int, offset: int, least: int) -> list[int]:
    """Where a side is cut: every `tile` pixels from the offset on, never closer than `least` to its ends."""
    return [cut for cut in range(offset, length, tile) if least <= cut <= length - least]


def tiled_gradient(
    objective: Callable[[Tensor], Tensor], picture: Tensor, factors: Tensor, rows: Sequence[int], columns: Sequence[int]
) -> tuple[float, Tensor]:
    """The sum of factors times terms, mean over tiles by their share, and its gradient at a picture (1, 3, H, W).

    The picture is cut at these rows and columns, so that memory is bounded by the tile; what a tile sees of its
    neighbors lets the gradient go on across the cuts.
    """
    height, width = picture.shape[-2:]
    gradient = torch.empty_like(picture)
    loss = 0.0
    for tile in tiles(height, width, rows, columns):
        seen = picture[..., *tile.seen].detach().requires_grad_()
        with torch.enable_grad():
            value = (factors * objective(seen)).sum()
            (own,) = torch.autograd.grad(value, seen)
        # The mean over what the tile sees as a part of the mean over the whole picture.
        gradient[..., *tile.own] = own[..., *tile.inside] * (seen[0, 0].numel() / (height * width))
        loss += float(value.detach()) * tile.share
    return loss, gradient


def smooth(gradient: Tensor, sigma: float) -> Tensor:
    """The way to step from a gradient (N, 3, H, W): deviation 1, colors as in photographs.

    A cascade: the sum of the gradient blurred by half of sigma, sigma and twice sigma pixels.
    """
    if sigma > 0:
        gradient = blur(gradient, sigma / 2) + blur(gradient, sigma) + blur(gradient, 2 * sigma)
    gradient = torch.einsum("ij,njhw->nihw", torch.tensor(COLORS).to(gradient), gradient)
    return (gradient - gradient.mean()) / (gradient.std() + 1e-12)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, with the border repeated: (N, C, H, W) -> the same."""
    radius = max(1, round(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    planes = F.pad(images.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")  # (N*C, 1, H+2r, W+2r)
    return F.conv2d(F.conv2d(planes, kernel[:, None]), kernel[..., None]).view_as(images)


class Step(NamedTuple):
    """A dream (1, 3, h, w) 0..1 after steps of an octave, both counted from 1, and the loss before the last of them.

    Stopped by the maximum loss, the last step is told twice, with the loss after it.
    """

    octave: int
    step: int
    loss: float
    picture: Tensor


def octave_sizes(height: int, width: int, config: DreamConfig, smallest: int) -> list[tuple[int, int]]:
    """Heights and widths, the picture's own last; without those a network cannot see.

    Raises InputError if that is all of them.
    """
    scales = [config.octave_scale**-index for index in reversed(range(config.octaves))]
    sizes = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales]
    seen = [size for size in sizes if min(size) >= smallest]
    if not seen:
        raise InputError(
            f"image is {width}x{height} but the layers need at least {smallest}x{smallest}; "
            "use a larger image or shallower layers"
        )
    if len(seen) < len(sizes):
        log.warning("%d of %d octaves are left out: below %d pixels", len(sizes) - len(seen), len(sizes), smallest)
    return seen


def deep_dream(
    objective: Objective, photo: Tensor, config: DreamConfig, random: torch.Generator, steps: int
) -> Iterator[Step]:
    """Dream of a photo (1, 3, H, W) 0..1, small first, with `steps` at each octave.

    The loss is the sum of weight times term, each term in units of the photo's own at that octave. What was dreamed is
    carried to the next octave as the difference to the photo, so that the photo's detail is never lost.

    Differs from Mordvintsev et al. 2015: the picture is shifted over its reflection instead of its other end, and
    steps follow `smooth`.
    """
    picture = photo
    weights = torch.tensor(list(objective.weights.values()), device=photo.device)
    for octave, size in enumerate(octave_sizes(*_size(photo), config, objective.smallest), start=1):
        base = resample(photo, size)
        picture = enlarge(picture, photo, base) if octave > 1 else base
        factors = weights / _own_terms(objective, base, config.tile).abs().clamp_min(1e-12)
        for step in range(1, steps + 1):
            loss, gradient = _shifted_gradient(objective, picture, factors, config, random)
            if config.maximum_loss is not None and loss > config.maximum_loss:
                yield Step(octave, step - 1, loss, picture)
                break
            sigma = config.smoothing + 2 * step / steps
            picture = (picture + config.step_size * smooth(gradient, sigma)).clamp(0, 1)
            yield Step(octave, step, loss, picture)


@torch.no_grad()
def _own_terms(objective: Objective, photo: Tensor, tile: int) -> Tensor:
    height, width = photo.shape[-2:]
    least = max(MARGIN, objective.smallest)
    rows, columns = (cuts(side, tile, tile, least) for side in (height, width))
    parts = tiles(height, width, rows, columns)
    return torch.stack([objective(photo[..., *part.seen]) * part.share for part in parts]).sum(0)


def _shifted_gradient(
    objective: Objective, picture: Tensor, factors: Tensor, config: DreamConfig, random: torch.Generator
) -> tuple[float, Tensor]:
    height, width = picture.shape[-2:]

    def chance(most: int) -> int:
        return int(torch.randint(most + 1, (), generator=random))

    room = [min(config.jitter, side - 1) for side in (height, width)]
    top, left = map(chance, room)
    padded = F.pad(picture, (left, room[1] - left, top, room[0] - top), mode="reflect")
    least = max(MARGIN, objective.smallest)
    rows, columns = (
        cuts(side, config.tile, chance(config.tile - 1), least) if side > config.tile + least else []
        for side in padded.shape[-2:]
    )
    loss, gradient = tiled_gradient(objective, padded, factors, rows, columns)
    return loss, gradient[..., top : top + height, left : left + width]


def enlarge(dreamed: Tensor, photo: Tensor, base: Tensor) -> Tensor:
    """A smaller dream at the size of `base`: what was dreamed, the difference to the photo at its size, on the base."""
    small = resample(photo, _size(dreamed))
    return (base + resample(dreamed - small, _size(base))).clamp(0, 1)


def resample(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) at another height and width."""
    if _size(images) == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True)


def zoom_in(frame: Tensor, scale: float) -> Tensor:
    """The middle of a picture (1, 3, H, W), so many times as large."""
    height, width = _size(frame)
    y, x = (round(side * (1 - 1 / scale) / 2) for side in (height, width))
    y, x = max(y, 1), max(x, 1)
    return resample(frame[..., y : height - y, x : width - x], (height, width)).clamp(0, 1)


def toned(picture: Tensor, deviation: Tensor, mean: Tensor) -> Tensor:
    """A picture (1, 3, H, W) with these deviations and means (1, 3, 1, 1) of its colors, as far as 0..1 allows.

    Otherwise dreams of dreams end in black and white.
    """
    own_deviation, own_mean = torch.std_mean(picture, (2, 3), keepdim=True)
    return ((picture - own_mean) * (deviation / own_deviation.clamp_min(1e-6)) + mean).clamp(0, 1)


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


@dataclass(frozen=True)
class Octave:
    """Height and width of an octave, the steps that were done there, and the first and last losses that were seen."""

    size: tuple[int, int]
    steps: int
    first_loss: float
    last_loss: float


@dataclass(frozen=True)
class Dream:
    """What was written, and how each octave went, in all frames one after the other."""

    path: Path
    octaves: list[Octave]


def planned_steps(config: DreamConfig) -> list[int]:
    """Steps at each octave, for each frame; those after the first go on from a dream and need fewer."""
    return [config.iterations, *[max(1, config.iterations // 4)] * ((config.zoom or 1) - 1)]


def dream(config: DreamConfig, on_step: Callable[[int, Step], None] | None = None) -> Dream:
    """Dream of a picture and write it; `on_step` sees the frame, from 0, and each step.

    Raises UsageError for an option that cannot be meant, InputError for an unusable picture or guide, OutputError if
    an output exists or cannot be written, UnavailableError for weights that are not here, Interrupted by a signal,
    after the dream so far was written.
    """
    _check_outputs(config)
    picture = read_picture(config.image, max_size=config.max_size)
    device = torch_device(config.device)
    objective = _open_objective(config, device)
    octave_sizes(*picture.size, config, objective.smallest)
    random = torch.Generator().manual_seed(config.seed)
    photo = torch.from_numpy(to_array(picture.rgb)).to(device)
    frames: list[Picture] = []
    octaves: list[Octave] = []
    tone = torch.std_mean(photo, (2, 3), keepdim=True)
    with caught_signals() as received:
        for index, steps in enumerate(planned_steps(config)):
            for octave, group in groupby(deep_dream(objective, photo, config, random, steps), lambda step: step.octave):
                losses = []
                for step in group:
                    losses.append(step.loss)
                    if on_step is not None:
                        on_step(index, step)
                    if received:
                        break
                octaves.append(Octave(_size(step.picture), step.step, losses[0], losses[-1]))
                if config.save_octaves is not None and index == 0:
                    write_picture(_picture(step.picture), _octave_path(config.save_octaves, octave))
                if received:
                    break
            shown = enlarge(step.picture, photo, photo)
            if config.zoom:
                shown = toned(shown, *tone)
            frames.append(_picture(shown))
            if received:
                break
            photo = zoom_in(shown, config.zoom_scale)
    if config.zoom:
        write_animation(config.output, [frame.rgb for frame in frames], RATE)
    else:
        write_picture(replace(frames[0], alpha=picture.alpha), config.output, config.quality)
    if received:
        raise Interrupted(
            f"stopped by {Signals(received[0]).name}; {printable(config.output)} holds what was dreamed so far",
            received[0],
        )
    return Dream(config.output, octaves)


def _check_outputs(config: DreamConfig) -> None:
    if config.zoom:
        check_animation(config.output)
    else:
        output_format(config.output)
    paths = [config.output] if str(config.output) != "-" else []
    if config.save_octaves is not None:
        paths += [_octave_path(config.save_octaves, octave) for octave in range(1, config.octaves + 1)]
    for path in paths:
        check_output(path, overwrite=config.overwrite)


def _octave_path(folder: Path, octave: int) -> Path:
    return folder / f"octave-{octave}.png"


def _open_objective(config: DreamConfig, device: torch.device) -> Objective:
    weights = config.weights or DEFAULT_WEIGHTS.get(config.network, VGG_WEIGHTS)
    features = open_features(config.network, list(weights))
    features.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    guide = None
    if config.guide is not None:
        guide = torch.from_numpy(to_array(read_picture(config.guide, max_size=GUIDE_SIZE).rgb)).to(device)
    return Objective(features, weights, guide, pick_precision(config.precision, device))


def _picture(image: Tensor) -> Picture:
    return Picture(to_pixels(image.cpu().numpy()))
