import struct

import numpy as np
import pytest
from helpers.clips import read
from helpers.photos import noise
from helpers.picture_files import directory, encoded, tiff
from PIL import Image, TiffImagePlugin

from fastnst.errors import InputError, UnsupportedFormatError
from fastnst.image import decode_picture

RGB = noise(20, 24)
GRAY = Image.fromarray(RGB).convert("L")
PACKED = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I", "F"])
def test_every_usual_kind_is_decoded(mode, compression):
    """Against what Pillow says of the image before it is saved."""
    deep = {"I;16": (np.uint16, 257), "I": (np.int32, 257), "F": (np.float32, 1 / 255)}.get(mode)
    if deep is None:
        image = (GRAY if mode in ("1", "L", "LA") else Image.fromarray(RGB)).convert(mode)
        expected = np.asarray(image.convert("RGB"))
    else:
        image = Image.fromarray(
            (np.asarray(GRAY) * deep[1]).astype(deep[0]) if mode == "F" else np.asarray(GRAY).astype(deep[0]) * deep[1]
        )
        expected = np.asarray(GRAY.convert("RGB"))

    picture = decode_picture(encoded(image, "TIFF", compression=compression))

    np.testing.assert_array_equal(picture.rgb, expected)


@pytest.mark.parametrize(("mode", "compression"), [("1", "group4"), ("RGB", "jpeg"), ("YCbCr", "jpeg"), ("L", "jpeg")])
def test_what_scanners_write_is_decoded(mode, compression):
    smooth = Image.fromarray(noise(4, 5)).resize((80, 64), Image.Resampling.BICUBIC).convert(mode)

    picture = decode_picture(encoded(smooth, "TIFF", compression=compression))

    difference = np.abs(picture.rgb.astype(int) - np.asarray(smooth.convert("RGB"))).mean()
    assert difference < (1e-9 if mode == "1" else 4)  # JPEG is not lossless


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_is_not_negative(dtype, white_is_zero):
    samples = (np.arange(256).reshape(16, 16) * (1 if dtype is np.uint8 else 257)).astype(dtype)

    gray = decode_picture(tiff(samples, white_is_zero)).rgb[..., 0]

    ramp = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(gray, 255 - ramp if white_is_zero else ramp)


@pytest.mark.parametrize(("whole", "white"), [(1.0, 1), (255.0, 255), (65_535.0, 65_535)])
def test_floats_are_scaled_by_the_least_usual_white(whole, white):
    ramp = np.linspace(0, whole, 256, dtype=np.float32).reshape(16, 16)
    ramp[0, 0] = np.nan

    gray = decode_picture(encoded(Image.fromarray(ramp), "TIFF")).rgb[..., 0]

    np.testing.assert_array_equal(gray, np.arange(256).reshape(16, 16))


def pages(*kinds: int) -> bytes:
    """A TIFF of pages from white to black, each of a NewSubfileType."""
    images = [Image.new("L", (20, 24), 255 - 50 * number) for number in range(len(kinds))]
    for image, kind in zip(images, kinds, strict=True):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[254] = kind
        image.encoderinfo = {"tiffinfo": tags}
    return encoded(
        images[0], "TIFF", save_all=True, append_images=images[1:], tiffinfo=images[0].encoderinfo["tiffinfo"]
    )


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((0,), [255]),
        ((0, 0), [255, 205]),
        ((0, 1), [255]),
        ((1, 0), [205]),
        ((1, 4, 0, 1, 0), [155, 55]),
        ((1,), [255]),
    ],
)
def test_pages_are_frames_but_thumbnails_and_masks_are_not(kinds, expected, tmp_path):
    data = pages(*kinds)
    (tmp_path / "a.tif").write_bytes(data)

    assert decode_picture(data).rgb.max() == expected[0]
    assert [frame.picture.rgb[0, 0, 0] for frame in read(tmp_path / "a.tif")] == expected
    if len(expected) > 1:
        with pytest.raises(InputError, match="--frames first"):
            decode_picture(data, frames="reject")
    else:
        assert decode_picture(data, frames="reject").size == (24, 20)


@pytest.mark.parametrize(
    "entries",
    [
        [(0xC612, 1, 4, b"\1\4\0\0")],  # DNGVersion
        [(254, 4, 1, struct.pack("<I", 1)), (330, 4, 1, struct.pack("<I", 8))],  # a thumbnail, and SubIFDs
    ],
)
def test_a_raw_photograph_in_the_form_of_a_tiff_is_refused_by_that_name(entries):
    shorts = {256: 20, 257: 24, 258: 8, 259: 1, 262: 1, 277: 1, 278: 24}
    usual = [(tag, 3, 1, struct.pack("<H", value)) for tag, value in shorts.items()]
    data = directory("<", *usual, (273, 4, 1, bytes(4)), (279, 4, 1, struct.pack("<I", 480)), *entries)

    with pytest.raises(
        UnsupportedFormatError, match=r"^a\.dng is a camera's raw photograph, which is not read; convert it to one of"
    ):
        decode_picture(data + bytes(480), "a.dng")


def test_a_tiff_of_a_rare_kind_is_refused_as_that():
    data = tiff(np.zeros((16, 16), np.uint8))
    at = data.index(struct.pack("<HHIH", 262, 3, 1, 1))

    with pytest.raises(UnsupportedFormatError, match=r"^a\.tif is a TIFF of a rare kind \(.*\), which is not read"):
        decode_picture(data[: at + 8] + struct.pack("<H", 32_844) + data[at + 10 :], "a.tif")  # LogL


def test_too_large_a_tiff_is_refused_by_its_header():
    data = tiff(np.zeros((16, 16), np.uint8))
    at = data.index(struct.pack("<HHIH", 256, 3, 1, 16))
    large = data[: at + 8] + struct.pack("<H", 60_000) + data[at + 10 :]

    with pytest.raises(InputError, match=r"is 60000x16 pixels but at most"):
        decode_picture(large)


def test_directories_that_lead_to_each_other_end():
    data = encoded(GRAY, "TIFF")
    start = struct.unpack_from("<I", data, 4)[0]
    at = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]

    np.testing.assert_array_equal(decode_picture(data[:at] + data[4:8] + data[at + 4 :]).rgb[..., 0], np.asarray(GRAY))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_every_kind_of_bitmap_that_pillow_writes_is_decoded(mode):
    image = Image.fromarray(RGB).convert(mode)

    np.testing.assert_array_equal(decode_picture(encoded(image, "BMP")).rgb, np.asarray(image.convert("RGB")))
