import struct

import numpy as np
import pytest
from helpers.photos import noise
from helpers.picture_files import encoded, gamma, profile
from PIL import Image, ImageCms

from fastnst.image import decode_picture

LEVELS = np.arange(256).reshape(16, 16)
RAMP = np.repeat(LEVELS[..., None], 3, axis=2).astype(np.uint8)
GRAY = Image.fromarray(LEVELS.astype(np.uint8))


def seen(values, power: float) -> np.ndarray:
    """sRGB of 0..1 that stands for a power of itself; IEC 61966-2-1."""
    linear = np.asarray(values, dtype=np.float64) ** power
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_table(entries: int) -> bytes:
    """The curve of sRGB as most programs write it."""
    values = np.linspace(0, 1, entries)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return b"curv" + bytes(4) + struct.pack(">I", entries) + np.rint(linear * 65_535).astype(">u2").tobytes()


@pytest.mark.parametrize("power", [1.0, 1.8, 2.6])
@pytest.mark.parametrize("description", ["sRGB-elle-V2-g10.icc", "sRGB IEC61966-2.1", "Linear", ""])
def test_a_profile_counts_by_its_curve_and_not_by_its_name(power, description):
    picture = decode_picture(encoded(RAMP, icc_profile=profile(b"RGB ", gamma(power), description)))

    assert np.abs(picture.rgb[..., 0] - seen(LEVELS / 255, power)).max() <= 1


@pytest.mark.parametrize("entries", [256, 1024, 4096])
@pytest.mark.parametrize("description", ["sRGB IEC61966-2.1", "Camera standard"])
def test_a_profile_of_srgb_changes_nothing_whatever_its_name(entries, description):
    rgb = noise()

    picture = decode_picture(encoded(rgb, icc_profile=profile(b"RGB ", srgb_table(entries), description)))

    np.testing.assert_array_equal(picture.rgb, rgb)


# Every form in which gray is stored, and whether its profile is one of gray or of RGB.
@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16", "LA", "RGBA"])
def test_gray_in_every_form_is_converted_by_its_profile(mode, space):
    image = Image.fromarray((LEVELS * 257).astype(np.uint16)) if mode == "I;16" else GRAY.convert(mode)
    clear = mode in ("LA", "RGBA")
    if clear:
        alpha = Image.new("L", (16, 16), 255)
        alpha.paste(0, (0, 0, 16, 8))
        image.putalpha(alpha)

    picture = decode_picture(encoded(image, icc_profile=profile(space, gamma(1))))

    expected = seen(LEVELS / 255, 1)
    assert np.abs(picture.rgb[8:, :, 0] - expected[8:]).max() <= 1
    if clear:
        np.testing.assert_array_equal(picture.alpha, np.asarray(alpha))
        assert picture.rgb[:8].min() == 255


def test_gray_of_16_bits_keeps_what_a_linear_profile_needs():
    """In 8 bits the darkest of these would be one level."""
    samples = np.arange(256, dtype=np.uint16).reshape(16, 16)

    picture = decode_picture(encoded(Image.fromarray(samples), icc_profile=profile(b"GRAY", gamma(1))))

    assert np.abs(picture.rgb[..., 0] - seen(samples / 65_535, 1)).max() <= 1
    assert len(np.unique(picture.rgb)) > 10


def test_a_gray_jpeg_with_a_profile_of_rgb_is_converted():
    picture = decode_picture(encoded(Image.new("L", (16, 16), 55), "JPEG", icc_profile=profile(b"RGB ", gamma(1))))

    assert np.abs(picture.rgb - seen(55 / 255, 1)).max() <= 1


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_every_format_has_profiles(format):
    data = encoded(np.full((16, 16, 3), 55, dtype=np.uint8), format, icc_profile=profile(b"RGB ", gamma(1)))

    assert np.abs(decode_picture(data).rgb - seen(55 / 255, 1)).max() <= 3  # three of four are not lossless


@pytest.mark.parametrize(("mode", "space"), [("RGB", b"GRAY"), ("CMYK", b"RGB "), ("CMYK", b"GRAY")])
def test_a_profile_of_other_colors_is_ignored_with_a_warning(mode, space, caplog):
    image = Image.new("RGB", (16, 16), (200, 100, 40)).convert(mode)

    picture = decode_picture(encoded(image, "TIFF", icc_profile=profile(space, gamma(1))), "a.tif")

    assert picture.rgb[3, 3].tolist() == [200, 100, 40]
    assert f"a.tif: its color profile is ignored (it is one of {space.decode().strip()} for" in caplog.text


def test_lab_is_converted_without_a_profile():
    given = Image.new("RGB", (16, 16), (200, 100, 40))
    lab = ImageCms.profileToProfile(
        given, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )

    picture = decode_picture(encoded(lab, "TIFF"))

    np.testing.assert_allclose(picture.rgb[3, 3], (200, 100, 40), atol=3)  # Lab in 8 bits


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
@pytest.mark.parametrize("size", [2 << 20, 15 << 20])
def test_a_profile_as_large_as_those_of_presses_is_used(format, size):
    large = profile(b"RGB ", gamma(1)) + bytes(size)
    large = struct.pack(">I", len(large)) + large[4:]

    picture = decode_picture(encoded(np.full((16, 16, 3), 55, dtype=np.uint8), format, icc_profile=large))

    assert np.abs(picture.rgb - seen(55 / 255, 1)).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_a_profile_larger_than_any_is_ignored_with_a_warning(format, caplog):
    large = profile(b"RGB ", gamma(1)) + bytes(17 << 20)
    large = struct.pack(">I", len(large)) + large[4:]

    options = {"lossless": True} if format == "WEBP" else {}
    picture = decode_picture(encoded(RAMP, format, icc_profile=large, **options), "a.png")

    np.testing.assert_array_equal(picture.rgb, RAMP)
    assert "a.png: its color profile of" in caplog.text
    assert "convert it to sRGB first" in caplog.text
