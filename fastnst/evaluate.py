"""How good a style is, in numbers: its losses, what it keeps of a photo, and how long L-BFGS takes to do as well."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fastnst import losses
from fastnst.config import EvaluateOptions, layer_weights
from fastnst.data import NOT_A_PICTURE, Photographs
from fastnst.device import autocast, pick_precision, torch_device
from fastnst.engine import Engine, open_engine
from fastnst.errors import FastnstError, InputError
from fastnst.files import printable
from fastnst.image import SUFFIXES, Array, Picture, read_picture, read_style, resize, to_array
from fastnst.losses import PerceptualLoss
from fastnst.metrics import Pan, color_distance, grid, ssim
from fastnst.nets.torch_net import TransformerNet
from fastnst.optimize.descent import descend_lbfgs
from fastnst.optimum import find_optimum
from fastnst.scores import NUMBERS, Equivalent, Evaluation, LossSettings, PhotoScore, Temporal
from fastnst.video.frames import Frame
from fastnst.video.read import open_clip


def evaluate(
    styles: Sequence[str | Path],
    photos: Mapping[str, Array],
    options: EvaluateOptions,
    on_picture: Callable[[str], None] = lambda _: None,
) -> list[Evaluation]:
    """Score styles on named photos (see measure); `on_picture` hears of each stylized photo and each L-BFGS descent.

    Raises UsageError for an unknown style, ModelError for one that does not say how it was trained, InputError for an
    unusable style image.
    """
    subjects = [_subject(style, options) for style in styles]  # what is wrong with one is said before any work
    return [_evaluate(subject, photos, options, on_picture) for subject in subjects]


def measure(
    style: Engine | TransformerNet, loss: PerceptualLoss, photos: Mapping[str, Array], style_image: Array | None = None
) -> list[PhotoScore]:
    """Stylize named photos, float32 (1, 3, H, W) 0..1, of at least 32x32, and score the results, clipped to 0..1.

    With the style image, (1, 3, H, W) 0..1, its colors are compared, too.

    Raises FastnstError if the style gives values that are not finite.
    """
    device = loss.style_roughness.device
    scores = []
    for name, pixels in photos.items():
        content = torch.from_numpy(pixels).to(device)
        with torch.no_grad():
            if isinstance(style, TransformerNet):
                stylized = style(content.to(next(style.parameters()).device)).clamp(0, 1).to(device)
            else:
                stylized = torch.from_numpy(style(pixels)).clamp(0, 1).to(device)
            terms = loss(stylized, content)
            numbers = [*terms, terms.total, ssim(stylized, content), grid(stylized)]
            values = [float(value) for value in numbers]
        if not all(map(math.isfinite, values)):
            raise FastnstError(
                f"the style paints values of {printable(name)} that are not numbers; train or export it again"
            )
        colors = None if style_image is None else color_distance(stylized, torch.from_numpy(style_image))
        scores.append(PhotoScore(name, **dict(zip(NUMBERS, values, strict=True)), colors=colors))  # type: ignore[arg-type]
    return scores


def measure_temporal(style: Engine, photos: Mapping[str, Array], seed: int = 0) -> list[Temporal]:
    """The flicker of stylized pans over photos, float32 (1, 3, H, W) 0..1, of at least 32x32; see metrics.Pan."""

    def stylize(frame: Tensor) -> Tensor:
        return torch.from_numpy(style(frame.contiguous().numpy())).clamp(0, 1)

    measured = []
    for number, pixels in enumerate(photos.values()):
        pan = Pan.over(torch.from_numpy(pixels), seed + number)
        stylized = torch.cat([stylize(frame[None]) for frame in pan.frames])
        measured.append(Temporal(pan.flicker(pan.frames), pan.flicker(stylized)))
    return measured


def equivalent(
    loss: PerceptualLoss,
    content: Tensor,
    start: Tensor,
    target: float,
    iterations: int,
    dtype: torch.dtype = torch.float32,
) -> Equivalent:
    """Descend from a start until the total loss is at most the target; `dtype` is that of the convolutions.

    Source: Johnson et al. 2016, figure 5.
    """
    device = loss.style_roughness.device
    # bfloat16 convolutions are fast with channels last.
    content = content.to(device, memory_format=torch.channels_last)

    with autocast(device, dtype):
        targets = loss.targets(content)

    def total(picture: Tensor) -> Tensor:
        with autocast(device, dtype):
            return loss(picture, targets).total  # type: ignore[no-any-return]

    evaluations = 0
    for iterate in descend_lbfgs(total, start.to(content), iterations):
        evaluations = iterate.evaluations
        if iterate.loss <= target:
            return Equivalent(iterate.iteration, evaluations)
    return Equivalent(None, evaluations)


def open_loss(settings: LossSettings, style_image: Path, device: torch.device) -> PerceptualLoss:
    """The loss of a style for its style image, scaled as in training.

    Raises InputError for an unusable style image, UsageError for unknown layers, ModelError for unusable VGG weights.
    """
    return losses.open_loss(
        [read_style(style_image, settings.style_size)],
        settings.weights,
        device,
        settings.loss,
        layer_weights(settings.content_layers),
        layer_weights(settings.style_layers),
        vgg=settings.vgg,
        pooling=settings.pooling,
        files=[style_image],
    )


def read_photo(path: Path, size: int) -> Array:
    """A picture scaled so that its shorter side has `size` pixels, and its middle: float32 (1, 3, size, size) 0..1."""
    return middle(read_picture(path, short_side=size), size)


def middle(picture: Picture, size: int) -> Array:
    """The middle of a picture, scaled so that its shorter side has `size` pixels: float32 (1, 3, size, size) 0..1."""
    scale = size / min(picture.size)
    picture = resize(picture, *(max(size, round(side * scale)) for side in picture.size))
    top, left = ((side - size) // 2 for side in picture.size)
    return to_array(picture.rgb[top : top + size, left : left + size])


def read_photos(folder: Path, size: int, count: int) -> tuple[dict[str, Array], dict[Path, str]]:
    """The first usable pictures of a folder by name, and why others, up to there, are not; InputError without any.

    Of a file, a clip or a picture, `count` frames at even distances.
    """
    if folder.is_file():
        return _frames(folder, size, count), {}
    photographs = Photographs(folder, size, seed=0)
    failed = {
        path: f"{printable(path)} is not a picture" if reason == NOT_A_PICTURE else reason
        for path, reason in photographs.unusable.items()
        if reason != NOT_A_PICTURE or path.suffix.lower() in SUFFIXES  # a text beside the photos is no failure
    }
    photos: dict[str, Array] = {}
    for path in photographs.files:
        if len(photos) == count:
            break
        try:
            photos[photographs.name(path)] = read_photo(path, size)
        except FastnstError as error:
            failed[path] = str(error)
    if not photos:
        raise InputError(f"every picture in {printable(folder)} turned out damaged; give usable photographs")
    return photos, failed


def _frames(path: Path, size: int, count: int) -> dict[str, Array]:
    with open_clip(path) as reader:
        chosen = {(2 * index + 1) * reader.frames // (2 * count) for index in range(count)}
        shown = (item for item in reader if isinstance(item, Frame))
        frames = {
            f"{path.name} at {float(frame.start):.2f} s": middle(frame.picture, size)
            for number, frame in zip(range(max(chosen) + 1), shown, strict=False)
            if number in chosen
        }
    if not frames:
        raise InputError(f"{printable(path)} has fewer frames than it says; give a clip that is not cut off")
    return frames


@dataclass(frozen=True)
class _Subject:
    """A style that is ready to be evaluated."""

    name: str
    preset: str
    engine: Engine
    style_image: Path
    settings: LossSettings


def _subject(style: str | Path, options: EvaluateOptions) -> _Subject:
    path = Path(style)
    engine = open_engine(style, "onnx" if path.suffix == ".onnx" else "torch", options.device)
    meta = engine.meta
    if meta.origin and options.loss and not options.style_image.is_dir():
        settings = LossSettings.default(options.loss)
    else:
        settings = LossSettings.of(meta, style)
    settings = settings.replaced(options)
    image = options.style_image
    if image.is_dir():
        image = image / Path(str(meta.train.get("style"))).name
    if not image.exists():
        raise InputError(
            f"the style image {printable(image)} of {printable(style)} is not there; name it with --style-image"
        )
    return _Subject(str(style), meta.preset, engine, image, settings)


def _evaluate(
    subject: _Subject, photos: Mapping[str, Array], options: EvaluateOptions, on_picture: Callable[[str], None]
) -> Evaluation:
    device = torch_device(options.device)
    dtype = pick_precision(options.precision, device)
    loss = open_loss(subject.settings, subject.style_image, device)
    style_image = to_array(read_style(subject.style_image, subject.settings.style_size).rgb)
    scores: list[PhotoScore] = []
    for photo, pixels in photos.items():
        (score,) = measure(subject.engine, loss, {photo: pixels}, style_image)
        on_picture(f"{printable(subject.name)}, {printable(photo)}")
        if options.optimum:
            score = replace(score, optimum=find_optimum(loss, subject.settings, style_image, pixels, dtype))
            on_picture(f"{printable(subject.name)}, {printable(photo)}, optimum")
        if options.lbfgs:
            content = torch.from_numpy(pixels)
            noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(options.seed))
            reached = {}
            for name, start in (("from_noise", noise), ("from_content", content)):
                reached[name] = equivalent(loss, content, start, score.total, options.iterations, dtype)
                on_picture(f"{printable(subject.name)}, {printable(photo)}, L-BFGS {name.replace('_', ' ')}")
            score = replace(score, **reached)  # type: ignore[arg-type]
        if options.temporal:
            (temporal,) = measure_temporal(subject.engine, {photo: pixels}, options.seed + len(scores))
            score = replace(score, temporal=temporal)
        scores.append(score)
    return Evaluation(
        style=subject.name,
        preset=subject.preset,
        painting=subject.style_image.name,
        settings=subject.settings,
        size=options.size,
        iterations=options.iterations if options.lbfgs else None,
        photos=scores,
    )
