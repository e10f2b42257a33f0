import importlib.util
import subprocess
import sys

import pytest
import torch
from helpers.material import PHOTOS, ROOT

from fastnst.checkpoint import load_checkpoint
from fastnst.evaluate import read_photo
from fastnst.image import read_picture
from fastnst.nets.droplets import Droplets, droplet_share

SCRIPT = ROOT / "scripts" / "droplets.py"

spec = importlib.util.spec_from_file_location("droplets", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def test_it_measures_what_training_learns_against(checkpoint):
    photo = read_photo(min(PHOTOS.glob("*.jpg")), 64)
    net = load_checkpoint(checkpoint)[0]
    droplets = Droplets()
    expected = net(torch.from_numpy(photo), None, droplets)

    stylized, found = script.energies(net, photo)

    torch.testing.assert_close(stylized, expected.clamp(0, 1), rtol=0, atol=0)
    assert len(found) == 4
    shares = [float(droplet_share(energy)) for energy in found]
    assert shares == pytest.approx(torch.stack(droplets.energies).tolist())


def test_a_map_is_black_far_below_the_mean_and_white_far_above():
    energy = torch.tensor([[[0.0, 1 / 16], [512.0, 5000.0]]])

    pixels = script.as_picture(energy, (4, 4)).rgb

    assert pixels.shape == (4, 4, 3)
    assert (pixels[:2] == 0).all()
    assert (pixels[2:] == 255).all()


def test_it_prints_a_line_a_style_and_draws_two_rows_of_each(checkpoint, tmp_path):
    output = tmp_path / "maps.png"
    command = [sys.executable, SCRIPT, checkpoint, "great-wave-tiny", "--content", PHOTOS, "-o", output]
    command += ["--size", "64", "--count", "3"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()

    assert printed[0].split() == ["last", "norm", "at", "most", "all", "norms"]
    assert [line.split()[0] for line in printed[1:]] == ["random", "great-wave-tiny"]
    height, width = read_picture(output).size
    assert width > 3 * 64
    assert height > 4 * 64
