"""Painting one picture with every preset and both engines, interleaved in one run; prints medians and ratios.

The networks have random weights: the time does not depend on them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fastnst.checkpoint import CheckpointMeta, save_checkpoint
from fastnst.engine import open_engine
from fastnst.export import export
from fastnst.image import Array
from fastnst.nets import PRESETS, TransformerNet

Paint = Callable[[Array], Array]


def engines(folder: Path) -> dict[str, Paint]:
    found: dict[str, Paint] = {}
    for preset, config in PRESETS.items():
        checkpoint = folder / f"{preset}.safetensors"
        meta = CheckpointMeta(preset, config.to_json(), {"name": preset, "credit": ""})
        save_checkpoint(checkpoint, TransformerNet(config), meta)
        onnx = export(checkpoint, checkpoint.with_suffix(".onnx")).path
        found[f"{preset} torch"] = open_engine(checkpoint, device="cpu")
        found[f"{preset} onnx"] = open_engine(onnx, device="cpu")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        found = engines(Path(folder))
        for size in options.sizes:
            image = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
            times: dict[str, list[float]] = {name: [] for name in found}
            for index in range(options.rounds + 1):
                for name, paint in found.items():
                    started = time.perf_counter()
                    paint(image)
                    if index:  # the first round warms up
                        times[name].append(time.perf_counter() - started)
            slowest = statistics.median(times["base torch"])
            for name, values in times.items():
                median = statistics.median(values)
                print(f"{size}x{size}  {name:12} median {median:.3f} s, {slowest / median:.2f} times base torch")


if __name__ == "__main__":
    main()
