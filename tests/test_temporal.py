import math

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from torch import Tensor

from fastnst.evaluate import measure_temporal, read_photo
from fastnst.temporal import FRAMES, SENSOR, Jolt, Pan, move


def photo(name: str = "owl", size: int = 64) -> Tensor:
    return torch.from_numpy(read_photo(PHOTOS / f"{name}.jpg", size))


def matrix(x: float = 0, y: float = 0, zoom: float = 1, turn: float = 0) -> Tensor:
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    return torch.tensor([[[cos, -sin, x], [sin, cos, y]]])


def test_moving_by_nothing_changes_nothing():
    torch.testing.assert_close(move(photo(), matrix()), photo(), atol=1e-5, rtol=0)


def test_moving_by_whole_pixels_shows_what_is_there():
    moved = move(photo(), matrix(x=3, y=-2))

    torch.testing.assert_close(moved[..., 4:-4, 4:-4], photo()[..., 2:-6, 7:-1], atol=1e-5, rtol=0)


def test_a_quarter_turn_is_that_of_the_array():
    turned = move(photo(), matrix(turn=math.pi / 2))

    torch.testing.assert_close(turned, torch.rot90(photo(), 1, (2, 3)), atol=1e-4, rtol=0)


def test_movement_of_a_picture_that_is_not_square_keeps_its_angles():
    picture = photo()[..., :40, :]

    turned = move(picture, matrix(turn=math.pi))

    torch.testing.assert_close(turned, picture.flip(-1, -2), atol=1e-4, rtol=0)


def test_jolts_are_those_of_their_positions_whatever_the_batch():
    whole, part = Jolt.draw(7, range(4, 8), (32, 48)), Jolt.draw(7, [6], (32, 48))

    assert torch.equal(whole.matrices[2:3], part.matrices)
    assert torch.equal(whole.noise[2:3], part.noise)
    assert not torch.equal(whole.noise[0], whole.noise[1])
    assert not torch.equal(Jolt.draw(8, [6], (32, 48)).noise, part.noise)


def test_drawing_jolts_leaves_the_global_generator_alone():
    before = torch.get_rng_state()

    Jolt.draw(0, [0, 1], (32, 32))

    assert torch.equal(torch.get_rng_state(), before)


def test_what_moves_with_the_picture_costs_nothing_but_the_noise():
    still = photo(size=96)
    jolt = Jolt.draw(0, [0], (96, 96))

    assert float(jolt.distance(move(still, jolt.matrices), still)) == pytest.approx(0, abs=1e-9)
    assert float(jolt.distance(jolt.content(still), still)) == pytest.approx(float(jolt.noise.square().mean()), rel=0.1)


def test_what_stays_where_it_is_costs():
    still = photo(size=96)

    assert float(Jolt.draw(0, [0], (96, 96)).distance(still, still)) > 1e-4


def test_half_precision_moves_by_fractions_of_pixels_too():
    moved = move(photo(), matrix(x=0.37))

    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(move(photo(), matrix(x=0.37)), moved)


def test_a_pan_moves_as_it_says():
    wide = photo(size=96)

    pan = Pan.over(wide, 0)
    again = Pan.over(wide, 0)

    x, y = pan.motion
    assert torch.equal(pan.frames, again.frames)
    assert pan.frames.shape == (FRAMES, 3, 96 - 14, 96 - 14)
    assert 0.5 <= math.hypot(x, y) <= 2
    assert pan.motion != Pan.over(wide, 1).motion
    # Where the movement over all frames comes to whole pixels, the photo itself is seen there, but for noise.
    middle = (FRAMES - 1) / 2
    expected = move(wide, matrix(x=middle * x, y=middle * y))[..., 7:-7, 7:-7]
    assert float((pan.frames[-1] - expected).square().mean().sqrt()) < 5 * SENSOR


def test_a_clip_differs_by_its_noise_alone():
    # The noise of two frames, of which one is moved, and the rounding to 8 bits.
    (found,) = measure_temporal(lambda images: images, {"owl": photo(size=128).numpy()})

    assert found.clip == found.painted == pytest.approx(math.hypot(2, 2), rel=0.06)
    assert found.ratio == 1


def test_a_painting_that_moves_with_the_clip_is_steady_and_one_that_does_not_is_not():
    generator = np.random.default_rng(0)
    texture = generator.random((1, 3, 200, 200), dtype=np.float32)

    def contrast(images: np.ndarray) -> np.ndarray:
        return np.clip(images * 2 - 0.5, 0.02, 0.98)

    def curtain(images: np.ndarray) -> np.ndarray:
        """A texture that stays on the screen."""
        return 0.5 * images + 0.5 * texture[..., : images.shape[2], : images.shape[3]]

    def boiling(images: np.ndarray) -> np.ndarray:
        return images + generator.normal(0, 0.1, images.shape).astype(np.float32)

    photos = {"owl": photo(size=128).numpy()}
    steady, hung, boiled = (measure_temporal(style, photos)[0].ratio for style in (contrast, curtain, boiling))

    assert steady < 3  # noise twice as strong, and edges sharpened by clipping
    assert hung > 10
    assert boiled == pytest.approx(math.hypot(25.5, 2) / 2, rel=0.15)


def test_a_grid_that_stays_on_the_screen_is_seen():
    def screened(images: np.ndarray) -> np.ndarray:
        marked = images.copy()
        marked[..., ::4, ::4] = 1
        return marked

    (found,) = measure_temporal(screened, {"owl": photo(size=96).numpy()})

    assert found.ratio > 5


@pytest.mark.parametrize("size", [32, 45])
def test_small_photos_can_be_panned_over(size):
    (found,) = measure_temporal(lambda images: images, {"owl": photo(size=size).numpy()})

    assert 1 < found.clip < 6
