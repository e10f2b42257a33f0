"""Pillow's images of every mode, against their colors."""

import numpy as np
import pytest
from helpers.photos import noise
from PIL import Image, ImageCms

from fastnst.errors import InputError
from fastnst.image import from_pil

RGB = Image.fromarray(noise())
GRAY = RGB.convert("L")
SRGB, LAB = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
DEPTH = np.asarray(GRAY).astype(np.uint16) * 257

COLORED = {
    "RGBX": RGB.convert("RGBX"),
    "RGBa": RGB.convert("RGBA").convert("RGBa"),
    "CMYK": RGB.convert("CMYK"),
    "HSV": RGB.convert("HSV"),
    "YCbCr": RGB.convert("YCbCr"),
    "LAB": ImageCms.profileToProfile(RGB, SRGB, LAB, outputMode="LAB"),
}
WITHOUT_COLOR = {
    "L": GRAY,
    "LA": GRAY.convert("LA"),
    "La": GRAY.convert("LA").convert("La"),
    "I of 8 bits": GRAY.convert("I"),
    "I of 16 bits": Image.fromarray(DEPTH.astype(np.int32)),
    "I;16": Image.fromarray(DEPTH),
    "I;16B": Image.frombytes("I;16B", GRAY.size, DEPTH.astype(">u2").tobytes()),
    "I;16L": Image.frombytes("I;16L", GRAY.size, DEPTH.astype("<u2").tobytes()),
    "F of 0..255": GRAY.convert("F"),
    "F of 0..1": Image.fromarray(np.asarray(GRAY) / np.float32(255)),
    "F of 16 bits": Image.fromarray(DEPTH.astype(np.float32)),
}


@pytest.mark.parametrize("mode", COLORED)
def test_colors_are_those_of_the_image_in_any_mode(mode):
    difference = np.abs(from_pil(COLORED[mode]).rgb.astype(int) - noise())

    assert COLORED[mode].mode == mode
    assert difference.mean() < 3  # modes that are not RGB round, and Lab does not hold all of it


@pytest.mark.parametrize("mode", WITHOUT_COLOR)
def test_grays_are_those_of_the_image_in_any_mode(mode):
    picture = from_pil(WITHOUT_COLOR[mode])

    assert WITHOUT_COLOR[mode].mode == mode.split()[0]
    np.testing.assert_array_equal(picture.rgb, np.asarray(GRAY.convert("RGB")))
    assert picture.alpha is None


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA"])
def test_transparency_is_kept_in_any_mode(mode):
    image = RGB.convert("RGBA")
    alpha = np.where(noise()[..., 0] > 127, np.uint8(255), np.uint8(0))
    image.putalpha(Image.fromarray(alpha))
    image = image.convert("P").convert("PA") if mode == "PA" else image
    image = image.convert(mode) if mode != "La" else image.convert("LA").convert("La")

    if mode == "PA":
        image.putalpha(Image.fromarray(alpha))
    np.testing.assert_array_equal(from_pil(image).alpha, alpha)


def test_what_an_overshooting_filter_adds_is_clipped():
    values = np.asarray(GRAY.convert("F")) * np.float32(1.02) - np.float32(2)

    expected = np.rint(np.clip(values, 0, 255))
    np.testing.assert_array_equal(from_pil(Image.fromarray(values)).rgb[..., 0], expected)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((20, 20), np.nan, np.float32), "NaN or infinite"),
        (np.linspace(-1, 1, 400, dtype=np.float32).reshape(20, 20), "from -1 to 1 but pictures of mode F are 0..1, "),
        (np.full((20, 20), 1e6, np.float32), r"to 1e\+06"),
        (np.full((20, 20), -300, np.int32), "from -300 to 0 but pictures of mode I are 0..255 or 0..65535"),
    ],
)
def test_values_in_no_range_are_refused_with_the_numbers(values, reason):
    with pytest.raises(InputError, match=reason):
        from_pil(Image.fromarray(values))
