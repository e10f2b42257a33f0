import numpy as np
import torch

from fastnst.image import to_array
from fastnst.nets.grain import grain
from fastnst.nets.rows import OverwrittenRows, PictureRows, StoredRows
from fastnst.nets.spec import GRAIN, PRESETS
from fastnst.nets.torch_net import deband


def test_even_rows_are_those_of_the_network():
    rgb = np.random.default_rng(0).integers(100, 110, (50, 40, 3), np.uint8)
    rows = PictureRows(rgb, PRESETS["fast"])
    expected = deband(torch.from_numpy(to_array(rgb)))[0].numpy() - 0.5 + np.float32(GRAIN) * grain(50, 40)

    for a, b in [(0, 5), (5, 50), (0, 50), (49, 50)]:
        np.testing.assert_allclose(rows.compute(a, b), expected[:, a:b], atol=1e-6)


def test_overwritten_rows_are_read_as_they_were():
    values = np.arange(20, dtype=np.float32).reshape(1, 10, 2)
    original = values.copy()
    rows = OverwrittenRows(StoredRows(values))

    for a in range(0, 10, 2):
        np.testing.assert_array_equal(
            rows.read(max(0, a - 1), min(10, a + 3)), original[:, max(0, a - 1) : min(10, a + 3)]
        )
        values[:, a : a + 2] = -1


def test_rows_in_half_precision_are_what_was_written_however_large_they_become():
    rows = StoredRows(np.empty((2, 9, 4), np.float16))
    values = np.random.default_rng(0).normal([[[100.0]], [[-3.0]]], size=(2, 9, 4)).astype(np.float32)
    values[:, 3:6] *= 1e6
    values[:, 6:] *= 1e9

    for a in (0, 3, 6):
        rows.write(a, values[:, a : a + 3])
        scale, shift = rows.scaled(np.ones(2), np.zeros(2))
        read = rows.read(0, a + 3) * scale + shift
        np.testing.assert_allclose(read, values[:, : a + 3], rtol=6e-4, atol=6e-8 * scale[0, 0, 0] + 2e-3)
        assert read.dtype == np.float32
