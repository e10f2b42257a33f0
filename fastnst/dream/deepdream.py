"""DeepDream: a picture changed until a network sees more of what it sees in it already (Mordvintsev et al. 2015)."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.config import DreamConfig
from fastnst.device import torch_device
from fastnst.dream.gradient import MARGIN, cuts, smooth, tiled_gradient, tiles
from fastnst.dream.objective import Objective, open_objective
from fastnst.errors import InputError, Interrupted
from fastnst.files import check_output, printable
from fastnst.image import Picture, output_format, read_picture, to_array, to_pixels, write_picture
from fastnst.interrupt import caught_signals, reason_name, until_signal
from fastnst.video.write import check_animation, write_animation

log = logging.getLogger(__name__)

RATE = 12  # frames of a zoom a second


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
    """The middle of a picture (1, 3, H, W), enlarged by a factor to the picture's size."""
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

    Raises UsageError for an invalid option, InputError for an unusable picture or guide, OutputError if an output
    exists or cannot be written, UnavailableError for weights that are not here, Interrupted by a signal, after the
    dream so far was written.
    """
    _check_outputs(config)
    picture = read_picture(config.image, max_size=config.max_size)
    device = torch_device(config.device)
    objective = open_objective(config, device)
    octave_sizes(*picture.size, config, objective.smallest)
    random = torch.Generator().manual_seed(config.seed)
    photo = torch.from_numpy(to_array(picture.rgb)).to(device)
    tone = torch.std_mean(photo, (2, 3), keepdim=True)
    frames: list[Picture] = []
    octaves: list[Octave] = []
    with caught_signals() as received:
        for index, count in enumerate(planned_steps(config)):
            steps = until_signal(deep_dream(objective, photo, config, random, count), received)
            callback = None if on_step is None else partial(on_step, index)
            dreamed, of_frame = _follow(steps, callback, None if index else config.save_octaves)
            octaves += of_frame
            frame = enlarge(dreamed, photo, photo)
            if config.zoom:
                frame = toned(frame, *tone)
            frames.append(_picture(frame))
            if received:
                break
            photo = zoom_in(frame, config.zoom_scale)
    _write(frames, picture, config)
    if received:
        raise Interrupted(
            f"stopped by {reason_name(received[0])}; {printable(config.output)} holds what was dreamed so far",
            received[0],
        )
    return Dream(config.output, octaves)


def _follow(
    steps: Iterable[Step], on_step: Callable[[Step], None] | None, folder: Path | None
) -> tuple[Tensor, list[Octave]]:
    """Take a frame's steps: the dream after the last of them, and how each octave went, in the folder as pictures."""
    octaves: list[Octave] = []
    for number, of_octave in groupby(steps, lambda step: step.octave):
        losses = []
        for step in of_octave:
            losses.append(step.loss)
            if on_step is not None:
                on_step(step)
        octaves.append(Octave(_size(step.picture), step.step, losses[0], losses[-1]))
        if folder is not None:
            write_picture(_picture(step.picture), _octave_path(folder, number))
    return step.picture, octaves


def _write(frames: Sequence[Picture], photo: Picture, config: DreamConfig) -> None:
    if config.zoom:
        write_animation(config.output, [frame.rgb for frame in frames], RATE)
    else:
        write_picture(replace(frames[0], alpha=photo.alpha), config.output, config.quality)


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


def _picture(image: Tensor) -> Picture:
    return Picture(to_pixels(image.cpu().numpy()))
