"""Under which loss styles are scored, and what comes of it: numbers of each photo, their means and medians."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from fastnst.checkpoint import CheckpointMeta
from fastnst.config import DEFAULT_STYLE_LAYERS, EvaluateOptions, TrainConfig, check_range
from fastnst.errors import ModelError, UsageError
from fastnst.files import printable
from fastnst.losses import LossForm, LossWeights
from fastnst.vgg import Pooling

NUMBERS = ("content", "style", "tv", "total", "ssim", "grid")


@dataclass(frozen=True)
class LossSettings:
    """All that decides the value of a perceptual loss but the pictures; the names are those of TrainConfig."""

    loss: LossForm
    weights: LossWeights
    style_size: int
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    vgg: str
    pooling: Pooling

    @classmethod
    def of(cls, meta: CheckpointMeta, source: object = "the style") -> "LossSettings":
        """Those a style was trained with; ModelError if it does not say."""
        if meta.origin:
            raise ModelError(
                f"{printable(source)} was imported and does not say with which loss it was trained; say "
                "with which to score "
                "it and against what, for example: --loss relative --style-image FILE"
            )
        try:
            train = meta.train
            settings = cls(
                loss=train["loss"],
                weights=LossWeights(**{name: float(value) for name, value in meta.weights.items()}),
                style_size=int(train["style_size"]),
                content_layers=tuple(map(str, train["content_layers"])),
                style_layers=tuple(map(str, train["style_layers"])),
                vgg=str(train["vgg"]),
                pooling=train["pooling"],
            )
            if settings.loss not in get_args(LossForm) or settings.pooling not in get_args(Pooling):
                raise ValueError("neither form nor pooling of this fastnst")
            check_range("style_size", settings.style_size, 32, 8192)
        except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
            raise ModelError(
                f"{printable(source)} does not say with which loss it was trained; give one that fastnst trained"
            ) from error
        return settings

    @classmethod
    def default(cls, form: LossForm) -> "LossSettings":
        """Those that training has when told nothing but the form."""
        names = ("style_size", "content_layers", "vgg", "pooling")
        others = {name: getattr(TrainConfig, name) for name in names}
        return cls(form, LossWeights.resolve(form), style_layers=DEFAULT_STYLE_LAYERS[form], **others)

    def replaced(self, options: EvaluateOptions) -> "LossSettings":
        """With what the options say instead; another form of weighing comes with its own weights, of layers too."""
        form = options.loss or self.loss
        same = form == self.loss
        weights = self.weights if same else LossWeights.resolve(form)
        layers = self.style_layers if same else DEFAULT_STYLE_LAYERS[form]
        given = {name: getattr(options, f"{name}_weight") for name in ("content", "style", "tv")}
        others = {name: getattr(options, name) for name in ("style_size", "content_layers", "style_layers")}
        others |= {"vgg": options.vgg, "pooling": options.pooling}
        weights = replace(weights, **_given(given))
        return replace(self, loss=form, weights=weights, **{"style_layers": layers, **_given(others)})


@dataclass(frozen=True)
class Equivalent:
    """How many L-BFGS iterations it took to reach a loss, None if too few were allowed; with their evaluations."""

    iterations: float | None
    evaluations: float


@dataclass(frozen=True)
class Optimum:
    """Total losses of a photo as it is, and of the best picture of it that L-BFGS finds."""

    photo: float
    best: float
    iterations: int

    def closed(self, total: float) -> float:
        """The share of the way from the photo to the best that a picture with this total loss has gone, per cent."""
        return 100 * (self.photo - total) / max(self.photo - self.best, 1e-9)


@dataclass(frozen=True)
class Temporal:
    """How far neighboring frames of a pan over a photo differ where they show the same, gray levels of 255, root mean
    square: those of the clip, which differ by its noise, and the stylized ones."""

    clip: float
    painted: float

    @property
    def ratio(self) -> float:
        return self.painted / max(self.clip, 1e-9)


@dataclass(frozen=True)
class PhotoScore:
    """What a style makes of one photo: weighted losses, SSIM with the photo, 4-pixel grid (1 is none), distance of its
    colors from the style image's."""

    photo: str
    content: float
    style: float
    tv: float
    total: float
    ssim: float
    grid: float
    from_noise: Equivalent | None = None
    from_content: Equivalent | None = None
    temporal: Temporal | None = None
    colors: float | None = None
    optimum: Optimum | None = None

    @property
    def numbers(self) -> dict[str, float]:
        numbers = {name: getattr(self, name) for name in NUMBERS}
        if self.colors is not None:
            numbers["colors"] = self.colors
        if self.optimum is not None:
            numbers |= {"optimum": self.optimum.best, "closed": self.optimum.closed(self.total)}
        if self.temporal is not None:
            numbers |= {"temporal": self.temporal.ratio, "flicker": self.temporal.painted}
        return numbers


@dataclass(frozen=True)
class Evaluation:
    """One style's scores on some photos, under one loss; iterations are the most that L-BFGS was allowed, if it ran."""

    style: str
    preset: str
    painting: str  # name of the style image; a word of the JSON
    settings: LossSettings
    size: int
    iterations: int | None
    photos: list[PhotoScore]

    @property
    def mean(self) -> dict[str, float]:
        return mean(self.photos)

    def median(self, start: str) -> Equivalent | None:
        """Over the photos, where one that was not reached counts as infinity; `start` is from_noise or from_content."""
        reached: list[Equivalent] = [one for score in self.photos if (one := getattr(score, start)) is not None]
        if not reached:
            return None
        iterations = statistics.median(math.inf if one.iterations is None else one.iterations for one in reached)
        evaluations = statistics.median(one.evaluations for one in reached)
        return Equivalent(None if iterations == math.inf else iterations, evaluations)

    def to_json(self) -> dict[str, Any]:
        starts = ("from_noise", "from_content")
        medians = {start: asdict(m) if (m := self.median(start)) else None for start in starts}
        return {**asdict(self), "mean": self.mean, "median": medians}


def mean(scores: Sequence[PhotoScore]) -> dict[str, float]:
    """Each number's mean over the photos, by name."""
    return {name: statistics.fmean(score.numbers[name] for score in scores) for name in scores[0].numbers}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
