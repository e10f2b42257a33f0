import math

import numpy as np
import pytest
import torch
from helpers.photos import noise_tensor, photo
from torch import Tensor

from fastnst.metrics import FRAMES, SENSOR, Pan, color_distance, grid, ssim
from fastnst.temporal import move


def reference_ssim(a: Tensor, b: Tensor) -> float:
    """Wang et al. 2004, window by window."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = ((image[0].numpy().T @ [0.299, 0.587, 0.114]).T for image in (a, b))
    found = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            p, q = (image[row : row + 11, column : column + 11] for image in (x, y))
            p_mean, q_mean = (window * p).sum(), (window * q).sum()
            p_variance, q_variance = (window * (p - p_mean) ** 2).sum(), (window * (q - q_mean) ** 2).sum()
            covariance = (window * (p - p_mean) * (q - q_mean)).sum()
            brightness = (2 * p_mean * q_mean + 1e-4) / (p_mean**2 + q_mean**2 + 1e-4)
            found.append(brightness * (2 * covariance + 9e-4) / (p_variance + q_variance + 9e-4))
    return float(np.mean(found))


def test_ssim_of_a_picture_with_itself_is_one():
    assert float(ssim(noise_tensor(), noise_tensor())) == pytest.approx(1, abs=1e-9)


def test_ssim_of_two_grays_is_that_of_their_brightness():
    dark, light = torch.full((1, 3, 16, 16), 0.25), torch.full((1, 3, 16, 16), 0.75)

    assert float(ssim(dark, light)) == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4), abs=1e-6)


def test_ssim_of_a_negative_is_below_zero():
    assert float(ssim(noise_tensor(), 1 - noise_tensor())) < -0.8


def test_ssim_is_the_formula_worked_out_window_by_window():
    a, b = noise_tensor(16), (noise_tensor(16) + noise_tensor(16, seed=1)) / 2

    assert float(ssim(a, b)) == pytest.approx(reference_ssim(a, b), abs=1e-6)


@pytest.mark.parametrize("size", [64, 67, 128])
def test_a_photo_has_no_grid_and_every_fourth_pixel_brighter_is_one(size):
    clean = torch.from_numpy(photo(size=size))
    marked = clean.clone()
    marked[..., ::4, ::4] += 16 / 255

    assert float(grid(clean)) < 2
    assert float(grid(marked)) > 10


def test_every_second_row_brighter_is_a_grid_and_every_third_is_not():
    clean = torch.full((1, 3, 96, 96), 0.5) + noise_tensor(96) / 100
    second, third = clean.clone(), clean.clone()
    second[..., ::2, :] += 4 / 255
    third[..., ::3, :] += 4 / 255

    assert float(grid(second)) > 10
    assert float(grid(third)) < 2


def test_a_gray_picture_has_no_grid():
    assert float(grid(torch.full((1, 3, 32, 32), 0.5))) == pytest.approx(1)


def test_a_pan_moves_as_it_says():
    wide = torch.from_numpy(photo(size=96))

    pan = Pan.over(wide, 0)
    again = Pan.over(wide, 0)

    x, y = pan.motion
    assert torch.equal(pan.frames, again.frames)
    assert pan.frames.shape == (FRAMES, 3, 96 - 14, 96 - 14)
    assert 0.5 <= math.hypot(x, y) <= 2
    assert pan.motion != Pan.over(wide, 1).motion
    # Where the movement over all frames comes to whole pixels, the photo itself is seen there, but for noise.
    middle = (FRAMES - 1) / 2
    expected = move(wide, torch.tensor([[[1, 0, middle * x], [0, 1, middle * y]]]))[..., 7:-7, 7:-7]
    assert float((pan.frames[-1] - expected).square().mean().sqrt()) < 5 * SENSOR


def plain(*color: float, side: int = 32) -> torch.Tensor:
    return torch.tensor(color)[None, :, None, None].expand(1, 3, side, side)


def test_colors_are_compared_wherever_they_lie():
    picture = torch.from_numpy(photo())
    moved = picture.flatten(2)[..., torch.randperm(64 * 64)].view(1, 3, 64, 64)

    assert color_distance(picture, moved) == pytest.approx(0, abs=1e-9)
    assert color_distance(picture, picture.repeat(1, 1, 2, 3)) < 0.1
    assert color_distance(picture, 1 - picture) == pytest.approx(color_distance(1 - picture, picture))


def test_plain_colors_differ_by_their_lightness_in_lab():
    # Of 13 directions one is that of lightness, 4 are at 45 degrees to it, 4 at 54.7, the others across.
    mean = (1 + 4 / math.sqrt(2) + 4 / math.sqrt(3)) / 13

    assert color_distance(plain(1, 1, 1), plain(0, 0, 0, side=48)) == pytest.approx(100 * mean, rel=1e-3)
    assert color_distance(plain(0.5, 0.5, 0.5), plain(1, 1, 1)) == pytest.approx((100 - 53.389) * mean, rel=1e-3)
