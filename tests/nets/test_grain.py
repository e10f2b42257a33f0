"""Noise of signs: what it is made of, where it repeats, and that a picture's parts have what the whole has."""

import numpy as np
import torch

from fastnst.nets.grain import drawn_grain, grain, tiles
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet


def test_a_part_has_what_the_whole_has_there():
    whole = grain(150, 200)

    np.testing.assert_array_equal(grain(40, 70, 100, 120), whole[:, 100:140, 120:190])


def test_it_is_the_product_of_two_tiles_red_against_green():
    first, second = tiles()
    row, column = 3000, 123

    sign = first[row % 61, column % 61] * second[row % 67, column % 67]
    np.testing.assert_array_equal(grain(1, 1, row, column)[:, 0, 0], [sign, -sign, 0])


def test_neighbors_and_periods_of_one_tile_are_not_alike():
    field = grain(400, 400)[0]

    assert set(np.unique(field)) == {-1, 1}
    assert abs(float(field.mean())) < 0.02
    for shift in [(0, 1), (1, 0), (0, 61), (61, 0), (67, 67), (0, 128)]:
        assert abs(float((field * np.roll(field, shift, (0, 1))).mean())) < 0.03


def test_it_repeats_after_the_product_of_both_sides():
    np.testing.assert_array_equal(grain(9, 9, 5, 7), grain(9, 9, 5 + 61 * 67, 7))


def test_each_position_of_a_run_has_its_own():
    one = drawn_grain(0, 5, 32, 32)

    np.testing.assert_array_equal(one, drawn_grain(0, 5, 32, 32))
    assert not np.array_equal(one, drawn_grain(0, 6, 32, 32))
    assert not np.array_equal(one, drawn_grain(1, 5, 32, 32))


def test_a_flat_picture_is_not_flat_to_a_network_with_grain():
    config = NetConfig(channels=(8, 16), blocks=1, grain=0.03)
    torch.manual_seed(0)
    net = TransformerNet(config)
    gray = torch.full((1, 3, 96, 96), 0.5)

    with torch.no_grad():
        painted, still, elsewhere = net(gray), net(gray), net(gray, torch.from_numpy(grain(96, 96, 500, 500)))

    assert float(painted[..., 20:-20, 20:-20].std()) > 0.01
    torch.testing.assert_close(painted, still, rtol=0, atol=0)
    assert float((painted - elsewhere).abs().mean()) > 0.01
