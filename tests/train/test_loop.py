import json
import os
import random
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
from helpers.material import PHOTOS
from helpers.photos import bomb, cut_off, save_noise, save_plain
from helpers.runs import STEPS, Configure, arguments, losses, metrics
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst import __version__
from fastnst.checkpoint import load_checkpoint, load_state, previous_state, save_state
from fastnst.data import Photographs
from fastnst.engine import open_engine
from fastnst.errors import DivergedError, InputError, Interrupted, ModelError, OutputError, UsageError
from fastnst.evaluate import measure_temporal, read_photo
from fastnst.losses import DEFAULT_WEIGHTS, LossTerms, LossValues
from fastnst.stylize import Stylizer
from fastnst.temporal import Jolt
from fastnst.train.loop import StepReport, TrainConfig, train
from fastnst.train.run import TrainingRun
from fastnst.vgg import BUNDLED


class Crash(Exception):
    """What a test raises in the middle of a run."""


@pytest.fixture(scope="module")
def finished(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that nothing disturbed wrote; every resumed run must end like it."""
    torch.set_num_threads(1)
    return train(configure(tmp_path_factory.mktemp("finished") / "style.safetensors"))


def weights(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def assert_same_run(one: Path, other: Path) -> None:
    assert weights(one) == weights(other)
    assert losses(one) == losses(other)
    assert [step for step, *_ in losses(one)] == list(range(STEPS))


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


def crash_after(steps: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step + 1 == steps:
            raise Crash

    return on_step


def crash_in(config: TrainConfig, steps: int) -> None:
    """Run so many steps and die without a chance to save."""
    with pytest.raises(Crash):
        train(config, crash_after(steps))


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


def test_learning_rate_falls_like_a_cosine_to_a_twentieth(finished):
    rates = [line["lr"] for line in metrics(finished)]

    assert rates[0] == 1e-3
    assert rates[STEPS // 2] == pytest.approx(1e-3 * (1 + 0.05) / 2)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0.05e-3


def test_constant_schedule_keeps_the_learning_rate(configure, output):
    train(configure(output, steps=3, schedule="constant"))

    assert [line["lr"] for line in metrics(output)] == [1e-3] * 3


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


def test_loss_weights_given_are_the_ones_used_and_kept(configure, output):
    train(configure(output, steps=1, loss="paper", content_weight=2, tv_weight=0))

    assert load_checkpoint(output)[1].weights == {**vars(DEFAULT_WEIGHTS["paper"]), "content": 2, "tv": 0}
    assert metrics(output)[0]["tv"] == 0


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


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_float32_weights(configure, finished, output, precision):
    train(configure(output, precision=precision, steps=4))

    state = load_state(configure(output).state_path).tensors
    assert {tensor.dtype for name, tensor in state.items() if name.startswith("net.")} == {torch.float32}
    ours, exact = metrics(output)[0]["total"], metrics(finished)[0]["total"]
    assert ours == pytest.approx(exact, rel=0.02)  # bfloat16 keeps eight bits
    assert ours != exact
    assert weights(output) != weights(finished)


def test_init_starts_from_the_weights_of_another_checkpoint(configure, finished, output):
    train(configure(output, steps=1, learning_rate=1e-12, init=finished))

    started, trained = load_file(output), load_file(finished)
    for name in trained:
        torch.testing.assert_close(started[name], trained[name], rtol=0, atol=1e-9)


def test_init_of_another_preset_is_a_usage_error_that_names_it(configure, finished, output):
    with pytest.raises(UsageError, match="tiny network, not base; use --preset tiny") as caught:
        train(configure(output, preset="base", init=finished))

    assert caught.value.exit_status == 2


def test_existing_output_is_refused_before_any_work(configure, finished, output, tmp_path):
    output.parent.mkdir()
    output.write_bytes(b"precious")

    with pytest.raises(OutputError, match="exists already; add --overwrite") as caught:
        train(configure(output, content=tmp_path / "missing"))

    assert caught.value.exit_status == 5
    assert output.read_bytes() == b"precious"
    assert list(output.parent.iterdir()) == [output]


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


def test_resume_with_nothing_to_resume_starts_and_says_so(configure, finished, output, caplog):
    train(configure(output, resume=True))

    assert "training starts from the beginning" in caplog.text
    assert_same_run(output, finished)


def test_tensorboard_shows_each_step_of_a_resumed_run_once(configure, output):
    crash_in(configure(output), 6)

    train(configure(output, resume=True))

    events = EventAccumulator(str(output.with_suffix(""))).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/total")] == list(range(STEPS))


# release test 89
def test_resume_with_other_options_is_refused_and_names_them(configure, output):
    crash_in(configure(output), 5)
    before = output.read_bytes()

    with pytest.raises(UsageError) as caught:
        train(configure(output, resume=True, batch_size=3, learning_rate=0.5, save_every=7))

    assert caught.value.exit_status == 2
    assert "--batch-size was 2, is 3, --learning-rate was 0.001, is 0.5" in str(caught.value)
    assert "save-every" not in str(caught.value)
    assert output.read_bytes() == before


# release test 89
def test_resume_with_another_painting_or_size_is_refused(configure, output, tmp_path):
    crash_in(configure(output), 5)
    Image.new("RGB", (96, 96), (10, 200, 30)).save(tmp_path / "painting.png")  # of the same name

    with pytest.raises(UsageError, match=r"painting\.png is not the style of the interrupted run"):
        train(replace(configure(output, resume=True), style=tmp_path / "painting.png"))
    with pytest.raises(UsageError, match="--size was 32, is 64, --style-size was 768, is 512"):
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


DRIVER = """
import os, signal, sys
import torch
from fastnst.cli import main
import fastnst.train.loop as module

torch.set_num_threads(1)
run_training = module.train

def train_until_killed(config, on_step):
    def killer(report):
        on_step(report)
        if report.step + 1 == int(sys.argv[1]):
            for _ in range(int(sys.argv[3])):
                signal.raise_signal(int(sys.argv[2]))
    return run_training(config, killer)

module.train = train_until_killed
sys.exit(main(sys.argv[4:]))
"""


def killed(config: TrainConfig, step: int, number: int, *more: object, times: int = 1) -> "subprocess.Popen[bytes]":
    """The command line in a process of its own that sends itself a signal after so many steps."""
    given = [step, int(number), times, *arguments(config), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *map(str, given)], env=environment, capture_output=True, timeout=300, check=False
    )


# release test 83
def test_run_killed_twice_at_random_steps_ends_like_one_never_killed(configure, finished, output):
    first, second = sorted(random.sample(range(1, STEPS), 2))

    deaths = [
        killed(configure(output), first, signal.SIGKILL),
        killed(configure(output), second, signal.SIGKILL, "--resume"),
        killed(configure(output), 0, signal.SIGKILL, "--resume"),
    ]

    said = [death.stderr.decode() for death in deaths]
    assert [death.returncode for death in deaths] == [-9, -9, 0], (first, second, said)
    assert deaths[-1].stdout.decode().strip() == str(output)
    assert_same_run(output, finished)


# release test 85
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


# release test 85
def test_second_signal_ends_at_once(configure, output):
    death = killed(configure(output), 6, signal.SIGTERM, times=2)

    assert death.returncode == -signal.SIGTERM
    assert load_state(configure(output).state_path).values["step"] == 4


# release test 85
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


# release test 86
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


# release test 86
def test_full_disk_costs_previews_and_says_so_once_and_never_the_run(configure, finished, output, full_disk, caplog):
    logs = output.parent / "logs"

    def fill(report: StepReport) -> None:
        full_disk(2_000 if 4 < report.step < 7 else resource.RLIM_INFINITY)

    train(configure(output, logdir=logs, preview_every=1, save_every=100), fill)

    assert weights(output) == weights(finished)
    assert caplog.text.count("are incomplete") == 1
    steps = [json.loads(line)["step"] for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS))


# release test 86
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


# release test 86
def test_final_save_that_fails_is_an_error_at_once(configure, output, full_disk):
    with pytest.raises(OutputError):
        train(configure(output, steps=3), lambda _: full_disk(100_000))

    assert not output.exists()


# release test 87
def test_folder_that_cannot_be_made_is_an_output_error_before_any_work(configure, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match="folder") as caught:
        train(configure(tmp_path / "file" / "run" / "style.safetensors", content=tmp_path / "missing"))

    assert caught.value.exit_status == 5


# release test 87
def test_folder_removed_while_training_is_made_again(configure, finished, output, caplog):
    def remove(report: StepReport) -> None:
        if report.step == 5:
            shutil.rmtree(output.parent)

    written = train(configure(output), remove)

    assert weights(written) == weights(finished)
    assert load_state(configure(output).state_path).values["step"] == STEPS
    assert "metrics.jsonl was removed" in caplog.text


# release test 87
def test_folder_that_cannot_be_made_again_ends_the_run_with_an_output_error(configure, output):
    def replace(report: StepReport) -> None:
        if report.step == 5:
            shutil.rmtree(output.parent)
            output.parent.write_text("in the way")

    with pytest.raises(OutputError):
        train(configure(output), replace)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


# release test 88
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


# release test 88
def test_good_state_stays_when_a_run_resumed_from_it_dies_too(configure, finished, output):
    crash_in(configure(output), 10)
    flip_bit(configure(output).state_path)
    crash_in(configure(output, resume=True), 10)
    flip_bit(configure(output).state_path)

    train(configure(output, resume=True))

    assert_same_run(output, finished)


# release test 88
def test_two_damaged_resume_states_are_a_model_error(configure, output):
    crash_in(configure(output), 10)
    state = configure(output).state_path
    flip_bit(state)
    truncate(previous_state(state))

    with pytest.raises(ModelError, match=state.name) as caught:
        train(configure(output, resume=True))

    assert caught.value.exit_status == 4
    assert load_checkpoint(output)[1].steps == 8


def diverged(output: Path) -> dict[str, object]:
    return json.loads((output.with_suffix("") / "diverged.json").read_text())


# release test 90
def test_learning_rate_of_a_million_is_a_diverged_error_and_leaves_a_report(configure, output):
    with pytest.raises(DivergedError, match="lower --learning-rate") as caught:
        train(configure(output, learning_rate=1e6, save_every=1))

    step = diverged(output)["step"]
    assert caught.value.exit_status == 6
    assert f"at step {step} " in str(caught.value)
    assert diverged(output)["lr"] == pytest.approx(1e6 / 64, rel=0.05)  # after three rollbacks
    assert load_checkpoint(output)[1].steps == step  # which fails for a weight that is not finite
    assert len(metrics(output)) == step


# release test 90
def test_infinite_gradient_is_a_diverged_error_and_leaves_no_checkpoint(configure, output):
    with pytest.raises(DivergedError):
        train(configure(output, content_weight=1e37))

    assert float(str(diverged(output)["total"])) < float("inf")
    assert diverged(output)["gradient_norm"] in ("inf", "nan")
    assert not output.exists()
    assert not configure(output).state_path.exists()


# release test 90
def test_style_that_is_not_a_number_is_a_diverged_error_and_leaves_no_checkpoint(configure, output, tmp_path):
    loss_network = {key: tensor for key, tensor in load_file(BUNDLED).items() if int(key.split(".")[1]) < 10}
    loss_network["features.2.bias"][3] = float("nan")
    save_file(loss_network, tmp_path / "vgg.safetensors")

    with pytest.raises(DivergedError, match="at step 0"):
        train(configure(output, vgg=str(tmp_path / "vgg.safetensors")))

    assert diverged(output)["style"] == "nan"
    assert not output.exists()


# release test 90
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
            bad = run.loss.register_forward_hook(lambda *found: LossTerms(*(term * torch.nan for term in found[2])))
            try:
                return original(run, now, pixels)
            finally:
                bad.remove()
        return original(run, now, pixels)

    monkeypatch.setattr(TrainingRun, "step", spoiled)


# release test 90
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


# release test 90
def test_fourth_loss_that_is_not_finite_ends_the_run_at_a_good_checkpoint(configure, output, monkeypatch):
    spoil_loss(monkeypatch, step=6, times=4)

    with pytest.raises(DivergedError, match=r"at step 6 .*going back 3 times did not help"):
        train(configure(output))

    assert diverged(output)["total"] == "nan"
    assert load_state(configure(output).state_path).values["step"] == 4
    assert load_checkpoint(output)[1].steps == 4


# release test 91
def test_float16_overflow_skips_a_step_and_goes_on(configure, output):
    run = TrainingRun(configure(output, precision="fp16"), torch.device("cpu"))
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-50)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    before = [parameter.detach().clone() for parameter in run.net.parameters()]

    run.step(0, pixels)
    assert all(torch.equal(*pair) for pair in zip(before, run.net.parameters(), strict=True))
    assert run.scaler.get_scale() == 2.0**10
    run.step(1, pixels)
    assert not any(torch.equal(*pair) for pair in zip(before, run.net.parameters(), strict=True))


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


def test_without_steadiness_nothing_says_so(finished):
    assert all("steadiness" not in line for line in metrics(finished))


def test_steadiness_is_logged_beside_the_losses_and_trains(configure, output):
    train(configure(output, steadiness=20, steps=30, size=48, learning_rate=3e-3))

    lines = metrics(output)
    assert all(line["total"] == pytest.approx(line["content"] + line["style"] + line["tv"]) for line in lines)
    assert all(np.isfinite(line["steadiness"]) and line["steadiness"] > 0 for line in lines)
    assert "loss/steadiness" in EventAccumulator(str(output.with_suffix(""))).Reload().Tags()["scalars"]


def test_steady_style_paints_a_pan_more_steadily_than_one_trained_alike(configure, finished, output, tmp_path):
    options = {"steps": 60, "size": 48, "init": finished, "learning_rate": 3e-3}
    photos = {"owl": read_photo(PHOTOS / "owl.jpg", 64)}

    plain = train(configure(tmp_path / "plain.safetensors", **options))
    steady = train(configure(output, steadiness=100, **options))

    before, after = (measure_temporal(open_engine(style), photos)[0].ratio for style in (plain, steady))
    assert after < before


@pytest.mark.parametrize("killed_after", [3, 6])
def test_resumed_run_with_steadiness_ends_like_one_never_interrupted(configure, output, tmp_path, killed_after):
    whole = train(configure(tmp_path / "whole.safetensors", steadiness=5))
    crash_in(configure(output, steadiness=5), killed_after)
    torch.rand(17)  # what a resumed run draws must not depend on the state of the process

    train(configure(output, steadiness=5, resume=True))

    assert_same_run(output, whole)
    assert [line["steadiness"] for line in metrics(output)] == [line["steadiness"] for line in metrics(whole)]


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_are_jolted_like_the_batch(configure, output, micro_batch):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    options = {"batch_size": 4, "steadiness": 10}

    values, whole = gradients(configure(output, **options), pixels)
    found, parts = gradients(configure(output, micro_batch=micro_batch, **options), pixels)

    assert len(values) == 5
    assert found == pytest.approx(values, rel=1e-5)
    assert float((parts - whole).norm() / whole.norm()) < 2e-3


def test_penalty_that_is_not_finite_goes_back(configure, output, monkeypatch, caplog):
    original, left = Jolt.distance, [1]

    def spoiled(jolt: Jolt, painted: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
        left[0] -= 1
        return original(jolt, painted, still) * (torch.nan if left[0] == -6 else 1)

    monkeypatch.setattr(Jolt, "distance", spoiled)

    train(configure(output, steadiness=5))

    assert "back to step 4 with the learning rate times 0.25" in caplog.text
    assert len(metrics(output)) == STEPS


def test_run_of_an_older_fastnst_is_resumed_with_the_defaults_of_new_options(configure, finished, output):
    crash_in(configure(output), 6)
    state = load_state(configure(output).state_path)
    del state.values["config"]["steadiness"]
    save_state(configure(output).state_path, state)

    train(configure(output, resume=True))

    assert_same_run(output, finished)


STARVED = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from fastnst.device import keep_freed_memory
from fastnst.errors import UnavailableError
from fastnst.config import TrainConfig
from fastnst.train.run import TrainingRun

torch.set_num_threads(1)
size, batch, spare = map(int, sys.argv[4:])
config = TrainConfig(Path(sys.argv[1]), content=Path(sys.argv[2]), output=Path(sys.argv[3]), preset="tiny", size=size,
    batch_size=batch, precision="fp32", device="cpu")
run = TrainingRun(config, torch.device("cpu"))
keep_freed_memory(False)  # the limit is on addresses, of which kept memory holds many
small = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
run.step(0, small)  # all that is loaded on first use
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (spare << 20),) * 2)
try:
    losses = run.step(1, np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
except UnavailableError as error:
    print(error)
else:
    print(run.memory.micro_batch, losses.content, losses.style, losses.tv, losses.total)
"""


def starved(config: TrainConfig, *numbers: int) -> str:
    """What a step says when only so many MiB are left: starved(config, size, batch size, MiB)."""
    given = [sys.executable, "-c", STARVED, config.style, config.content, config.output, *numbers]
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


def test_painting_larger_than_pictures_may_be_is_scaled_down_and_says_so(configure, output, tmp_path, caplog):
    large = tmp_path / "large.png"
    Image.new("L", (17_000, 400), 128).save(large)

    train(replace(configure(output, steps=1), style=large))

    assert "large.png has 17000x400 pixels and is scaled down to 768" in caplog.text
    assert output.exists()


# release test 97
def test_time_limit_saves_and_the_resumed_run_ends_like_one_never_stopped(configure, finished, output, caplog):
    train(configure(output, time_limit=1e-3))

    assert "stopped by --time-limit after step 1 and saved; continue with --resume" in caplog.text
    assert load_checkpoint(output)[1].steps == 1
    train(configure(output, resume=True, time_limit="1h"))
    assert_same_run(output, finished)


# release test 96
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


KILLED_IN_SAVE = """
import os, random, signal, sys
from pathlib import Path
import torch
from fastnst.checkpoint import CheckpointMeta, TrainState, save_checkpoint, save_state
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

folder, last = Path(sys.argv[1]), int(sys.argv[2])
calls = 0

def deadly(call):
    def counted(*arguments, **options):
        global calls
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return call(*arguments, **options)
    return counted

torch.manual_seed(0)
net = TransformerNet(NetConfig(channels=(4, 4, 4), blocks=1))

def save(step):
    state = TrainState({"moment": torch.full((1000,), float(step))}, {"step": step, "config": {}})
    save_state(folder / "a.state.safetensors", state)
    save_checkpoint(folder / "a.safetensors", net, CheckpointMeta("custom", net.config.to_json(), {}, steps=step))

save(1)
for name in ("open", "write", "fsync", "close", "link", "unlink", "replace", "chmod", "fdopen"):
    setattr(os, name, deadly(getattr(os, name)))
save(2)
print(calls)
"""


# release test 84
def test_a_valid_checkpoint_and_state_are_there_whenever_a_save_is_killed(tmp_path):
    def save_until(call: int, folder: Path) -> "subprocess.CompletedProcess[bytes]":
        folder.mkdir()
        command = [sys.executable, "-c", KILLED_IN_SAVE, folder, str(call)]
        return subprocess.run(command, capture_output=True, timeout=300, check=False)

    calls = int(save_until(-1, tmp_path / "whole").stdout)
    assert calls >= 15
    moments = random.sample(range(calls), min(20, calls))
    steps = set()
    for moment in moments:
        folder = tmp_path / str(moment)
        assert save_until(moment, folder).returncode == -signal.SIGKILL
        state = folder / "a.state.safetensors"
        saved = load_state(state).values["step"]
        assert load_state(previous_state(state) if saved == 2 else state).values["step"] == 1
        assert load_checkpoint(folder / "a.safetensors")[1].steps in (1, saved)
        steps.add(saved)
    assert steps == {1, 2}


# release test 95
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


# release test 93
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


# release test 93
def test_resume_over_unusable_photos_ends_like_one_never_interrupted(configure, output, tmp_path, odd_photos):
    whole = train(configure(tmp_path / "whole.safetensors", content=odd_photos, batch_size=4))
    crash_in(configure(output, content=odd_photos, batch_size=4), 9)

    train(configure(output, content=odd_photos, batch_size=4, resume=True))

    assert_same_run(output, whole)


# release test 93
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
