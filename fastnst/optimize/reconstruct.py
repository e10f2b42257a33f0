"""What the layers of the loss network keep of a picture: content and texture (Gatys et al. 2015, figure 1)."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from fastnst.config import ReconstructConfig, layer_weights
from fastnst.device import torch_device
from fastnst.errors import Interrupted
from fastnst.files import printable
from fastnst.image import Picture, read_picture, shrink, write_picture
from fastnst.interrupt import caught_signals
from fastnst.losses import LossWeights, open_loss
from fastnst.optimize.gatys import (
    OptimizeReport,
    Step,
    as_tensor,
    check_outputs,
    follow,
    last_of,
    minimize,
    noise,
)
from fastnst.sheet import arrange

# The last layer before each pooling, and the first one behind it.
DEPTHS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
TEXTURES = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

OnStep = Callable[[int, OptimizeReport], None]


def reconstruct(config: ReconstructConfig, on_step: OnStep | None = None) -> Path:
    """Find a picture from noise with the features, or the Gram matrices, of another; without layers, a sheet of them.

    The sheet has a column for each depth of the network: above, what its features alone say of the picture; below, the
    texture of all Gram matrices up to there. `on_step` sees the number of the picture and each iteration.

    Source: Gatys et al. 2015, figure 1; Mahendran and Vedaldi 2015.

    Raises InputError for an unusable picture, UsageError for unknown layers, OutputError for an output that exists; and
    as `follow` does.
    """
    check_outputs(config.output, config)
    picture = shrink(read_picture(config.image), config.size, printable(config.image))
    if not (config.layer or config.style_layers):
        return _sheet(config, picture, on_step)
    steps = _descend(config, picture, layer_weights(config.layer), layer_weights(config.style_layers))
    callback = None if on_step is None else partial(on_step, 0)
    return follow(steps, Picture, config, config.output, config.log_folder, callback)


def _sheet(config: ReconstructConfig, picture: Picture, on_step: OnStep | None) -> Path:
    white = Picture(np.full_like(picture.rgb, 255))
    wanted: list[tuple[str, dict[str, float], dict[str, float]]] = [
        *((f"content {name}", {name: 1.0}, {}) for name in DEPTHS),
        *((f"texture to {name}", {}, dict.fromkeys(TEXTURES[:depth], 1.0)) for depth, name in enumerate(TEXTURES, 1)),
    ]
    done: list[tuple[str, Picture]] = []
    with caught_signals() as received:
        for number, (label, content_layers, style_layers) in enumerate(wanted):
            steps = _descend(config, picture, content_layers, style_layers)
            callback = None if on_step is None else partial(on_step, number)
            done.append((label, last_of(steps, callback, received)))
            if received:
                break
        done += [(label, white) for label, _, _ in wanted[len(done) :]]
        tiles = [("the picture", Picture(picture.rgb)), *done[: len(DEPTHS)], ("", white), *done[len(DEPTHS) :]]
        write_picture(arrange(tiles, columns=len(DEPTHS) + 1), config.output)
        if received:
            raise Interrupted(f"stopped; the pictures that were done are in {printable(config.output)}", received[0])
    return config.output


def _descend(
    config: ReconstructConfig, picture: Picture, content_layers: Mapping[str, float], style_layers: Mapping[str, float]
) -> Iterator[Step]:
    weights = LossWeights(content=float(bool(content_layers)), style=float(bool(style_layers)), tv=config.tv_weight)
    loss = open_loss(
        [picture],
        weights,
        torch_device(config.device),
        content_layers=content_layers,
        style_layers=style_layers,
        vgg=config.vgg,
        pooling=config.pooling,
        tv_form=config.tv_form,
    )
    return minimize(loss, as_tensor(picture), noise(picture.size, config.seed), config)
