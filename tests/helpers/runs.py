"""Training runs that take a second."""

import json
from collections.abc import Callable
from pathlib import Path

from fastnst.train.loop import TrainConfig

STEPS = 12


Configure = Callable[..., TrainConfig]


def metrics(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output.with_suffix("") / "metrics.jsonl").read_text().splitlines()]


def losses(output: Path) -> list[tuple[float, ...]]:
    names = ("step", "images", "content", "style", "tv", "total", "lr")
    return [tuple(line[name] for name in names) for line in metrics(output)]


def arguments(config: TrainConfig) -> list[object]:
    """The command line that gives this config."""
    given: list[object] = ["train", config.style]
    for name in ("content", "output", "preset", "size", "batch_size", "steps", "precision", "device"):
        given += ["--" + name.replace("_", "-"), getattr(config, name)]
    for name in ("save_every", "preview_every"):
        given += ["--" + name.replace("_", "-"), getattr(config, name)]
    return [*given, "--style-layers", *config.style_layers, "--content-layers", *config.content_layers]
