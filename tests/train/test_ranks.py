import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers.material import PROGRAMS
from helpers.runs import arguments, losses

from fastnst.checkpoint import load_checkpoint, load_state
from fastnst.config import TrainConfig
from fastnst.errors import UnavailableError, UsageError
from fastnst.train.loop import train
from fastnst.train.ranks import Ranks

STEPS = 10
STARTED_BY_TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "::1", "MASTER_PORT": "1"}


Ended = list["subprocess.CompletedProcess[str]"]


@pytest.fixture
def two_ranks() -> Callable[..., Ended]:
    """Run the command line on two ranks; something may happen to the second after so many steps."""
    return run_two


def run_two(config: TrainConfig, *more: object, after: int = 0, what: object = 0) -> Ended:
    command = [sys.executable, PROGRAMS / "disturb_rank.py", after, what, *arguments(config), *more]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **shared, "CUDA_VISIBLE_DEVICES": "", "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    ended = [subprocess.CompletedProcess(rank.args, 0, *rank.communicate(timeout=300)) for rank in ranks]
    for rank, found in zip(ranks, ended, strict=True):
        found.returncode = rank.returncode
    return ended


def test_alone_without_torchrun(monkeypatch):
    for name in STARTED_BY_TORCHRUN:
        monkeypatch.delenv(name, raising=False)

    ranks = Ranks.from_environment()

    values = torch.tensor([1.0, 2.0])
    ranks.average([values])
    assert (ranks, ranks.first, ranks.highest(3), ranks.share(b"a")) == (Ranks(), True, 3, b"a")
    assert values.tolist() == [1, 2]


def test_ranks_are_those_of_torchrun(monkeypatch):
    for name, value in STARTED_BY_TORCHRUN.items():
        monkeypatch.setenv(name, value)

    assert Ranks.from_environment() == Ranks(1, 4, 1)
    assert not Ranks.from_environment().first


@pytest.mark.parametrize(("name", "value"), [("RANK", "one"), ("RANK", "4"), ("WORLD_SIZE", "0")])
def test_an_environment_that_makes_no_sense_is_a_usage_error(monkeypatch, name, value):
    for known, sensible in STARTED_BY_TORCHRUN.items():
        monkeypatch.setenv(known, sensible)
    monkeypatch.setenv(name, value)

    with pytest.raises(UsageError, match="torchrun"):
        Ranks.from_environment()


def test_more_ranks_than_gpus_is_an_error_that_says_how_many_there_are():
    with pytest.raises(UnavailableError, match=f"--nproc-per-node {torch.cuda.device_count()}"):
        Ranks(99, 100, 99).device(torch.device("cuda"))


@pytest.mark.usefixtures("one_thread")
def test_two_ranks_of_two_train_like_one_of_four(configure, output, tmp_path, two_ranks):
    # At ten times this rate the difference, which is rounding that Adam makes more of, is 3e-5 after five steps.
    options = {"steps": STEPS, "learning_rate": 1e-4}
    ended = two_ranks(configure(output, **options), "--learning-rate", 1e-4)
    alone = train(configure(tmp_path / "alone.safetensors", **options, batch_size=4))

    assert [rank.returncode for rank in ended] == [0, 0], ended
    assert [rank.stdout for rank in ended] == [f"{output}\n", ""]
    assert ended[1].stderr == ""
    both, one = losses(output), losses(alone)
    assert [step for step, *_ in both] == list(range(STEPS))
    for found, expected in zip(both, one, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    assert load_checkpoint(output)[1].images_seen == 4 * STEPS
    with pytest.raises(UsageError, match="had 2 processes but this one has 1"):
        train(configure(output, **options, resume=True))


@pytest.mark.long
def test_signal_to_one_rank_stops_both_at_the_same_step_and_the_run_goes_on(
    configure,
    output,
    tmp_path,
    two_ranks,
):
    whole, config = configure(tmp_path / "whole.safetensors"), configure(output)
    two_ranks(whole)

    stopped = two_ranks(config, after=6, what=int(signal.SIGTERM))
    step = load_state(config.state_path).values["step"]
    resumed = two_ranks(config, "--resume")

    assert [rank.returncode for rank in stopped] == [143, 143], stopped
    assert step == 6
    assert [rank.returncode for rank in resumed] == [0, 0], resumed
    assert losses(output) == losses(whole.output)
    assert output.read_bytes()[-1000:] == whole.output.read_bytes()[-1000:]


@pytest.mark.parametrize("what", [pytest.param("raise", marks=pytest.mark.long), int(signal.SIGKILL)])
def test_when_one_rank_dies_all_end_and_the_checkpoint_stays(configure, output, what):
    config = configure(output, steps=100_000)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    command += [PROGRAMS / "disturb_rank.py", 6, what, *arguments(config)]

    ended = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
        text=True,
    )

    assert ended.returncode != 0
    assert load_checkpoint(output)[1].steps == 4
    assert load_state(config.state_path).values["step"] == 4
