"""Training runs that take a second, and what ends them before their time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fastnst.train.loop import StepReport, TrainConfig, train
from helpers.material import PROGRAMS

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
    for name in ("content", "output", "preset", "size", "batch_size", "steps", "style_size", "init"):
        given += ["--" + name.replace("_", "-"), getattr(config, name)]
    for name in ("precision", "device", "save_every", "preview_every"):
        given += ["--" + name.replace("_", "-"), getattr(config, name)]
    return [*given, "--style-layers", *config.style_layers, "--content-layers", *config.content_layers]


class Crash(Exception):
    """What a test raises in the middle of a run."""


def weights(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def assert_same_run(one: Path, other: Path) -> None:
    assert weights(one) == weights(other)
    assert losses(one) == losses(other)
    assert [step for step, *_ in losses(one)] == list(range(STEPS))


def crash_after(steps: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step + 1 == steps:
            raise Crash

    return on_step


def crash_in(config: TrainConfig, steps: int) -> None:
    """Run so many steps and die without a chance to save."""
    with pytest.raises(Crash):
        train(config, crash_after(steps))


def killed(config: TrainConfig, step: int, number: int, *more: object, times: int = 1) -> "subprocess.Popen[bytes]":
    """The command line in a process of its own that sends itself a signal after so many steps."""
    given = [step, int(number), times, *arguments(config), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, PROGRAMS / "kill_training.py", *map(str, given)],
        env=environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
