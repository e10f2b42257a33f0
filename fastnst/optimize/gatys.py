"""Style transfer by optimization: the pixels of the result are the parameters (Gatys et al. 2015)."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fastnst.compose import keep_histogram_colors, keep_luma_colors, read_mask, within_mask
from fastnst.config import OPTIMIZED_STYLE, DescentOptions, OptimizeConfig, layer_weights
from fastnst.device import autocast, pick_precision, torch_device
from fastnst.errors import DivergedError, InputError, Interrupted, UsageError
from fastnst.files import check_output, printable
from fastnst.image import (
    Picture,
    Pixels,
    output_format,
    read_picture,
    read_style,
    resize,
    shrink,
    to_array,
    to_pixels,
    write_picture,
)
from fastnst.interrupt import caught_signals
from fastnst.logs import PictureLogs
from fastnst.losses import LossValues, LossWeights, PerceptualLoss, open_features, open_loss
from fastnst.optimize.descent import AdamState, descend_adam, descend_lbfgs
from fastnst.video.write import check_animation, write_animation

FRAMES = 60  # of an animation, about
RATE = 12  # of them a second
HOLD = 1.5  # seconds that the last one stays


@dataclass(frozen=True)
class OptimizeReport:
    """Where a descent is: iterations over all scales, the longer side, loss evaluations at it, weighted losses."""

    step: int
    scale: int
    evaluations: int
    content: float
    style: float
    tv: float
    total: float


class Step(NamedTuple):
    """A report, and the picture (1, 3, H, W) 0..1 it is about."""

    report: OptimizeReport
    picture: Tensor


OnStep = Callable[[OptimizeReport], None]


def optimize(config: OptimizeConfig, on_step: OnStep | None = None) -> Path:
    """Stylize the content by optimization, write the result and return its path; `on_step` sees each iteration.

    From coarse to fine: each scale starts from the result of the one before; Adam keeps its moments.

    Source: Gatys et al. 2015. Differs: pixels are clipped to 0..1, and see the options for losses and layers.

    Raises InputError for unusable pictures, UsageError for unknown layers or weights that are all zero, OutputError for
    an output that exists; and as `follow` does.
    """
    if config.content is None:
        raise UsageError("a folder of pairs is painted one by one; see pairs")
    check_outputs(config.output, config)
    original = read_picture(config.content)
    content = shrink(original, config.size, printable(config.content))
    mask = None
    if config.mask is not None:
        mask = read_mask(config, content.size)

    def finish(stylized: Pixels) -> Picture:
        return _compose(config, resize(content, *stylized.shape[:2]), stylized, mask)

    return follow(descend(config, content), finish, config, config.output, config.log_folder, on_step)


def pairs(config: OptimizeConfig) -> list[OptimizeConfig]:
    """One config for each content_* and each style_* picture in the folder `pairs`: OUTPUT/CONTENT--STYLE.png.

    Raises InputError if there is no content or no style.
    """
    folder = config.pairs or Path()
    if not folder.is_dir():
        raise InputError(f"{printable(folder)} is not a folder; give one with content_* and style_* pictures")
    contents, styles = (sorted(folder.glob(f"{kind}_*")) for kind in ("content", "style"))
    if not contents or not styles:
        raise InputError(
            f"{printable(folder)} has {len(contents)} pictures named content_* and {len(styles)} named style_*; "
            "at least one of each is needed"
        )
    return [
        replace(
            config,
            pairs=None,
            content=content,
            style=(style,),
            output=config.output / f"{content.stem[8:]}--{style.stem[6:]}.png",
            logdir=None if config.logdir is None else config.logdir / f"{content.stem[8:]}--{style.stem[6:]}",
        )
        for content in contents
        for style in styles
    ]


def check_outputs(output: Path, options: DescentOptions) -> None:
    """UsageError or OutputError, before any work, for what cannot be written."""
    output_format(output)
    check_output(output, overwrite=options.overwrite)
    if options.animation is not None:
        check_animation(options.animation)
        if options.animation == output:
            raise UsageError(f"--animation and --output are both {printable(output)}; give two names")
        check_output(options.animation, overwrite=options.overwrite)


def follow(
    steps: Iterator[Step],
    finish: Callable[[Pixels], Picture],
    options: DescentOptions,
    output: Path,
    logdir: Path | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Go to the end of a descent, leave logs, pictures and an animation of it, and write where it ended.

    Raises Interrupted after a signal and DivergedError at a loss that is not finite: both after writing the last good
    picture.
    """
    animation = _Animation(options)
    picture, problem = None, None
    with closing(PictureLogs(logdir)) as logs, caught_signals() as received:
        for report, pixels in steps:
            if not math.isfinite(report.total):
                problem = DivergedError(
                    f"the loss is not finite at iteration {report.step}; the last good picture is in "
                    f"{printable(output)}; use --precision fp32, or --optimizer adam with a lower --learning-rate"
                )
                picture = pixels if picture is None else picture  # the start, of which only the loss is no good
                break
            picture = pixels
            logs.write(report.step, {name: value for name, value in asdict(report).items() if name != "step"})
            if report.step and options.save_every and report.step % options.save_every == 0:
                logs.picture(report.step, finish(as_pixels(pixels)), output.suffix)
            if animation.shows(report.step):
                animation.frames.append(finish(as_pixels(pixels)).rgb)
            if on_step is not None:
                on_step(report)
            if received:
                break
        assert picture is not None  # the start comes first
        result = finish(as_pixels(picture))
        write_picture(result, output)
        animation.write(result, report.step)
        if problem is not None:
            raise problem
        if received:
            raise Interrupted(
                f"stopped after iteration {report.step}; what was done is in {printable(output)}", received[0]
            )
    return output


class _Animation:
    """The frames of a descent, if an animation was asked for."""

    def __init__(self, options: DescentOptions) -> None:
        self.path = options.animation
        self.every = options.save_every or max(1, options.iterations // FRAMES)
        self.frames: list[Pixels] = []

    def shows(self, step: int) -> bool:
        return self.path is not None and step % self.every == 0

    def write(self, result: Picture, step: int) -> None:
        """All frames in the result's size, which differs from those of coarser scales, and the result, if it is new."""
        if self.path is None:
            return
        height, width = result.size
        frames = [resize(Picture(frame), height, width).rgb for frame in self.frames]
        if step % self.every:
            frames.append(result.rgb)
        write_animation(self.path, frames, RATE, HOLD)


def last_of(steps: Iterator[Step], on_step: OnStep | None, received: Sequence[int]) -> Picture:
    """Where a descent ends, or is when a signal is received; raises DivergedError for a loss that is not finite."""
    pixels = None
    for report, pixels in steps:  # noqa: B007
        if not math.isfinite(report.total):
            raise DivergedError(f"the loss is not finite at iteration {report.step}; use --precision fp32")
        if on_step is not None:
            on_step(report)
        if received:
            break
    assert pixels is not None  # the start comes first
    return Picture(as_pixels(pixels))


def minimize(
    loss: PerceptualLoss,
    content: Tensor,
    start: Tensor,
    options: DescentOptions,
    state: list[AdamState] | None = None,
) -> Iterator[Step]:
    """Descend a loss at one scale; content and start are (1, 3, H, W) 0..1."""
    device = loss.style_roughness.device
    precision = autocast(device, pick_precision(options.precision, device))
    with precision:
        targets = loss.targets(content.to(device, memory_format=torch.channels_last))
    recent: deque[LossValues] = deque(maxlen=64)  # more than one line search

    def total(picture: Tensor) -> Tensor:
        with precision:
            terms = loss(picture.contiguous(memory_format=torch.channels_last), targets)
        recent.append(LossValues(*torch.stack([*terms, terms.total]).tolist()))
        return terms.total  # type: ignore[no-any-return]

    start = start.to(device)
    if options.optimizer == "adam":
        iterates = descend_adam(total, start, options.iterations, options.learning_rate, state)
    else:
        iterates = descend_lbfgs(total, start, options.iterations)
    unknown = LossValues(math.nan, math.nan, math.nan, math.nan)
    for step, evaluations, reached, picture in iterates:
        values = next((values for values in reversed(recent) if values.total == reached), unknown)
        scale = max(picture.shape[-2:])
        yield Step(
            OptimizeReport(step, scale, evaluations, values.content, values.style, values.tv, total=reached), picture
        )


def weights_of(config: OptimizeConfig) -> LossWeights:
    """The weights of the three terms; UsageError if all are zero."""
    content, style = config.content_weight, config.style_weight
    if config.ratio is not None:
        content, style = (1.0, 1 / config.ratio) if config.ratio else (0.0, None)  # a ratio of zero is a texture
    if style is None and config.loss == "relative":
        style = OPTIMIZED_STYLE
    weights = LossWeights.resolve(config.loss, content, style, config.tv_weight)
    if not (weights.content or weights.style):
        raise UsageError("content and style both have the weight zero, so nothing is to be painted; raise one")
    return weights


def noise(size: tuple[int, int], seed: int) -> Tensor:
    """Uniform noise (1, 3, H, W) 0..1."""
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def descend(config: OptimizeConfig, content: Picture) -> Iterator[Step]:
    """The descent over all scales; `content` has the size of the result."""
    device = torch_device(config.device)
    weights = weights_of(config)
    content_layers = layer_weights(config.content_layers) if weights.content else {}
    style_layers = layer_weights(config.style_layers) if weights.style else {}
    features = open_features([*content_layers, *style_layers], device, config.vgg, config.pooling)
    longest = max(content.size)
    style_size = config.style_size or longest
    pixels, state, done = None, list[AdamState](), 0
    for side in sorted({min(side, longest) for side in config.sides}):
        small = shrink(content, side)
        styles = [read_style(path, max(1, style_size * side // longest)) for path in config.style]
        loss = open_loss(
            styles,
            weights,
            device,
            config.loss,
            content_layers,
            style_layers,
            vgg=features,
            blend=config.blend or None,
            tv_form=config.tv_form,
            files=config.style,
        )
        pixels = _start(config, small, styles[0]) if pixels is None else _resized(pixels, small.size)
        state[:] = [moments.resized(*small.size) for moments in state]
        for report, pixels in minimize(loss, as_tensor(small), pixels, config, state):  # noqa: B020
            if report.step or not done:
                yield Step(replace(report, step=done + report.step), pixels)
        done += report.step


def _start(config: OptimizeConfig, content: Picture, style: Picture) -> Tensor:
    if config.start == "content":
        return as_tensor(content)
    if config.start == "noise":
        return noise(content.size, config.seed)
    if config.start == "white":
        return torch.ones(1, 3, *content.size)
    if config.start != "style" and not os.path.lexists(config.start):
        raise UsageError(f"--start is {printable(config.start)} but must be content, noise, white, style or a picture")
    return as_tensor(resize(style if config.start == "style" else read_picture(Path(config.start)), *content.size))


def _compose(config: OptimizeConfig, content: Picture, stylized: Pixels, mask: Pixels | None) -> Picture:
    if config.preserve_color == "luma":
        stylized = keep_luma_colors(content.rgb, stylized)
    elif config.preserve_color == "histogram":
        stylized = keep_histogram_colors(content.rgb, stylized)
    picture = Picture(stylized, content.alpha)
    if mask is None:
        return picture
    height, width = picture.size
    mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
    return within_mask(picture, content.rgb if config.background == "photo" else config.background, mask)


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)


def as_tensor(picture: Picture) -> Tensor:
    """As float32 (1, 3, H, W) 0..1."""
    return torch.from_numpy(to_array(picture.rgb))


def as_pixels(picture: Tensor) -> Pixels:
    """(1, 3, H, W) 0..1 as uint8 (H, W, 3)."""
    return to_pixels(picture.cpu().numpy())
