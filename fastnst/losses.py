"""Perceptual loss = content + style + total variation (Johnson et al. 2016), in three forms of weighing."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.config import CONTENT_LAYERS, DEFAULT_STYLE_LAYERS, TVForm, layer_weights
from fastnst.config import DEFAULT_WEIGHTS as DEFAULT_WEIGHTS
from fastnst.config import LossForm as LossForm
from fastnst.config import LossWeights as LossWeights
from fastnst.errors import InputError, UsageError
from fastnst.files import printable
from fastnst.image import Picture, to_array
from fastnst.values import check_choice
from fastnst.vgg import Padding, Pooling, VGGFeatures

_NOTHING: Mapping[str, Tensor] = MappingProxyType({})

Layers = Sequence[str] | Mapping[str, float]  # names, or names with the weight of each


GRID_WEIGHT = 10.0  # by eye, on one style: ten times more cost style and was no better
GRID_WINDOW = 32  # pixels


class LossTerms(NamedTuple):
    """The weighted terms of one batch, scalars to differentiate."""

    content: Tensor
    style: Tensor
    tv: Tensor

    @property
    def total(self) -> Tensor:
        return self.content + self.style + self.tv


class Objective(NamedTuple):
    """What training makes smaller in place of the total, and what it is made of."""

    value: Tensor  # scalar, to differentiate
    terms: LossTerms
    grams: dict[str, Tensor]  # of each style layer, mean over the batch, (1, C, C), without gradient


class LossValues(NamedTuple):
    """The weighted terms of a step and their total as numbers, ready to log by field name."""

    content: float
    style: float
    tv: float
    total: float
    temporal: float | None = None  # the penalty for flicker, beside the total, where it is asked for


def at_least_float32(values: Tensor) -> Tensor:
    """Losses are summed over many elements, for which half precision is too coarse."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _Gram(torch.autograd.Function):
    """The product in float32; its gradient in the features' own precision, which is what it is rounded to anyway."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        # Under channels_last the flattened view needs no copy.
        flat = at_least_float32(features.flatten(2))  # (N, C, H*W)
        return torch.bmm(flat, flat.mT) / features[0].numel()  # (N, C, C)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        features: Tensor = ctx.saved_tensors[0]
        symmetric = (gradient + gradient.mT) / features[0].numel()
        # float16 has too few exponents for a gradient divided by C*H*W; bfloat16 has as many as float32.
        working = symmetric.dtype if features.dtype == torch.float16 else features.dtype
        # This way round, the gradient of channels_last features is channels_last too.
        product = features.flatten(2).mT.to(working) @ symmetric.to(working)  # (N, H*W, C)
        return product.to(features.dtype).mT.view_as(features)


def gram_matrix(features: Tensor) -> Tensor:
    """Channel correlations of feature maps: (N, C, H, W) -> (N, C, C), float32 (float64 stays).

    Source: Johnson et al. 2016, eq. 3 (divided by C*H*W, so that layers of any size weigh alike).
    Always float32: the sum over H*W overflows float16 on ordinary images, and autocast would round it to bfloat16.
    """
    with torch.autocast(features.device.type, enabled=False):
        return cast(Tensor, _Gram.apply(features))


def total_variation(images: Tensor) -> Tensor:
    """Half the sum of squared differences of neighbors, mean over the batch: (N, 3, H, W) -> scalar.

    Source: the released code of Johnson et al. 2016; Mahendran and Vedaldi 2015 with beta 2.
    Unit: that of the images, squared.
    """
    rows = (images[..., 1:, :] - images[..., :-1, :]).square().sum()
    columns = (images[..., :, 1:] - images[..., :, :-1]).square().sum()
    return (rows + columns) / (2 * len(images))


def total_variation_power(images: Tensor) -> Tensor:
    """The sum of (dx^2 + dy^2)^1.25 over the pixels, mean over the batch: (N, 3, H, W) -> scalar.

    Source: Mahendran and Vedaldi 2015 with beta 2.5. Spares soft slopes, punishes edges and speckles.
    """
    return _steepness(images).sum() / len(images)


def roughness(images: Tensor, form: TVForm = "squared") -> Tensor:
    """Mean squared difference of neighbors, or mean of total_variation_power, independent of the size: scalar."""
    check_choice("form", form, get_args(TVForm))
    if form == "power":
        return _steepness(images).mean()
    rows = (images[..., 1:, :] - images[..., :-1, :]).square().mean()
    columns = (images[..., :, 1:] - images[..., :, :-1]).square().mean()
    return rows + columns


def _steepness(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 3, H - 1, W - 1)."""
    corner = images[..., :-1, :-1]
    return ((images[..., 1:, :-1] - corner).square() + (images[..., :-1, 1:] - corner).square()).pow(1.25)


def grid_energy(images: Tensor) -> Tensor:
    """Mean squared amplitude of waves of 4 pixels that keep their phase over 32: (N, 3, H, W) from 32x32 -> scalar.

    In rows, columns and both diagonals. Brush strokes of that size have some of it, a grid has all of it.
    """
    pixels = images.flatten(0, 1)[:, None]  # (3N, 1, H, W)
    return F.conv2d(pixels, _waves().to(pixels), stride=GRID_WINDOW // 2).square().sum(1).mean()


@lru_cache
def _waves() -> Tensor:
    """(8, 1, 32, 32): under a Hann window, the cosine and the sine of each direction."""
    window = torch.hann_window(GRID_WINDOW, dtype=torch.float64)
    window = window / window.sum()
    angle = torch.arange(GRID_WINDOW, dtype=torch.float64) * (math.pi / 2)
    phases = [row * angle[:, None] + column * angle for row, column in ((0, 1), (1, 0), (1, 1), (1, -1))]
    waves = [2 * torch.outer(window, window) * f(phase) for phase in phases for f in (torch.cos, torch.sin)]
    return torch.stack(waves)[:, None]


class PerceptualLoss(nn.Module):
    """(stylized, content), both (N, 3, H, W) RGB 0..1 -> LossTerms, for one style image (1, 3, H, W) or several.

    `paper`: squared differences of features and of Gram matrices, mean over their elements, and the summed total
    variation of the 0..255 image: the absolute weights of Johnson's released code.
    `gatys`: Gatys et al. 2015, equations 1 and 4: half the sum of squared differences of features; of Gram matrices a
    quarter of it over (channels * pixels)^2, mean over layers. Pictures of different sizes each count their own pixels.
    `relative`: each term is a fraction of its own scale - the content features' energy, each style Gram matrix's
    energy (mean over layers), the style's own roughness - so one set of weights fits every style, size and VGG.
    Differs from the paper: the mean over layers instead of the sum, in `relative` only.

    Layers may have weights; those of a mean are relative. Without any, style has those that training has in the form.
    Several styles are mixed by averaging their Gram matrices with the shares of `blend`. `tv_form` power is
    total_variation_power.
    """

    style_roughness: Tensor

    def __init__(
        self,
        features: VGGFeatures,
        style: Tensor | Sequence[Tensor],
        weights: LossWeights,
        form: LossForm = "relative",
        content_layers: Layers = CONTENT_LAYERS,
        style_layers: Layers | None = None,
        blend: Sequence[float] | None = None,
        tv_form: TVForm = "squared",
    ) -> None:
        super().__init__()
        check_choice("form", form, get_args(LossForm))
        check_choice("tv_form", tv_form, get_args(TVForm))
        for name, value in vars(weights).items():
            if not 0 <= value < float("inf"):
                raise UsageError(f"the {name} weight must be zero or more, got {value}")
        self.features, self.weights, self.form, self.tv_form = features, weights, form, tv_form
        self.content_layers = _layer_weights(content_layers)
        self.style_layers = _layer_weights(_style_layers(style_layers, form))
        styles = [style] if isinstance(style, Tensor) else style
        shares = _shares(len(styles), blend)
        with torch.no_grad():
            self.register_buffer("style_roughness", torch.zeros((), device=styles[0].device), persistent=False)
            for picture, share in zip(styles, shares, strict=True):
                self.style_roughness += share * roughness(picture, tv_form).float()
                for name, values in features(picture, list(self.style_layers)).items() if self.style_layers else ():
                    before = getattr(self, f"gram_{name}", 0)
                    self.register_buffer(f"gram_{name}", before + share * gram_matrix(values), persistent=False)

    def targets(self, content: Tensor) -> dict[str, Tensor]:
        """The content's features, which `forward` takes in its place: for many pictures of one content."""
        if not self.content_layers:
            return {}
        with torch.no_grad():
            return self.features(content, list(self.content_layers))  # type: ignore[no-any-return]

    def energies(self, targets: Mapping[str, Tensor]) -> Tensor:
        """The mean squared features of each content layer, (content layers,) float32."""
        inner = [at_least_float32(targets[name]) for name in self.content_layers]
        return torch.stack([features.square().mean() for features in inner])

    def forward(
        self, stylized: Tensor, content: Tensor | dict[str, Tensor], energies: Tensor | None = None
    ) -> LossTerms:
        """The terms of a batch, or with `energies`, those of the whole batch's content, of a part of it.

        The mean over equal parts is then the loss of the whole: only the relative content term needs to know that,
        since it is divided by the mean energy of the batch's features.
        """
        return self.objective(stylized, content, energies).terms

    def objective(
        self,
        stylized: Tensor,
        content: Tensor | dict[str, Tensor],
        energies: Tensor | None = None,
        recent: Mapping[str, Tensor] = _NOTHING,
        share: float = 1.0,
    ) -> Objective:
        """The total, but for a style term that allows pictures to differ, where `recent` has Gram matrices (1, C, C).

        Those are the mean ones of other pictures by the same network. Compared with the style's is what they and this
        picture's have for a mean, it with that `share`: the mean over all pictures counts in full, and how far a
        picture is from it with the square of the share. A photo of the sky alone then need not become a
        whole painting, with the colors of its fields as patches in the clouds.
        """
        target = self.targets(content) if isinstance(content, Tensor) else content
        whole = {} if energies is None else dict(zip(self.content_layers, energies, strict=True))
        features = self.features(stylized)
        with torch.autocast(stylized.device.type, enabled=False):
            content_terms = {
                name: self._distance(features[name], target[name], whole.get(name)) for name in self.content_layers
            }
            grams = {name: gram_matrix(features[name]) for name in self.style_layers}
            w = self.weights
            terms = LossTerms(
                w.content * self._weighted(content_terms, self.content_layers, mean=self.form == "relative"),
                w.style * self._style(grams),
                w.tv * self._variation(stylized),
            )
            value = terms.total
            if recent:
                mixed = {name: gram.lerp(recent[name], 1 - share) for name, gram in grams.items()}
                value = terms.content + w.style * self._style(mixed) / share + terms.tv
            return Objective(value, terms, {name: gram.detach().mean(0, keepdim=True) for name, gram in grams.items()})

    def _style(self, grams: Mapping[str, Tensor]) -> Tensor:
        """The distance of Gram matrices (N, C, C) to the style's, over all layers."""
        distances = {name: self._distance(gram, getattr(self, f"gram_{name}")) for name, gram in grams.items()}
        return self._weighted(distances, self.style_layers, mean=self.form != "paper")

    def _weighted(self, terms: Mapping[str, Tensor], weights: Mapping[str, float], *, mean: bool) -> Tensor:
        """The weighted sum or mean; zero of none."""
        if not terms:
            return self.style_roughness.new_zeros(())
        total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return total / sum(weights.values()) if mean else total

    def _variation(self, stylized: Tensor) -> Tensor:
        images = at_least_float32(stylized)
        if self.form == "relative":
            return roughness(images, self.tv_form) / self.style_roughness.clamp(min=1e-6)
        return total_variation_power(images * 255) if self.tv_form == "power" else total_variation(images * 255)

    def grid(self, stylized: Tensor) -> Tensor:
        """A penalty for training alone, beside the terms: grids of 4 pixels, in the relative form.

        Between its lowest resolution and the picture a network can draw such a grid at no cost, and its many edges
        please the Gram matrices. Nothing else in the loss minds it: total variation weighs a tenth as much.
        """
        if self.form == "paper":
            return stylized.new_zeros(())
        with torch.autocast(stylized.device.type, enabled=False):
            return self.scaled(GRID_WEIGHT * grid_energy(at_least_float32(stylized)))

    def scaled(self, energy: Tensor) -> Tensor:
        """A squared difference of pixels 0..1 in the units of the form: of 0..255, or over the style's roughness."""
        return energy * 255**2 if self.form == "paper" else energy / self.style_roughness.clamp(min=1e-6)

    def _distance(self, given: Tensor, target: Tensor, whole: Tensor | None = None) -> Tensor:
        """Of features (N, C, H, W) or of Gram matrices (N, C, C); `whole` is the energy of more than this target."""
        given, target = at_least_float32(given), at_least_float32(target)
        squares = (given - target).square()
        if self.form == "gatys":  # gram_matrix has divided by channels and pixels already
            return squares.sum() / len(given) / (2 if given.ndim == 4 else 4)
        difference = squares.mean()
        if self.form == "paper":
            return difference
        energy = target.square().mean().clamp(min=1e-12)
        relative = difference / energy
        return relative if whole is None else relative * energy / whole.clamp(min=1e-12)


def _layer_weights(layers: Layers) -> dict[str, float]:
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    if any(not 0 <= weight < math.inf for weight in weights.values()) or (weights and not any(weights.values())):
        raise UsageError(f"the weights of layers must be zero or more, and one above zero, got {weights}")
    return weights


def _style_layers(given: Layers | None, form: LossForm) -> Layers:
    return layer_weights(DEFAULT_STYLE_LAYERS[form]) if given is None else given


def _shares(count: int, blend: Sequence[float] | None) -> list[float]:
    """Of each style, with a sum of 1."""
    given = [1.0] * count if blend is None else list(blend)
    if len(given) != count or any(not 0 <= share < math.inf for share in given) or sum(given) == 0:
        raise UsageError(f"{count} styles need as many shares of zero or more, and one above zero, got {given}")
    return [share / sum(given) for share in given]


def open_features(
    layers: Sequence[str],
    device: torch.device,
    vgg: str = "bundled",
    pooling: Pooling = "max",
    padding: Padding = "zeros",
) -> VGGFeatures:
    """The loss network on a device, in the layout that its convolutions are fastest in; raises as VGGFeatures does."""
    features = VGGFeatures(layers, vgg, pooling, padding)
    return features.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def open_loss(
    styles: Sequence[Picture],
    weights: LossWeights,
    device: torch.device,
    form: LossForm = "relative",
    content_layers: Layers = CONTENT_LAYERS,
    style_layers: Layers | None = None,
    *,
    vgg: str | VGGFeatures = "bundled",
    pooling: Pooling = "max",
    blend: Sequence[float] | None = None,
    tv_form: TVForm = "squared",
    files: Sequence[Path] = (),
) -> PerceptualLoss:
    """The loss of one style image or several, on a device; `vgg` may be a network that is there already.

    `files` are those of the style images, to be named in errors. Raises UsageError for unknown layers or invalid
    weights, ModelError for unusable weights of the network, InputError for a style image that is too small.
    """
    style_layers = _style_layers(style_layers, form)
    layers = [*content_layers, *style_layers]
    features = vgg if isinstance(vgg, VGGFeatures) else open_features(layers, device, vgg, pooling)
    for file, style in zip(files, styles, strict=bool(files)):
        _check_style(file, style, features, style_layers)
    pixels = [torch.from_numpy(to_array(style.rgb)).to(device) for style in styles]  # (1, 3, H, W) 0..1 each
    return PerceptualLoss(features, pixels, weights, form, content_layers, style_layers, blend, tv_form).to(device)


def _check_style(file: Path, style: Picture, features: VGGFeatures, layers: Layers) -> None:
    """InputError if a style image, scaled as it is, has no features at the deepest layer."""
    deepest = max(layers, key=features.smallest, default=None)
    if deepest is not None and min(style.size) < (smallest := features.smallest(deepest)):
        height, width = style.size
        raise InputError(
            f"{printable(file)} is {width}x{height} pixels as it is scaled but {deepest} needs at least "
            f"{smallest}x{smallest}; give a larger --style-size, or a style image that is less narrow"
        )
