import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.material import PROGRAMS
from helpers.photos import save_noise
from helpers.runs import (
    STEPS,
    assert_same_run,
    crash_in,
    killed,
    metrics,
    weights,
)
from PIL import Image
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.checkpoint import TrainState, load_checkpoint, load_state, previous_state, save_state
from fastnst.errors import ModelError, OutputError, UsageError
from fastnst.train.loop import StepReport, train
from fastnst.train.resume import restore
from fastnst.train.run import TrainingRun


def test_interrupted_run_is_refused_without_resume_or_overwrite(configure, output):
    crash_in(configure(output), 5)
    output.unlink()

    with pytest.raises(OutputError, match="--resume continues it, --overwrite starts again"):
        train(configure(output))


def test_overwrite_starts_again_and_forgets_the_run_before(configure, finished, output):
    train(configure(output, seed=1))

    crash_in(configure(output, overwrite=True), 3)  # before its first save
    assert not configure(output).state_path.exists()
    train(configure(output, overwrite=True))

    assert_same_run(output, finished)
    events = EventAccumulator(str(output.with_suffix(""))).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/total")] == list(range(STEPS))


@pytest.mark.parametrize("killed_after", [5, 8, 11])
def test_resumed_run_ends_like_one_never_interrupted(configure, finished, output, killed_after):
    crash_in(configure(output), killed_after)
    resumed: list[StepReport] = []

    train(configure(output, resume=True), resumed.append)

    assert [report.step for report in resumed] == list(range((killed_after - 1) // 4 * 4, STEPS))
    assert_same_run(output, finished)
    assert previews(output) == previews(finished)
    assert header(output)["images_seen"] == 2 * STEPS


def previews(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output.with_suffix("") / "previews").iterdir()}


def test_held_out_photos_stay_held_out_in_a_resumed_run(configure, material, output, tmp_path):
    photos = shutil.copytree(material / "photos", tmp_path / "photos")
    names = sorted(path.name for path in photos.iterdir())
    options = {"content": photos, "held_out": 2}
    crash_in(configure(output, **options), 6)
    save_noise(photos / "0.jpg")  # evenly spread over six photos, others would be held out

    train(configure(output, **options, resume=True))

    assert header(output)["held_out"] == [names[1], names[3]]


def header(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["fastnst"])


def test_resumed_bfloat16_run_ends_like_one_never_interrupted(configure, output, tmp_path):
    whole = train(configure(tmp_path / "whole.safetensors", precision="bf16"))
    crash_in(configure(output, precision="bf16"), 6)

    train(configure(output, precision="bf16", resume=True))

    assert_same_run(output, whole)


def test_resume_of_a_finished_run_writes_a_checkpoint_that_was_lost(configure, finished, output):
    shutil.copytree(finished.parent, output.parent)
    output.unlink()

    train(configure(output, resume=True))

    assert_same_run(output, finished)


@pytest.mark.parametrize("where", ["run/style", "style", "logs among the photos"])
def test_a_run_that_writes_among_its_photographs_does_not_train_on_itself(
    where, configure, material, finished, tmp_path
):
    photos = shutil.copytree(material / "photos", tmp_path / "photos")
    among = where.startswith("logs")
    output = photos / ("style" if among else where)
    config = configure(output.with_suffix(".safetensors"), content=photos, logdir=photos if among else None)
    others = [photos / "before" / "previews" / "000000-0.jpg", photos / "before" / "metrics.jsonl"]
    save_noise(others[0])
    others[1].touch()
    crash_in(config, 6)
    assert list(photos.rglob("previews/000000-*.jpg"))

    train(replace(config, resume=True))

    assert weights(config.output) == weights(finished)
    assert not (config.log_folder / "bad_images.txt").exists()


def test_resume_without_its_state_says_that_it_is_finished_and_how_to_go_on(configure, finished, output):
    shutil.copytree(finished.parent, output.parent)
    configure(output).state_path.unlink()
    before = output.read_bytes()

    for steps, said in ((STEPS, "is finished after 12 steps"), (4 * STEPS, "was saved after 12 steps")):
        with pytest.raises(OutputError, match=said) as caught:
            train(configure(output, resume=True, steps=steps))
        assert f"--init {output}" in str(caught.value)
        assert "--overwrite" not in str(caught.value)
    assert output.read_bytes() == before


def test_resume_without_its_state_over_what_is_no_checkpoint_keeps_it(configure, output):
    output.parent.mkdir()
    output.write_bytes(b"something of mine")

    with pytest.raises(OutputError, match=r"not a readable safetensors file.*style\.state\.safetensors beside it"):
        train(configure(output, resume=True))
    assert output.read_bytes() == b"something of mine"


def test_a_run_whose_photographs_style_and_start_moved_ends_like_one_never_interrupted(
    configure, finished, material, output, tmp_path
):
    photos = shutil.copytree(material / "photos", tmp_path / "photos")
    start = shutil.copy(finished, tmp_path / "start.safetensors")
    whole = train(configure(tmp_path / "whole.safetensors", init=start))
    crash_in(configure(output, content=photos, init=start), 6)
    moved = photos.rename(tmp_path / "elsewhere")
    style = shutil.copy(material / "painting.png", tmp_path / "renamed.png")
    start.unlink()

    train(replace(configure(output, content=moved, resume=True), style=style))

    assert_same_run(output, whole)


def test_resume_with_other_photographs_elsewhere_is_refused_and_with_changed_ones_there_said(
    configure, material, output, tmp_path, caplog
):
    photos = shutil.copytree(material / "photos", tmp_path / "photos")
    crash_in(configure(output, content=photos), 5)
    save_noise(next(photos.iterdir()), seed=9, side=70)

    with pytest.raises(UsageError, match="--content was photos, is others"):
        train(configure(output, content=shutil.copytree(photos, tmp_path / "others"), resume=True))
    train(configure(output, content=photos, resume=True))
    assert "the photographs are not those of the interrupted run" in caplog.text


def test_resume_with_nothing_to_resume_starts_and_says_so(configure, finished, output, caplog):
    train(configure(output, resume=True))

    assert "training starts from the beginning" in caplog.text
    assert_same_run(output, finished)


def test_tensorboard_shows_each_step_of_a_resumed_run_once(configure, output):
    crash_in(configure(output), 6)

    train(configure(output, resume=True))

    events = EventAccumulator(str(output.with_suffix(""))).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/total")] == list(range(STEPS))


def test_resume_with_other_options_is_refused_and_names_them(configure, output):
    crash_in(configure(output), 5)
    before = output.read_bytes()

    with pytest.raises(UsageError) as caught:
        train(configure(output, resume=True, batch_size=3, learning_rate=0.5, save_every=7))

    assert caught.value.exit_status == 2
    assert "--batch-size was 2, is 3, --learning-rate was 0.02, is 0.5" in str(caught.value)
    assert "save-every" not in str(caught.value)
    assert output.read_bytes() == before


def test_resume_with_another_painting_or_size_is_refused(configure, output, tmp_path):
    crash_in(configure(output), 5)
    Image.new("RGB", (96, 96), (10, 200, 30)).save(tmp_path / "painting.png")  # of the same name

    with pytest.raises(UsageError, match=r"painting\.png is not the style of the interrupted run"):
        train(replace(configure(output, resume=True), style=tmp_path / "painting.png"))
    with pytest.raises(UsageError, match="--size was 32, is 64, --style-size was 64, is 512"):
        train(configure(output, resume=True, size=64, style_size=512))


def test_resume_with_more_photos_than_before_says_that_the_order_changes(configure, output, tmp_path, material, caplog):
    photos = shutil.copytree(material / "photos", tmp_path / "photos")
    crash_in(configure(output, content=photos), 5)
    save_noise(photos / "new.jpg")

    train(configure(output, content=photos, resume=True))

    assert "there were 5 photographs and are 6" in caplog.text
    assert len(metrics(output)) == STEPS


def test_resume_with_fewer_steps_than_are_done_is_refused(configure, output):
    crash_in(configure(output), 10)

    with pytest.raises(UsageError, match="--steps is 5 but the interrupted run has done 8 already"):
        train(configure(output, resume=True, steps=5))


def test_run_killed_twice_at_random_steps_ends_like_one_never_killed(configure, finished, output):
    first, second = sorted(random.Random(0).sample(range(1, STEPS), 2))

    deaths = [
        killed(configure(output), first, signal.SIGKILL),
        killed(configure(output), second, signal.SIGKILL, "--resume"),
        killed(configure(output), 0, signal.SIGKILL, "--resume"),
    ]

    said = [death.stderr.decode() for death in deaths]
    assert [death.returncode for death in deaths] == [-9, -9, 0], (first, second, said)
    assert deaths[-1].stdout.decode().strip() == str(output)
    assert_same_run(output, finished)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_bit, empty])
def test_damaged_resume_state_is_named_and_the_one_before_is_used(configure, finished, output, damage, caplog):
    crash_in(configure(output), 10)
    state = configure(output).state_path
    damage(state)
    resumed: list[StepReport] = []

    train(configure(output, resume=True), resumed.append)

    assert state.name in caplog.text
    assert resumed[0].step == 4
    assert_same_run(output, finished)


def test_good_state_stays_when_a_run_resumed_from_it_dies_too(configure, finished, output):
    crash_in(configure(output), 10)
    flip_bit(configure(output).state_path)
    crash_in(configure(output, resume=True), 10)
    flip_bit(configure(output).state_path)

    train(configure(output, resume=True))

    assert_same_run(output, finished)


def test_two_damaged_resume_states_are_a_model_error(configure, output):
    crash_in(configure(output), 10)
    state = configure(output).state_path
    flip_bit(state)
    truncate(previous_state(state))

    with pytest.raises(ModelError, match=state.name) as caught:
        train(configure(output, resume=True))

    assert caught.value.exit_status == 4
    assert load_checkpoint(output)[1].steps == 8


@pytest.mark.parametrize("killed_after", [3, 6])
def test_resumed_run_with_temporal_weight_ends_like_one_never_interrupted(configure, output, tmp_path, killed_after):
    whole = train(configure(tmp_path / "whole.safetensors", temporal_weight=5))
    crash_in(configure(output, temporal_weight=5), killed_after)
    torch.rand(17)  # what a resumed run draws must not depend on the state of the process

    train(configure(output, temporal_weight=5, resume=True))

    assert_same_run(output, whole)
    assert [line["temporal"] for line in metrics(output)] == [line["temporal"] for line in metrics(whole)]


def test_run_of_an_older_fastnst_is_resumed_with_adam_and_the_defaults_of_new_options(configure, output, tmp_path):
    whole = train(configure(tmp_path / "whole" / "style.safetensors", optimizer="adam"))
    crash_in(configure(output, optimizer="adam"), 6)
    state = load_state(configure(output).state_path)
    for name in ("pooling", "optimizer"):
        del state.values["config"][name]
    state.values["config"]["steadiness"] = state.values["config"].pop("temporal_weight")  # its name then
    state.values["config"]["learning_rate"] = 1e-3
    tensors = {name.replace("optimizer.", "adam."): tensor for name, tensor in state.tensors.items()}
    save_state(configure(output).state_path, TrainState(tensors, state.values))

    with pytest.raises(UsageError, match=r"--learning-rate was 0\.001, is 0\.02, --optimizer was adam, is muon"):
        train(configure(output, resume=True))
    train(configure(output, resume=True, optimizer="adam"))

    assert_same_run(output, whole)


def test_penalty_for_droplets_stays_that_of_the_start_and_a_run_of_an_older_fastnst_has_none(
    configure, output, tmp_path, with_droplets
):
    whole = train(configure(tmp_path / "whole.safetensors"))
    crash_in(configure(output), 6)
    state = load_state(configure(output).state_path)
    run = TrainingRun(configure(output), torch.device("cpu"))

    train(configure(output, init=with_droplets, resume=True))

    assert_same_run(output, whole)
    restore(run, state)
    assert (run.droplet_weight, run.limited) == (1, False)
    run.limited = True
    older = {name: value for name, value in state.values.items() if "droplet" not in name}
    restore(run, TrainState(state.tensors, older))
    assert (run.droplet_weight, run.limited) == (0, False)


def test_a_valid_checkpoint_and_state_are_there_whenever_a_save_is_killed(tmp_path):
    command = [sys.executable, PROGRAMS / "die_in_save.py", tmp_path, "20"]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=300, check=True).stdout)

    assert found["calls"] >= 15
    assert len(found["deaths"]) == min(20, found["calls"])
    assert set(found["deaths"].values()) == {-signal.SIGKILL}
    steps = set()
    for moment in found["deaths"]:
        folder = tmp_path / moment
        state = folder / "a.state.safetensors"
        saved = load_state(state).values["step"]
        assert load_state(previous_state(state) if saved == 2 else state).values["step"] == 1
        assert load_checkpoint(folder / "a.safetensors")[1].steps in (1, saved)
        steps.add(saved)
    assert steps == {1, 2}


def test_a_drive_that_keeps_files_and_nothing_else_changes_no_run(configure, finished, output, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    for name in ("chmod", "fchmod", "utime", "fsync", "link", "replace"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(fcntl, "flock", refused)

    crash_in(configure(output), 7)
    train(configure(output, resume=True))

    assert_same_run(output, finished)
    assert {path.name for path in output.parent.iterdir()} == {"style", "style.safetensors", "style.state.safetensors"}
