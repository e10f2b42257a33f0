"""What the layers of a network look for: patterns that excite a filter, and where in a picture filters are excited."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastnst.config import FeatureOptions, FilterOptions, check_range
from fastnst.device import pick_precision, torch_device
from fastnst.dream.gradient import COLORS
from fastnst.dream.inception import Features, open_features
from fastnst.dream.objective import extract
from fastnst.errors import Interrupted, UsageError
from fastnst.files import check_output, printable
from fastnst.image import Picture, output_format, read_picture, resize, shrink, to_array, to_pixels, write_picture
from fastnst.interrupt import caught_signals, reason_name, until_signal
from fastnst.optimizers import Adam
from fastnst.sheet import arrange
from fastnst.vgg import layer_names

DEFAULT_LAYERS = {"inception_v3": ("Mixed_5d",), "googlenet": ("inception4a",)}
VGG_LAYERS = ("relu3_3",)

BATCH = 16  # patterns drawn at once
STRONGEST = 23  # maps, which are 24 tiles with the picture
CONTRAST = 2.0  # deviation before the sigmoid, at most: patterns neither fade nor end in black and white
DECAY = 1.3  # of amplitudes with the frequency; 1 as in photographs leaves more fine dots
MARGIN = 8  # pixels beyond a pattern's border, which convolutions fill with zeros


def planned_filters(options: FilterOptions) -> list[tuple[str, int]]:
    """Layer and number of each filter that will be drawn, in the order of the sheet."""
    layers = options.layer or DEFAULT_LAYERS.get(options.network, VGG_LAYERS)
    return [(layer, number) for layer in layers for number in options.filters]


def filter_sheet(options: FilterOptions, on_step: Callable[[int], None] | None = None) -> Path:
    """Draw a pattern for each filter and write them on one labeled sheet; `on_step` sees how many took a step.

    Raises UsageError for a layer or filter the network does not have, OutputError if the sheet exists or cannot be
    written, UnavailableError for weights that are not here, Interrupted by a signal, after the sheet was written.
    """
    output_format(options.output)
    check_output(options.output, overwrite=options.overwrite)
    planned = planned_filters(options)
    layers = list(dict.fromkeys(layer for layer, _ in planned))
    device = torch_device(options.device)
    features = open_features(options.network, [before_relu(layer) for layer in layers])
    features.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in layers:
        _check_filters(features, layer, options)
    drawn: list[tuple[str, Picture]] = []
    with caught_signals() as received:
        for layer, filters in until_signal(_batches(layers, options.filters), received):
            steps = draw(features, layer, filters, options)
            for patterns in until_signal(steps, received):  # noqa: B007 (the last ones count)
                if on_step is not None:
                    on_step(len(filters))
            pictures = (Picture(to_pixels(pattern.cpu().numpy())) for pattern in patterns)
            drawn += [(f"{layer} {number}", picture) for number, picture in zip(filters, pictures, strict=True)]
    write_picture(arrange(drawn, columns=len(options.filters) if len(layers) > 1 else None), options.output)
    if received:
        raise Interrupted(
            f"stopped by {reason_name(received[0])}; {printable(options.output)} holds what was drawn so far",
            received[0],
        )
    return options.output


def _batches(layers: Sequence[str], filters: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    """The filters of each layer, as many as are drawn at once."""
    for layer in layers:
        for first in range(0, len(filters), BATCH):
            yield layer, filters[first : first + BATCH]


def before_relu(layer: str) -> str:
    """The convolution under a ReLU of a VGG: it excites the same filter, and has a gradient where the filter rests."""
    return layer.replace("relu", "conv") if layer in layer_names("vgg19") else layer


def draw(features: Features, layer: str, filters: Sequence[int], options: FilterOptions) -> Iterator[Tensor]:
    """Patterns (N, 3, S, S) RGB 0..1 that excite these filters, better after each of the iterations.

    Adam ascends the mean over all places of the filter's value.

    Source: Olah et al. 2017, "Feature Visualization": the parameters are the amplitudes of waves, long ones with larger
    steps, in decorrelated colors; the pattern is shifted, scaled and rotated a little before each step.
    """
    device = next(features.parameters()).device
    dtype = pick_precision(options.precision, device)
    spectrum = start(filters, options).to(device).requires_grad_()
    optimizer = Adam([spectrum], lr=options.learning_rate)
    random = torch.Generator().manual_seed(options.seed)
    own = torch.arange(len(filters), device=device), torch.tensor(filters, device=device)
    for _ in range(options.iterations):
        patterns = render(spectrum, options.size)
        values = extract(features, vary(patterns, options.jitter, random), [before_relu(layer)], dtype)
        loss = -values[before_relu(layer)][own].mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield render(spectrum.detach(), options.size)


def start(filters: Sequence[int], options: FilterOptions) -> Tensor:
    """Amplitudes (N, 3, S, S/2+1, 2) of faint noise on gray; that of a filter does not depend on the others."""
    shape = (3, options.size, options.size // 2 + 1, 2)
    seeds = [(options.seed * 1_000_003 + number) % 2**63 for number in filters]
    return 0.01 * torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def render(spectrum: Tensor, size: int) -> Tensor:
    """Amplitudes (N, 3, S, S/2+1, 2) -> patterns (N, 3, S, S) RGB 0..1; all zeros are gray."""
    rows = torch.fft.fftfreq(size, device=spectrum.device)[:, None]
    columns = torch.fft.rfftfreq(size, device=spectrum.device)
    scale = size * torch.hypot(rows, columns).clamp_min(1 / size) ** -DECAY
    planes = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(size, size))
    planes = planes / (planes.std((1, 2, 3), keepdim=True) / CONTRAST).clamp_min(1)
    colors = torch.tensor(COLORS).to(planes)
    return torch.einsum("ij,njhw->nihw", colors, planes).sigmoid()


def vary(patterns: Tensor, jitter: int, random: torch.Generator) -> Tensor:
    """The patterns with a gray border, all shifted by up to `jitter` pixels, scaled by 5 % and rotated by 5 degrees."""

    def chance(most: float) -> float:
        return (2 * float(torch.rand((), generator=random)) - 1) * most

    padded = F.pad(patterns, (MARGIN,) * 4, value=0.5)
    size = padded.shape[-1]
    angle, scale = math.radians(chance(5)), 1 + chance(0.05)
    x, y = 2 * chance(jitter) / size, 2 * chance(jitter) / size
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    turn = torch.tensor([[cosine, -sine, x], [sine, cosine, y]]).to(patterns)
    grid = F.affine_grid(turn.expand(len(padded), 2, 3), list(padded.shape), align_corners=False)
    return F.grid_sample(padded, grid, padding_mode="reflection", align_corners=False)


def feature_sheet(options: FeatureOptions) -> Path:
    """Write the picture and the maps of a layer's filters, each in its own brightness, on one labeled sheet.

    Raises UsageError for a layer or filter the network does not have, InputError for an unusable picture, OutputError
    if the sheet exists or cannot be written, UnavailableError for weights that are not here.
    """
    output_format(options.output)
    check_output(options.output, overwrite=options.overwrite)
    picture = read_picture(options.image, max_size=options.max_size)
    device = torch_device(options.device)
    features = open_features(options.network, [options.layer]).to(device)
    with torch.no_grad():
        maps = features(torch.from_numpy(to_array(picture.rgb)).to(device))[options.layer][0].float().cpu()  # (C, h, w)
    _check_numbers(options.filters, len(maps), options.layer)
    strongest = maps.mean((1, 2)).argsort(descending=True, stable=True)[:STRONGEST].tolist()
    tile = shrink(picture, options.tile_size)
    tiles = [("picture", Picture(tile.rgb))]
    for number in options.filters or strongest:
        tiles.append((f"{options.layer} {number}", resize(Picture(brightness(maps[number])), *tile.size)))
    write_picture(arrange(tiles), options.output)
    return options.output


def brightness(values: Tensor) -> np.ndarray:
    """A map (h, w) -> gray pixels (h, w, 3): 0 and less is black, all but the strongest hundredth up to white."""
    most = max(float(values.flatten().quantile(0.99)), float(values.max()) / 4, 1e-12)
    return to_pixels((values / most).expand(1, 3, *values.shape).numpy())


def _check_filters(features: Features, layer: str, options: FilterOptions) -> None:
    smallest = features.smallest(before_relu(layer))
    check_range("size", options.size, smallest)
    device = next(features.parameters()).device
    with torch.no_grad():
        maps = features(torch.zeros(1, 3, smallest, smallest, device=device), [before_relu(layer)])
    _check_numbers(options.filters, maps[before_relu(layer)].shape[1], layer)


def _check_numbers(filters: Sequence[int], count: int, layer: str) -> None:
    unknown = [str(number) for number in filters if number >= count]
    if unknown:
        raise UsageError(f"{layer} has no filter {', '.join(unknown)}; its filters are 0 to {count - 1}")
