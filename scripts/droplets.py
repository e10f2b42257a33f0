"""Say what droplets take of the features of styles, and draw where they lie: see docs/training.md.

Usage: python scripts/droplets.py harvest runs/my-style.safetensors --content PHOTOS -o droplets.png
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, Parameter
from torch import Tensor, nn

from fastnst.checkpoint import load_checkpoint
from fastnst.evaluate import read_photos
from fastnst.image import Array, Picture, to_pixels, write_picture
from fastnst.nets.droplets import Droplets, droplet_share, pixel_energy
from fastnst.nets.torch_net import TransformerNet
from fastnst.sheet import arrange
from fastnst.styles import style_file

DARKEST, BRIGHTEST = 1 / 16, 512  # times the mean energy, in the maps


class Maps(Droplets):
    """The pixel energies of what each norm behind the first stages is given, (1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def pass_on(self, features: Tensor, norm: nn.InstanceNorm2d) -> Tensor:
        self.maps.append(pixel_energy(features, norm.eps))
        return features


def energies(net: TransformerNet, photo: Array) -> tuple[Tensor, list[Tensor]]:
    """A stylized photo, (1, 3, H, W) 0..1, and the pixel energies of each norm behind the first stages, (1, h, w)."""
    droplets = Maps()
    with torch.no_grad():
        stylized = net(torch.from_numpy(photo), droplets=droplets).clamp(0, 1)
    return stylized, droplets.maps


def as_picture(energy: Tensor, size: Sequence[int]) -> Picture:
    """(1, h, w) -> gray, on a logarithmic scale, of that height and width."""
    scaled = (energy.clamp(DARKEST, BRIGHTEST) / DARKEST).log() / math.log(BRIGHTEST / DARKEST)
    gray = torch.nn.functional.interpolate(scaled[None], tuple(size), mode="nearest")
    return Picture(to_pixels(gray.expand(1, 3, -1, -1).numpy()))


def main(
    styles: Annotated[list[str], Parameter(consume_multiple=True)],
    /,
    *,
    content: Path,
    output: Annotated[Path, Parameter(alias="-o")],
    size: int = 256,
    count: int = 6,
) -> None:
    """Draw the last norm's energies of each style below its pictures, and print their shares.

    Parameters
    ----------
    styles
        names of bundled styles, or checkpoints
    content
        folder of photographs
    output
        the picture
    size
        side of the middle square of each photograph, pixels
    count
        how many photographs
    """
    photos, _ = read_photos(content, size, count)
    tiles: list[tuple[str, Picture]] = []
    print(f"{'':32}{'last norm':>10}{'at most':>10}{'all norms':>10}")
    for style in styles:
        net = load_checkpoint(style_file(style, "checkpoint"))[0]
        painted = {name: energies(net, photo) for name, photo in photos.items()}
        lasts = [found[-1] for _, found in painted.values()]
        last = sum(map(droplet_share, lasts)) / len(lasts)
        everywhere = sum(droplet_share(each) for _, found in painted.values() for each in found) / len(lasts)
        print(f"{Path(style).stem:32}{last:10.3f}{max(float(each.max()) for each in lasts):10.1f}{everywhere:10.3f}")
        tiles += [(name, Picture(to_pixels(stylized.numpy()))) for name, (stylized, _) in painted.items()]
        tiles += [(Path(style).stem, as_picture(energy, (size, size))) for energy in lasts]
    write_picture(arrange(tiles, columns=len(photos)), output)


if __name__ == "__main__":
    app = App(help=__doc__)
    app.default(main)
    app()
