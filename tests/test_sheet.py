import numpy as np
import pytest

from fastnst.image import Picture
from fastnst.sheet import arrange

TILE = Picture(np.zeros((20, 90, 3), np.uint8))


@pytest.mark.parametrize("label", ["short", "a label as long as this"])
def test_labels_stay_under_their_tiles(label):
    sheet = arrange([(label, TILE)] * 3, columns=3).rgb

    assert sheet.shape[1] == 3 * (90 + 10) + 10
    labels = sheet[30:64]
    assert (labels < 128).any()
    for edge in (4, 105, 205, 305):  # the middle of what is between tiles
        assert (labels[:, edge] == 255).all()


def test_tiles_stand_in_rows_of_the_number_of_columns_asked_for():
    tiles = [("", Picture(np.full((20, 90, 3), 10 * number, np.uint8))) for number in range(5)]

    sheet = arrange(tiles, columns=2).rgb

    grays = [sheet[20 + 64 * (number // 2), 55 + 100 * (number % 2), 0] for number in range(5)]
    assert grays == [0, 10, 20, 30, 40]
    assert sheet.shape == (3 * 64 + 10, 2 * 100 + 10, 3)
