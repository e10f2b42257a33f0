import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import (
    STEPS,
    assert_same_run,
    crash_in,
    losses,
    metrics,
)
from safetensors.torch import load_file, save_file

from fastnst.checkpoint import load_checkpoint, load_state
from fastnst.errors import DivergedError
from fastnst.losses import LossValues
from fastnst.temporal import Jolt
from fastnst.train.loop import train
from fastnst.train.run import TrainingRun
from fastnst.vgg import BUNDLED


def diverged(output: Path) -> dict[str, object]:
    return json.loads((output.with_suffix("") / "diverged.json").read_text())


def test_learning_rate_of_a_million_is_a_diverged_error_and_leaves_a_report(configure, output):
    with pytest.raises(DivergedError, match="lower --learning-rate") as caught:
        train(configure(output, learning_rate=1e6, save_every=1))

    step = diverged(output)["step"]
    assert caught.value.exit_status == 6
    assert f"at step {step} " in str(caught.value)
    assert diverged(output)["lr"] == pytest.approx(1e6 / 64, rel=0.05)  # after three rollbacks
    assert load_checkpoint(output)[1].steps == step  # which fails for a weight that is not finite
    assert len(metrics(output)) == step


def test_infinite_gradient_is_a_diverged_error_and_leaves_no_checkpoint(configure, output):
    with pytest.raises(DivergedError):
        train(configure(output, content_weight=1e37))

    assert float(str(diverged(output)["total"])) < float("inf")
    assert diverged(output)["gradient_norm"] in ("inf", "nan")
    assert not output.exists()
    assert not configure(output).state_path.exists()


def test_style_that_is_not_a_number_is_a_diverged_error_and_leaves_no_checkpoint(configure, output, tmp_path):
    loss_network = {key: tensor for key, tensor in load_file(BUNDLED).items() if int(key.split(".")[1]) < 10}
    loss_network["features.2.bias"][3] = float("nan")
    save_file(loss_network, tmp_path / "vgg.safetensors")

    with pytest.raises(DivergedError, match="at step 0"):
        train(configure(output, vgg=str(tmp_path / "vgg.safetensors")))

    assert diverged(output)["style"] == "nan"
    assert not output.exists()


def test_checkpoint_from_before_the_divergence_stays(configure, finished, output):
    shutil.copytree(finished.parent, output.parent)

    with pytest.raises(DivergedError):
        train(configure(output, content_weight=1e37, overwrite=True))

    assert output.read_bytes() == finished.read_bytes()


def spoil_loss(monkeypatch: pytest.MonkeyPatch, step: int, times: int) -> None:
    """Let so many computations of the loss of a step be not a number, as after a memory error."""
    original = TrainingRun.step
    left = [times]

    def spoiled(run: TrainingRun, now: int, pixels: np.ndarray) -> LossValues:
        if now == step and left[0]:
            left[0] -= 1
            bad = run.loss.features.register_forward_hook(
                lambda *found: {name: features * torch.nan for name, features in found[2].items()}
            )
            try:
                return original(run, now, pixels)
            finally:
                bad.remove()
        return original(run, now, pixels)

    monkeypatch.setattr(TrainingRun, "step", spoiled)


def test_loss_that_is_not_finite_once_goes_back_to_the_last_save_and_learns_more_slowly(
    configure, finished, output, monkeypatch, caplog
):
    spoil_loss(monkeypatch, step=6, times=1)
    seen: list[int] = []

    train(configure(output), lambda report: seen.append(report.step))

    assert seen == [0, 1, 2, 3, 4, 5, *range(4, STEPS)]
    assert "at step 6; back to step 4 with the learning rate times 0.25 (1 of 3 times)" in caplog.text
    assert losses(output)[:4] == losses(finished)[:4]
    assert [step for step, *_ in losses(output)] == list(range(STEPS))
    for ours, theirs in zip(metrics(output)[4:], metrics(finished)[4:], strict=True):
        assert ours["lr"] == theirs["lr"] / 4
    assert load_state(configure(output).state_path).values["rollbacks"] == 1


def test_run_killed_after_it_went_back_ends_like_one_that_was_not(configure, output, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        spoil_loss(patch, step=6, times=1)
        whole = train(configure(tmp_path / "whole.safetensors"))
    with monkeypatch.context() as patch:
        spoil_loss(patch, step=6, times=1)
        crash_in(configure(output), 7)

    train(configure(output, resume=True))

    assert_same_run(output, whole)


def test_going_back_twice_to_a_state_that_is_no_good_tries_the_one_before(configure, output, monkeypatch, caplog):
    spoil_loss(monkeypatch, step=9, times=2)
    seen: list[int] = []

    train(configure(output), lambda report: seen.append(report.step))

    assert seen == [*range(9), 8, *range(4, STEPS)]
    assert "back to step 4 with the learning rate times 0.0625 (2 of 3 times)" in caplog.text
    assert [step for step, *_ in losses(output)] == list(range(STEPS))


def test_fourth_loss_that_is_not_finite_ends_the_run_at_a_good_checkpoint(configure, output, monkeypatch):
    spoil_loss(monkeypatch, step=6, times=4)

    with pytest.raises(DivergedError, match=r"at step 6 .*going back 3 times did not help"):
        train(configure(output))

    assert diverged(output)["total"] == "nan"
    assert load_state(configure(output).state_path).values["step"] == 4
    assert load_checkpoint(output)[1].steps == 4


def test_penalty_that_is_not_finite_goes_back(configure, output, monkeypatch, caplog):
    original, left = Jolt.distance, [1]

    def spoiled(jolt: Jolt, painted: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
        left[0] -= 1
        return original(jolt, painted, still) * (torch.nan if left[0] == -6 else 1)

    monkeypatch.setattr(Jolt, "distance", spoiled)

    train(configure(output, temporal_weight=5))

    assert "back to step 4 with the learning rate times 0.25" in caplog.text
    assert len(metrics(output)) == STEPS
