"""Training runs that take a second, from material made once for each file."""

from pathlib import Path

import pytest
import torch
from helpers.material import SMALL_RUN, small_material
from helpers.runs import STEPS, Configure
from helpers.stores import bucket, s3

from fastnst.checkpoint import load_checkpoint, save_checkpoint
from fastnst.styles import bundled_style
from fastnst.train.loop import TrainConfig, train

__all__ = ["bucket", "s3"]  # fixtures


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small painting and five small photos."""
    return small_material(tmp_path_factory.mktemp("material"), photos=5)


@pytest.fixture(scope="module")
def configure(material: Path) -> Configure:
    """The config of a run that takes a second, unless told otherwise: configure(output, steps=20)."""

    def make(output: Path, **options: object) -> TrainConfig:
        small = {
            **SMALL_RUN,
            "content": material / "photos",
            "batch_size": 2,
            "steps": STEPS,
            "style_size": 64,
            "style_layers": ("relu1_2", "relu2_2"),
            "content_layers": ("relu2_2",),
            "save_every": 4,
            "preview_every": 1000,
        }
        return TrainConfig(material / "painting.png", output=output, **{**small, **options})

    return make


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "run" / "style.safetensors"


@pytest.fixture(scope="module")
def finished(configure: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that nothing disturbed wrote; every resumed run must end like it."""
    torch.set_num_threads(1)
    return train(configure(tmp_path_factory.mktemp("finished") / "style.safetensors"))


@pytest.fixture(scope="module")
def with_droplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundled style in which what hardly any pixel reaches drives all features that come after."""
    net, meta = load_checkpoint(bundled_style("great-wave-tiny").checkpoint)
    block = net.residual[0]
    with torch.no_grad():
        block.first.norm.weight[0], block.first.norm.bias[0] = 1, -2.5
        block.second.conv.weight[:, 0] *= 100
    path = tmp_path_factory.mktemp("start") / "with-droplets.safetensors"
    save_checkpoint(path, net, meta)
    return path
