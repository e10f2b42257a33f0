import math

import pytest
import torch
from helpers import photos
from torch import Tensor

from fastnst.temporal import Jolt, move


def photo(size: int = 64) -> Tensor:
    return torch.from_numpy(photos.photo(size=size))


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
