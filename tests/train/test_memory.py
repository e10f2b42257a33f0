import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.material import PROGRAMS

from fastnst.train.loop import TrainConfig
from fastnst.train.run import TrainingRun


def gradients(config: TrainConfig, pixels: np.ndarray) -> tuple[list[float], torch.Tensor]:
    """Losses and all gradients of a first step, which leaves them."""
    run = TrainingRun(config, torch.device("cpu"))
    values = [value for value in run.step(0, pixels) if value is not None]
    return values, torch.cat([parameter.grad.flatten() for parameter in run.net.parameters()])


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_give_the_losses_and_gradients_of_the_batch(configure, output, micro_batch):
    contrast = np.array([10, 80, 160, 250])[:, None, None, None]  # photos of very different energy
    pixels = (np.random.default_rng(0).random((4, 32, 32, 3)) * contrast).astype(np.uint8)
    options = {"batch_size": 4, "content_layers": ("relu1_2", "relu2_2")}

    values, whole = gradients(configure(output, **options), pixels)
    found, parts = gradients(configure(output, micro_batch=micro_batch, **options), pixels)

    assert found == pytest.approx(values, rel=1e-5)
    assert float((parts - whole).norm() / whole.norm()) < 2e-3  # rounding, that instance norm makes more of


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_are_jolted_like_the_batch(configure, output, micro_batch):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    options = {"batch_size": 4, "temporal_weight": 10}

    values, whole = gradients(configure(output, **options), pixels)
    found, parts = gradients(configure(output, micro_batch=micro_batch, **options), pixels)

    assert len(values) == 5
    assert found == pytest.approx(values, rel=1e-5)
    assert float((parts - whole).norm() / whole.norm()) < 2e-3


def starved(config: TrainConfig, *numbers: int) -> str:
    """What a step says when only so many MiB are left: starved(config, size, batch size, MiB)."""
    given = [sys.executable, PROGRAMS / "starve_step.py", config.style, config.content, config.output, *numbers]
    # A thread's own arena takes 64 MiB of addresses, now or later.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(list(map(str, given)), env=environment, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_memory_that_runs_out_halves_the_micro_batch(configure, output):
    micro_batch, *terms = starved(configure(output), 128, 16, 300).split()

    assert int(micro_batch) in (2, 4, 8)
    assert all(np.isfinite(float(term)) for term in terms)


def test_one_crop_that_does_not_fit_into_memory_says_what_to_do(configure, output):
    # The loss network's first layer alone takes 64 MiB.
    assert "one crop of 512x512 does not fit into the memory of cpu; use a smaller --size" in starved(
        configure(output), 512, 2, 60
    )
