"""One training step of fastnst against a plain float32 loop, interleaved in one run; prints medians and their ratio.

The plain loop is what most repositories do: contiguous NCHW tensors, float32, a new optimizer step on features of the
whole loss network up to relu4_3 for both images.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastnst.config import CONTENT_LAYERS, STYLE_LAYERS, TrainConfig
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.nets import PRESETS, TransformerNet
from fastnst.train import TrainingRun
from fastnst.vgg import VGGFeatures

EXAMPLES = Path(__file__).parents[2] / "examples"


def plain_loop(preset: str, crops: np.ndarray) -> Callable[[], None]:
    torch.manual_seed(0)
    net = TransformerNet(PRESETS[preset])
    features = VGGFeatures(STYLE_LAYERS)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    weights = DEFAULT_WEIGHTS["paper"]

    def gram(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        flat = x.view(n, c, h * w)
        return flat.bmm(flat.transpose(1, 2)) / (c * h * w)

    style = torch.rand(1, 3, 400, 500)
    with torch.no_grad():
        targets = {name: gram(value) for name, value in features(style).items()}

    def step() -> None:
        content = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous().float() / 255
        stylized = net(content)
        given, wanted = features(stylized), features(content)
        loss = sum((given[name] - wanted[name]).square().mean() for name in CONTENT_LAYERS)
        loss = loss + weights.style * sum((gram(given[name]) - targets[name]).square().mean() for name in STYLE_LAYERS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def fastnst_loop(preset: str, size: int, batch_size: int, crops: np.ndarray, folder: Path) -> Callable[[], None]:
    config = TrainConfig(
        EXAMPLES / "paintings" / "cafe-terrace.jpg",
        content=EXAMPLES / "photos",
        output=folder / "bench.safetensors",
        preset=preset,
        size=size,
        batch_size=batch_size,
        loss="paper",
        device="cpu",
    )
    run = TrainingRun(config, torch.device("cpu"))
    return lambda: run.step(0, crops) and None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), default="base")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    crops = np.random.default_rng(0).integers(0, 256, (options.batch_size, options.size, options.size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "plain": plain_loop(options.preset, crops),
            "fastnst": fastnst_loop(options.preset, options.size, options.batch_size, crops, Path(folder)),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for index in range(options.rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if index:  # the first round warms up
                    times[name].append(time.perf_counter() - started)
    for name, values in times.items():
        print(f"{name:8} median {statistics.median(values):.2f} s a step, {min(values):.2f} to {max(values):.2f}")
    ratios = [plain / ours for plain, ours in zip(times["plain"], times["fastnst"], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} over the rounds"
    print(f"fastnst is {statistics.median(ratios):.2f} times as fast, {spread}")


if __name__ == "__main__":
    main()
