import pytest
import torch
from helpers.material import PHOTOS
from helpers.runs import assert_same_run, crash_in

from fastnst.checkpoint import load_checkpoint
from fastnst.evaluate import read_photo
from fastnst.nets.droplets import Droplets
from fastnst.styles import bundled_style
from fastnst.train import run as run_module
from fastnst.train.loop import train
from fastnst.train.ranks import Ranks
from fastnst.train.run import TrainingRun
from fastnst.train.start import FORGETTING, fold_droplets, has_droplets


def photographs(count: int) -> torch.Tensor:
    return torch.cat([torch.from_numpy(read_photo(path, 256)) for path in sorted(PHOTOS.glob("*.jpg"))[:count]])


@pytest.fixture
def forgets_at_once(monkeypatch):
    """No training is too short."""
    monkeypatch.setattr(run_module, "FORGETTING", 1)


@torch.no_grad()
def test_folded_a_network_paints_as_with_its_droplets_where_they_are_limited_and_where_they_are_gone():
    net = load_checkpoint(bundled_style("harvest").checkpoint)[0]
    direction = torch.randn(net.config.channels[-1], generator=torch.Generator().manual_seed(0))
    droplet = torch.zeros(len(direction), 64, 64)
    droplet[:, 20:22, 30:32] = 400 * direction[:, None, None]
    content, others = photographs(12).split([8, 4])
    without = net(others)
    droplets = net.residual[1].register_forward_hook(lambda _, __, features: features + droplet)
    before = net(others)
    assert has_droplets(net, others)

    fold_droplets(net, content, Ranks().average)

    limited = net(others, droplets=Droplets(limited=True))
    droplets.remove()
    gone = net(others)
    assert not has_droplets(net, others)
    assert (without - before).abs().mean() > 0.1
    assert (limited - before).abs().mean() < 0.02
    assert (gone - before).abs().mean() < 0.02


@torch.no_grad()
@pytest.mark.parametrize("style", ["harvest", "great-wave-tiny"])
def test_without_droplets_folding_changes_next_to_nothing(style):
    net = load_checkpoint(bundled_style(style).checkpoint)[0]
    content = photographs(8)
    before = net(content)

    fold_droplets(net, content, Ranks().average)

    assert (net(content) - before).abs().mean() < 0.002


def test_norms_are_set_by_what_is_the_mean_over_all_processes():
    net = load_checkpoint(bundled_style("great-wave-tiny").checkpoint)[0]
    before = [parameter.clone() for parameter in net.parameters()]
    seen = []

    def average(tensors):
        seen.extend(tensors)
        for tensor in tensors:
            tensor.zero_()

    fold_droplets(net, photographs(1), average)

    behind = [name for name, _ in net.named_modules() if name.endswith("norm") and not name.startswith("down")]
    assert len(seen) == 2 * len(behind)
    torch.testing.assert_close(list(net.parameters()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("loss", "steps", "expected"),
    [("relative", FORGETTING, (1, True)), ("relative", FORGETTING - 1, (0, False)), ("paper", FORGETTING, (0, False))],
)
def test_a_start_with_droplets_forgets_them_if_there_is_time(configure, output, with_droplets, loss, steps, expected):
    run = TrainingRun(configure(output, init=with_droplets, loss=loss, steps=steps), torch.device("cpu"))

    assert (run.droplet_weight, run.limited) == expected


def test_a_run_that_forgets_droplets_goes_on_as_if_nothing_had_stopped_it(
    configure, output, tmp_path, with_droplets, forgets_at_once
):
    whole = train(configure(tmp_path / "whole.safetensors", init=with_droplets))
    crash_in(configure(output, init=with_droplets), 6)

    train(configure(output, init=with_droplets, resume=True))

    assert_same_run(output, whole)
