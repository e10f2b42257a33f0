"""Train what every new style starts from: one network's kernels over many paintings at once, norms of each one's own.

A step stylizes a photograph for each core, each in another painting; the kernels learn from all, the norms of a
painting from it alone. What is written has the mean of the norms. Source: Dumoulin et al. 2017, "A learned
representation for artistic style".

A run leaves kernels and norms in --state, and goes on from them. The learning rate is full for the share --steady of
the time, and then falls. The crops are drawn once, and the loss network's features of them kept,
which saves a seventh of a step.

Usage, first for 58 minutes from nothing, then again with --time 22m --steady 0.2 from that state, from which the
bundled styles started; and a third time on one core, without --droplets 0, with --limited --time 48m --steady 0.3
--styles runs/trunk-limited:
python scripts/recipes/trunk.py --paintings examples/paintings --photos FOLDER --time 58m --style-weight 25
    --steady 0.45 --droplets 0 --leave-out cafe-terrace --leave-out composition-viii
    --state runs/trunk.state.safetensors --styles runs/trunk -o fastnst/weights/trunk-fast.safetensors
That of tiny: the first with --preset tiny --time 40m --styles runs/trunk-tiny, its own --state and -o.
That of base: the first with --preset base --init checkpoints/great-wave-base.safetensors --time 60m
--learning-rate 0.04 --crops 1800, the second with --time 30m, the third with --time 95m --styles runs/trunk-base, its
own --state and -o.
"""

import copy
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from cyclopts import App, Parameter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fastnst.checkpoint import CheckpointMeta, load_checkpoint, save_checkpoint
from fastnst.config import CONTENT_LAYERS, DEFAULT_STYLE_LAYERS, DEFAULT_WEIGHTS, LossWeights, Preset, layer_weights
from fastnst.config.shared import Duration
from fastnst.data import Photographs
from fastnst.device import autocast, keep_freed_memory, pick_precision
from fastnst.image import read_style
from fastnst.losses import PerceptualLoss, open_features, open_loss
from fastnst.nets.droplets import WEIGHT, Droplets
from fastnst.nets.grain import drawn_grain
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.train.grams import SHARE, RecentGrams, picture_share
from fastnst.train.lanes import Lanes, one_thread
from fastnst.train.optimizer import Muon
from fastnst.train.ranks import Ranks
from fastnst.train.start import CROPS, fold_droplets

WARMUP = 50  # steps
HELD_OUT = 12  # photographs, the same as in the recipes of the styles
RECENT = 20  # steps of a painting whose mean loss is printed


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Options:
    """What a trunk is trained on, and how long."""

    paintings: Path
    """folder of style images"""
    photos: Path
    """folder of photographs"""
    output: Annotated[Path, Parameter(alias="-o")]
    """checkpoint to write"""
    preset: Preset = "fast"
    """network"""
    time: Duration = 3600
    """how long to train"""
    size: int = 192
    """side of the crops, pixels"""
    style_size: int = 768
    """longer side of the style images, pixels"""
    style_weight: float = DEFAULT_WEIGHTS["relative"].style
    """weight of the style term"""
    droplets: float = WEIGHT
    """weight of the penalty against droplets"""
    limited: bool = False
    """take droplets away from a state that has them: set its norms anew, and limit droplets from there on"""
    learning_rate: float = 0.02
    """of the kernels"""
    steady: float = 0.5
    """share of the time at the full learning rate, before it falls along a cosine"""
    crops: int = 2500
    """of the photographs, half as many megabytes of features"""
    leave_out: tuple[str, ...] = ()
    """names of style images to leave out, to see what a trunk does for a painting it never saw"""
    init: Path | None = None
    """checkpoint of that preset to start from instead of random weights; each painting begins with its norms"""
    state: Path | None = None
    """file to go on from, and to leave the state in"""
    styles: Path | None = None
    """folder for a checkpoint of each painting, with the norms of its own, from which the recipes of styles go on"""


Array = np.ndarray[Any, np.dtype[np.uint8]]
Crop = tuple[Array, Tensor]  # (size, size, 3), and what the content term compares with
(LAYER,) = CONTENT_LAYERS


class Part(NamedTuple):
    """What a crop adds to a step."""

    loss: float
    of_kernels: list[Tensor]  # gradients
    of_norms: list[Tensor]
    grams: dict[str, Tensor]


def as_image(pixels: Array) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W) 0..1."""
    image = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float() / 255
    return image.contiguous(memory_format=torch.channels_last)


class Trunk:
    """The kernels, norms and losses of all paintings, on the processor."""

    def __init__(self, options: Options) -> None:
        self.options, self.device = options, torch.device("cpu")
        self.dtype = pick_precision("auto", self.device)
        self.lanes, self.count = Lanes(), torch.get_num_threads()
        files = sorted(path for path in options.paintings.glob("*.jpg") if path.stem not in options.leave_out)
        self.names = [path.stem for path in files]
        layers = [*CONTENT_LAYERS, *layer_weights(DEFAULT_STYLE_LAYERS["relative"])]
        features = open_features(layers, self.device, padding="replicate")
        weights = replace(LossWeights.resolve("relative"), style=options.style_weight)
        self.losses: list[PerceptualLoss] = [
            open_loss([read_style(file, options.style_size)], weights, self.device, vgg=features) for file in files
        ]
        torch.manual_seed(0)
        net = TransformerNet(PRESETS[options.preset]) if options.init is None else load_checkpoint(options.init)[0]
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.nets: list[TransformerNet] = [copy.deepcopy(net) for _ in range(self.count)]  # which a lane has to itself
        self.kernels = {name: weight for name, weight in net.named_parameters() if weight.ndim == 4}
        own = {name: weight for name, weight in net.named_parameters() if weight.ndim != 4}
        self.norms = [{name: nn.Parameter(w.detach().clone()) for name, w in own.items()} for _ in files]
        self.goes_on = options.state is not None and options.state.exists()
        if options.state is not None and self.goes_on:
            self.load(options.state)
        self.grams = [RecentGrams() for _ in files]
        self.shared = Muon(self.kernels.values(), options.learning_rate)
        self.own = [Muon(norms.values(), options.learning_rate) for norms in self.norms]

    def fold_droplets(self, pixels: Array) -> None:
        """Set each painting's norms so that it is painted as before where droplets are limited."""
        content = torch.cat(list(map(as_image, pixels)))
        net = self.nets[0]
        for norms in self.norms:
            net.load_state_dict({**self.kernels, **norms})
            fold_droplets(net, content, Ranks().average)
            with torch.no_grad():
                for name, weight in norms.items():
                    weight.copy_(net.get_parameter(name))

    def targets(self, pixels: Array) -> Tensor:
        """What the content term compares with, of crops (N, size, size, 3): (N, C, H, W)."""

        def of_one(crop: Array) -> Tensor:
            with autocast(self.device, self.dtype):
                return self.losses[0].targets(as_image(crop))[LAYER]

        return torch.cat(list(self.lanes.map(of_one, list(pixels), self.count)))

    def step(self, number: int, crops: list[Crop], paintings: list[int], rate: float, share: float) -> list[float]:
        """Crops, one a lane, each in one of the paintings, with that share in its Gram matrices; their losses."""
        positions = range(number * self.count, (number + 1) * self.count)
        jobs = list(zip(self.nets, crops, paintings, positions, strict=True))
        results = list(self.lanes.map(partial(self.part, share), jobs, self.count))
        with one_thread(self.device):
            of_kernels = zip(*(part.of_kernels for part in results), strict=True)
            for kernel, gradients in zip(self.kernels.values(), of_kernels, strict=True):
                kernel.grad = torch.stack(gradients).mean(0)
            optimizers = [self.shared]
            for painting in set(paintings):
                mine = [part for part, number in zip(results, paintings, strict=True) if number == painting]
                for part in mine:
                    self.grams[painting].add(part.grams, 1)
                of_norms = zip(*(part.of_norms for part in mine), strict=True)
                for norm, gradients in zip(self.norms[painting].values(), of_norms, strict=True):
                    norm.grad = torch.stack(gradients).mean(0)
                optimizers.append(self.own[painting])
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
        return [part.loss for part in results]

    def part(self, share: float, job: tuple[TransformerNet, Crop, int, int]) -> Part:
        """What a crop in a painting adds to a step."""
        net, (pixels, target), painting, position = job
        grain = torch.from_numpy(drawn_grain(0, position, *pixels.shape[:2]))
        norms, loss = self.norms[painting], self.losses[painting]
        with autocast(self.device, self.dtype):
            found = Droplets(self.options.limited)
            given = (as_image(pixels), grain, found)
            stylized = torch.func.functional_call(net, {**self.kernels, **norms}, given)
            value, terms, grams = loss.objective(stylized, {LAYER: target}, None, self.grams[painting].means, share)
            objective = value + loss.grid(stylized) + self.options.droplets * torch.stack(found.energies).sum()
        gradients = torch.autograd.grad(objective, [*self.kernels.values(), *norms.values()])
        kernels = len(self.kernels)
        return Part(float(terms.total.detach()), list(gradients[:kernels]), list(gradients[kernels:]), grams)

    def save(self) -> None:
        """Write the checkpoint, and the state if there is to be one."""
        mean = {name: torch.stack([norms[name] for norms in self.norms]).mean(0) for name in self.norms[0]}
        self.write(self.options.output, "trunk", mean)
        if self.options.styles is not None:
            self.options.styles.mkdir(parents=True, exist_ok=True)
            for painting, norms in zip(self.names, self.norms, strict=True):
                self.write(self.options.styles / f"{painting}.safetensors", painting, norms)
        if self.options.state is not None:
            tensors = {name: weight.detach().contiguous() for name, weight in self.kernels.items()}
            for painting, norms in zip(self.names, self.norms, strict=True):
                tensors |= {f"{painting}.{name}": weight.detach() for name, weight in norms.items()}
            save_file(tensors, self.options.state)

    def write(self, output: Path, name: str, norms: Mapping[str, Tensor]) -> None:
        """Write the kernels, with these norms, as a checkpoint."""
        net = self.nets[0]
        net.load_state_dict({**self.kernels, **norms})
        style = {"name": name, "credit": f"a start for new styles, learned from {len(self.names)} paintings"}
        save_checkpoint(output, net, CheckpointMeta(self.options.preset, net.config.to_json(), style))

    def load(self, state: Path) -> None:
        """Go on from a state; paintings that are new to it begin with the mean of the others."""
        tensors = load_file(state)
        with torch.no_grad():
            for name, weight in self.kernels.items():
                weight.copy_(tensors[name])
            for painting, norms in zip(self.names, self.norms, strict=True):
                for name, weight in norms.items():
                    known = [tensor for key, tensor in tensors.items() if key.endswith(f".{name}")]
                    weight.copy_(tensors.get(f"{painting}.{name}", torch.stack(known).mean(0)))


def learning_rate(options: Options, step: int, done: float) -> float:
    """The rate of a step when so much of the time is over."""
    fall = max(done - options.steady, 0) / max(1 - options.steady, 1e-6)
    return options.learning_rate * min(1, (step + 1) / WARMUP) * (0.02 + 0.98 * (1 + math.cos(math.pi * fall)) / 2)


def endless(count: int, random: np.random.Generator) -> Iterator[int]:
    """0 to count - 1 in ever new orders."""
    while True:
        yield from map(int, random.permutation(count))


def main(options: Options) -> None:
    """Train for that long, and write the checkpoint every five minutes."""
    keep_freed_memory()
    trunk = Trunk(options)
    photographs = Photographs(options.photos, options.size, 1, HELD_OUT, ())
    pixels = np.concatenate(list(photographs.batches(0, math.ceil(options.crops / 4), 4, 2, 0, 1)))
    if options.limited:
        trunk.fold_droplets(pixels[:CROPS])
    targets = trunk.targets(pixels)
    random = np.random.default_rng()  # another order each time a state is gone on from
    numbers, paintings = endless(len(pixels), random), endless(len(trunk.names), random)
    losses: list[list[float]] = [[] for _ in trunk.names]
    start = saved = time.monotonic()
    for step in itertools.count():
        done = (time.monotonic() - start) / (options.time or math.inf)
        if done >= 1:
            break
        crops = [(pixels[number], targets[number : number + 1]) for number in itertools.islice(numbers, trunk.count)]
        chosen = list(itertools.islice(paintings, trunk.count))
        rate = learning_rate(options, step, done)
        share = SHARE if trunk.goes_on else picture_share(done)
        for painting, loss in zip(chosen, trunk.step(step, crops, chosen, rate, share), strict=True):
            losses[painting].append(loss)
        if step % 100 == 99:
            mean = np.mean([np.mean(each[-RECENT:]) for each in losses if each])
            print(f"step {step + 1}, {time.monotonic() - start:.0f} s, mean loss {mean:.3f}", flush=True)
        if time.monotonic() - saved > 300:
            trunk.save()
            saved = time.monotonic()
    trunk.save()
    for name, each in zip(trunk.names, losses, strict=True):
        print(f"{name}: {np.mean(each[-RECENT:]):.3f}")


if __name__ == "__main__":
    app = App(help=__doc__)
    app.default(main)
    app()
