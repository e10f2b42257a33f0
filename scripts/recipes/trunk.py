"""Train what every new style starts from: one network's kernels over many paintings at once, norms of each one's own.

A step stylizes a photograph for each core, each in another painting; the kernels learn from all, the norms of a
painting from it alone. What is written has the mean of the norms. Source: Dumoulin et al. 2017, "A learned
representation for artistic style".

A run leaves kernels and norms in --state, and goes on from them. The bundled trunk took 55 minutes on two cores; two
paintings were left out, to see what it does for one it never saw: Cafe Terrace at Night and Composition VIII.

Usage: python scripts/recipes/trunk.py --paintings FOLDER --photos FOLDER --time 8h
    --state runs/trunk-fast.safetensors -o fastnst/weights/trunk-fast.safetensors
"""

import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from cyclopts import App, Parameter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.config import CONTENT_LAYERS, STYLE_LAYERS, LossWeights, Preset
from fastnst.config.shared import Duration
from fastnst.data import Photographs
from fastnst.device import autocast, keep_freed_memory, pick_precision
from fastnst.image import read_style
from fastnst.losses import PerceptualLoss, open_features, open_loss
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.train.lanes import in_lanes
from fastnst.train.optimizer import Muon

WARMUP = 50  # steps
STEADY = 0.5  # of the time at the full learning rate, before it falls along a cosine
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
    style_weight: float = 3.0
    """weight of the style term"""
    learning_rate: float = 0.02
    """of the kernels"""
    leave_out: tuple[str, ...] = ()
    """names of style images to leave out, to see what a trunk does for a painting it never saw"""
    state: Path | None = None
    """file to go on from, and to leave the state in"""


class Trunk:
    """The kernels, norms and losses of all paintings, on the processor."""

    def __init__(self, options: Options) -> None:
        self.options, self.device = options, torch.device("cpu")
        self.dtype = pick_precision("auto", self.device)
        self.lanes = torch.get_num_threads()
        files = sorted(path for path in options.paintings.glob("*.jpg") if path.stem not in options.leave_out)
        self.names = [path.stem for path in files]
        features = open_features([*CONTENT_LAYERS, *STYLE_LAYERS], self.device)
        weights = replace(LossWeights.resolve("relative"), style=options.style_weight)
        self.losses: list[PerceptualLoss] = [
            open_loss([read_style(file, options.style_size)], weights, self.device, vgg=features) for file in files
        ]
        torch.manual_seed(0)
        net = TransformerNet(PRESETS[options.preset]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.nets: list[TransformerNet] = [copy.deepcopy(net) for _ in range(self.lanes)]  # which a lane has to itself
        self.kernels = {name: weight for name, weight in net.named_parameters() if weight.ndim == 4}
        own = {name: weight for name, weight in net.named_parameters() if weight.ndim != 4}
        self.norms = [{name: nn.Parameter(w.detach().clone()) for name, w in own.items()} for _ in files]
        if options.state is not None and options.state.exists():
            self.load(options.state)
        self.shared = Muon(self.kernels.values(), options.learning_rate)
        self.own = [Muon(norms.values(), options.learning_rate) for norms in self.norms]

    def step(self, pixels: "np.ndarray[Any, np.dtype[np.uint8]]", paintings: list[int], rate: float) -> list[float]:
        """Photographs (lanes, size, size, 3), each in one of the paintings; their losses."""
        jobs = list(zip(self.nets, pixels, paintings, strict=True))
        results = list(in_lanes(self.part, jobs, self.lanes))
        for kernel, gradients in zip(
            self.kernels.values(), zip(*(part[1] for part in results), strict=True), strict=True
        ):
            kernel.grad = torch.stack(gradients).mean(0)
        optimizers = [self.shared]
        for painting in set(paintings):
            mine = [part[2] for part, number in zip(results, paintings, strict=True) if number == painting]
            for norm, gradients in zip(self.norms[painting].values(), zip(*mine, strict=True), strict=True):
                norm.grad = torch.stack(gradients).mean(0)
            optimizers.append(self.own[painting])
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        return [part[0] for part in results]

    def part(self, job: tuple[TransformerNet, Any, int]) -> tuple[float, list[Tensor], list[Tensor]]:
        """The loss of a photograph in a painting, and its gradients: of the kernels, and of that painting's norms."""
        net, pixels, painting = job
        norms, loss = self.norms[painting], self.losses[painting]
        content = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float() / 255  # (1, 3, size, size)
        with autocast(self.device, self.dtype):
            stylized = torch.func.functional_call(net, {**self.kernels, **norms}, (content,))
            total = loss(stylized, content).total
            objective = total + loss.grid(stylized)
        gradients = torch.autograd.grad(objective, [*self.kernels.values(), *norms.values()])
        return float(total.detach()), list(gradients[: len(self.kernels)]), list(gradients[len(self.kernels) :])

    def save(self) -> None:
        """Write the checkpoint, and the state if there is to be one."""
        mean = {name: torch.stack([norms[name] for norms in self.norms]).mean(0) for name in self.norms[0]}
        net = self.nets[0]
        net.load_state_dict({**self.kernels, **mean})
        style = {"name": "trunk", "credit": f"a start for new styles, learned from {len(self.names)} paintings"}
        save_checkpoint(self.options.output, net, CheckpointMeta(self.options.preset, net.config.to_json(), style))
        if self.options.state is not None:
            tensors = {name: weight.detach().contiguous() for name, weight in self.kernels.items()}
            for painting, norms in zip(self.names, self.norms, strict=True):
                tensors |= {f"{painting}.{name}": weight.detach() for name, weight in norms.items()}
            save_file(tensors, self.options.state)

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
    fall = max(done - STEADY, 0) / (1 - STEADY)
    return options.learning_rate * min(1, (step + 1) / WARMUP) * (0.02 + 0.98 * (1 + math.cos(math.pi * fall)) / 2)


def main(options: Options) -> None:
    """Train for that long, and write the checkpoint every five minutes."""
    keep_freed_memory()
    trunk = Trunk(options)
    photographs = Photographs(options.photos, options.size, 1, 20, ())
    random = np.random.default_rng(0)
    order: list[int] = []
    losses: list[list[float]] = [[] for _ in trunk.names]
    start = saved = time.monotonic()
    for step, pixels in enumerate(photographs.batches(0, 10**9, trunk.lanes, 2, 0, 1)):
        done = (time.monotonic() - start) / (options.time or math.inf)
        if done >= 1:
            break
        if len(order) < trunk.lanes:
            order += random.permutation(len(trunk.names)).tolist()
        paintings = [order.pop(0) for _ in range(trunk.lanes)]
        rate = learning_rate(options, step, done)
        for painting, loss in zip(paintings, trunk.step(pixels, paintings, rate), strict=True):
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
