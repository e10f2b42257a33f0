import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photos import bomb, cut_off, save_noise, save_plain
from helpers.runs import (
    STEPS,
    arguments,
    assert_same_run,
    crash_in,
    killed,
    losses,
    metrics,
    weights,
)
from PIL import Image
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst import __version__
from fastnst.checkpoint import load_checkpoint, load_state, previous_state
from fastnst.data import Photographs
from fastnst.errors import InputError, Interrupted, OutputError
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.stylize import Stylizer
from fastnst.train.loop import StepReport, train


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


def test_losses_fall_within_25_steps(configure, output):
    reports: list[StepReport] = []

    train(configure(output, steps=25, size=48), reports.append)

    first, last = ([report.total for report in part] for part in (reports[:5], reports[-5:]))
    assert sum(last) < 0.8 * sum(first)


def test_metrics_hold_every_step_from_zero_on(finished):
    lines = metrics(finished)

    names = ["step", "images", "content", "style", "tv", "total", "lr", "images_per_second"]
    assert [list(line) for line in lines] == [names] * STEPS
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["images"] for line in lines] == [2 * (step + 1) for step in range(STEPS)]
    assert all(line["total"] == pytest.approx(line["content"] + line["style"] + line["tv"]) for line in lines)
    assert all(line["images_per_second"] > 0 for line in lines)


def test_on_step_sees_what_metrics_hold(configure, output):
    reports: list[StepReport] = []

    train(configure(output, steps=3), reports.append)

    assert [report.to_json() for report in reports] == metrics(output)


def test_tensorboard_shows_losses_and_previews(finished):
    events = EventAccumulator(str(finished.with_suffix(""))).Reload()

    for name in ("content", "style", "tv", "total"):
        scalars = events.Scalars(f"loss/{name}")
        assert [scalar.step for scalar in scalars] == list(range(STEPS))
        assert [scalar.value for scalar in scalars] == pytest.approx([line[name] for line in metrics(finished)])
    assert [image.step for image in events.Images("preview/0")] == [0, 10, STEPS]


def test_previews_show_photo_and_painting_side_by_side(finished):
    previews = sorted((finished.with_suffix("") / "previews").iterdir())

    assert [path.name for path in previews] == [f"{step:06}-{i}.jpg" for step in (0, 10, STEPS) for i in (0, 1)]
    with Image.open(previews[0]) as preview:
        assert preview.width > preview.height  # two pictures of 96 pixels


def test_checkpoint_says_how_it_was_made(configure, finished):
    meta = load_checkpoint(finished)[1]

    assert meta.train == configure(finished).to_json()
    assert meta.preset == "tiny"
    assert meta.style["name"] == "style"
    assert meta.weights == vars(DEFAULT_WEIGHTS["relative"])
    assert meta.steps == STEPS
    assert meta.images_seen == 2 * STEPS
    assert meta.fastnst == __version__
    assert meta.torch == torch.__version__
    lines = metrics(finished)
    for name in ("content", "style", "tv", "total"):
        assert meta.losses[name] == pytest.approx(sum(line[name] for line in lines) / STEPS)


def test_checkpoint_header_is_json_under_our_key(finished):
    with safe_open(finished, framework="pt") as file:
        header = json.loads(file.metadata()["fastnst"])

    assert {"format", "preset", "net", "style", "train", "weights", "images_seen", "losses"} <= header.keys()


def test_checkpoint_stylizes(finished, material):
    photo = next((material / "photos").iterdir())

    painting = Stylizer.open(str(finished), engine="torch", device="cpu").stylize(photo)

    with Image.open(photo) as original:
        assert painting.size == original.size
        assert np.abs(np.asarray(painting, float) - np.asarray(original, float)).mean() > 1


def test_two_runs_with_one_seed_give_equal_bytes(configure, finished, output):
    train(configure(output))

    assert output.read_bytes() == finished.read_bytes()
    assert losses(output) == losses(finished)
    assert not previous_state(configure(output).state_path).exists()


def test_another_seed_gives_other_weights(configure, finished, output):
    train(configure(output, seed=1))

    assert weights(output) != weights(finished)


def test_number_of_workers_changes_no_weight(configure, finished, output):
    train(configure(output, workers=5))

    assert weights(output) == weights(finished)


def test_existing_output_is_refused_before_any_work(configure, finished, output, tmp_path):
    output.parent.mkdir()
    output.write_bytes(b"precious")

    with pytest.raises(OutputError, match="exists already; add --overwrite") as caught:
        train(configure(output, content=tmp_path / "missing"))

    assert caught.value.exit_status == 5
    assert output.read_bytes() == b"precious"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 0)], ids=lambda n: str(int(n))
)
def test_signal_saves_after_the_step_and_exits_with_its_status(configure, finished, output, number, status):
    death = killed(configure(output), 6, number)

    assert death.returncode == status
    assert f"stopped by {number.name} after step 6 and saved; continue with --resume" in death.stderr.decode()
    assert load_state(configure(output).state_path).values["step"] == 6
    assert load_checkpoint(output)[1].steps == 6
    train(configure(output, resume=True))
    assert_same_run(output, finished)


def test_second_signal_ends_at_once(configure, output):
    death = killed(configure(output), 6, signal.SIGTERM, times=2)

    assert death.returncode == -signal.SIGTERM
    assert load_state(configure(output).state_path).values["step"] == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_raises_interrupted_in_python_and_handlers_are_put_back(configure, output, number):
    before = signal.getsignal(number)

    def send(report: StepReport) -> None:
        if report.step == 2:
            signal.raise_signal(number)

    with pytest.raises(Interrupted) as caught:
        train(configure(output), send)

    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) is before
    assert load_checkpoint(output)[1].steps == 3


def limit_file_size(size: int) -> None:
    """No file of this process may grow beyond: writes fail as on a full disk."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield limit_file_size
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_training_goes_on_while_the_disk_is_full_and_the_last_good_checkpoint_stays(
    configure, finished, output, full_disk, caplog
):
    seen: dict[int, bytes] = {}

    def fill_and_free(report: StepReport) -> None:
        if report.step in (5, 10):
            seen[report.step] = output.read_bytes()
        if report.step == 5:
            full_disk(100_000)
        if report.step == 10:
            assert temporary_files(output.parent) == []
            full_disk(resource.RLIM_INFINITY)

    train(configure(output, preview_every=1), fill_and_free)

    assert seen[5] == seen[10]
    assert "training goes on, the last good checkpoint stays" in caplog.text
    assert_same_run(output, finished)


def test_full_disk_costs_previews_and_says_so_once_and_never_the_run(configure, finished, output, full_disk, caplog):
    logs = output.parent / "logs"

    def fill(report: StepReport) -> None:
        full_disk(2_000 if 4 < report.step < 7 else resource.RLIM_INFINITY)

    train(configure(output, logdir=logs, preview_every=1, save_every=100), fill)

    assert weights(output) == weights(finished)
    assert caplog.text.count("are incomplete") == 1
    steps = [json.loads(line)["step"] for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS))


def test_third_failed_save_in_a_row_ends_the_run(configure, output, full_disk, caplog):
    def fill(report: StepReport) -> None:
        if report.step == 4:
            full_disk(100_000)

    with pytest.raises(OutputError) as caught:
        train(configure(output, steps=40), fill)

    full_disk(resource.RLIM_INFINITY)
    assert caught.value.exit_status == 5
    assert "style" in str(caught.value)
    assert caplog.text.count("training goes on, the last good checkpoint stays") == 2
    assert len(metrics(output)) == 16
    assert load_checkpoint(output)[1].steps == 4
    assert temporary_files(output.parent) == []


def test_final_save_that_fails_is_an_error_at_once(configure, output, full_disk):
    with pytest.raises(OutputError):
        train(configure(output, steps=3), lambda _: full_disk(100_000))

    assert not output.exists()


def test_folder_that_cannot_be_made_is_an_output_error_before_any_work(configure, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match="folder") as caught:
        train(configure(tmp_path / "file" / "run" / "style.safetensors", content=tmp_path / "missing"))

    assert caught.value.exit_status == 5


def test_folder_removed_while_training_is_made_again(configure, finished, output, caplog):
    def remove(report: StepReport) -> None:
        if report.step == 5:
            shutil.rmtree(output.parent)

    written = train(configure(output), remove)

    assert weights(written) == weights(finished)
    assert load_state(configure(output).state_path).values["step"] == STEPS
    assert "metrics.jsonl was removed" in caplog.text


def test_folder_that_cannot_be_made_again_ends_the_run_with_an_output_error(configure, output):
    def replace(report: StepReport) -> None:
        if report.step == 5:
            shutil.rmtree(output.parent)
            output.parent.write_text("in the way")

    with pytest.raises(OutputError):
        train(configure(output), replace)


def test_time_limit_saves_and_the_resumed_run_ends_like_one_never_stopped(configure, finished, output, caplog):
    train(configure(output, time_limit=1e-3))

    assert "stopped by --time-limit after step 1 and saved; continue with --resume" in caplog.text
    assert load_checkpoint(output)[1].steps == 1
    train(configure(output, resume=True, time_limit="1h"))
    assert_same_run(output, finished)


@pytest.mark.parametrize("same", ["output", "logs"])
def test_second_run_of_the_same_output_or_logs_is_refused_at_once(configure, finished, output, tmp_path, same):
    first = configure(output, logdir=tmp_path / "logs")
    second = replace(first, output=tmp_path / "other.safetensors") if same == "logs" else configure(output, resume=True)
    refused: list[OutputError] = []

    def meanwhile(report: StepReport) -> None:
        if report.step == 6:
            with pytest.raises(OutputError, match="another run is writing") as caught:
                train(second)
            refused.append(caught.value)

    train(first, meanwhile)

    assert [error.exit_status for error in refused] == [5]
    assert weights(output) == weights(finished)
    assert not list(tmp_path.rglob("*lock"))


def test_leftovers_of_a_killed_save_are_removed_and_those_of_others_stay(configure, output):
    output.parent.mkdir(parents=True)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    leftover = output.parent / f".fastnst.{int(gone.stdout)}.abc.tmp"
    fresh = output.parent / f".fastnst.{int(gone.stdout)}.def.tmp"
    others = output.parent / f".fastnst.{os.getppid()}.abc.tmp"
    for path in (leftover, fresh, others):
        path.write_bytes(b"half a checkpoint")
    for path in (leftover, others):
        os.utime(path, (1e9, 1e9))

    train(configure(output, steps=1))

    assert not leftover.exists()
    assert fresh.exists()
    assert others.exists()


@pytest.mark.parametrize("error", [MemoryError, SystemExit, ValueError])
def test_worker_that_dies_ends_the_run_and_the_checkpoint_stays(configure, output, monkeypatch, error):
    crop = Photographs.crop

    def die(photographs: Photographs, position: int) -> np.ndarray:
        if position == 13:
            raise error
        return crop(photographs, position)

    monkeypatch.setattr(Photographs, "crop", die)

    with pytest.raises(error):
        train(configure(output))

    assert load_checkpoint(output)[1].steps == 4


@pytest.fixture
def odd_photos(tmp_path: Path) -> Path:
    """Forty small files, of which some are no photos, some are odd photos, and two break only when decoded."""
    folder = tmp_path / "odd"
    for number in range(26):
        save_noise(folder / f"{number:02}.jpg", number, side=48)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    noise.save(folder / "animated.gif", save_all=True, append_images=[noise.rotate(90)])
    for number in range(2):
        cut_off(save_noise(folder / f"truncated{number}.jpg", number))
    for number in range(4):
        (folder / f"noise{number}.jpg").write_bytes(bytes([number]) * 100)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "notes.txt").write_text("photographs of my holidays")
    save_plain(folder / "tiny.png", (1, 2, 3), size=(8, 8))
    os.mkfifo(folder / "pipe.jpg")
    assert len(list(folder.iterdir())) == 40
    return folder


BAD = {"truncated0.jpg", "truncated1.jpg", "empty.jpg", "bomb.png", "loop.jpg", "notes.txt", "tiny.png", "pipe.jpg"}
BAD |= {f"noise{number}.jpg" for number in range(4)}


def test_unusable_photos_are_left_out_listed_and_never_fatal(configure, output, tmp_path, odd_photos, caplog):
    config = configure(output, content=odd_photos, batch_size=4)

    train(config)

    listed = (output.with_suffix("") / "bad_images.txt").read_text().splitlines()
    assert {Path(line.split("\t")[0]).name for line in listed} == BAD
    assert all(line.split("\t")[1] for line in listed)
    assert "10 of the 40 files in" in caplog.text  # two more break when decoded
    assert "unusable and left out: bomb.png (" in caplog.text
    assert "... (all in bad_images.txt)" in caplog.text
    again = train(configure(tmp_path / "again.safetensors", content=odd_photos, batch_size=4, workers=1))
    assert weights(again) == weights(output)


def test_resume_over_unusable_photos_ends_like_one_never_interrupted(configure, output, tmp_path, odd_photos):
    whole = train(configure(tmp_path / "whole.safetensors", content=odd_photos, batch_size=4))
    crash_in(configure(output, content=odd_photos, batch_size=4), 9)

    train(configure(output, content=odd_photos, batch_size=4, resume=True))

    assert_same_run(output, whole)


def test_folder_with_nothing_usable_is_an_input_error_at_the_start(configure, output, odd_photos):
    for path in odd_photos.iterdir():
        if path.name not in BAD or path.name.startswith("truncated"):
            path.unlink()

    with pytest.raises(InputError, match="no usable picture") as caught:
        train(configure(output, content=odd_photos))

    assert caught.value.exit_status == 4
    assert not output.exists()


def test_train_command_prints_the_checkpoint_and_refuses_to_repeat(configure, fastnst, finished, output, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = configure(output)

    done = fastnst(*arguments(config))
    repeated = fastnst(*arguments(config))

    assert (done.returncode, repeated.returncode) == (0, 5), done.stderr
    assert done.stdout.decode() == f"{output}\n"
    assert "training step" in done.stderr.decode()
    assert "--resume continues it" in repeated.stderr.decode()
    assert_same_run(output, finished)
