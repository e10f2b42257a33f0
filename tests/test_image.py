import os
import struct
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from helpers.material import PROGRAMS
from helpers.photos import noise
from helpers.picture_files import chunk, encoded
from PIL import Image, ImageCms, PngImagePlugin

from fastnst.decode.formats import looks_like_image
from fastnst.errors import FastnstError, InputError, OutputError, UnsupportedFormatError, UsageError
from fastnst.image import (
    Limits,
    Picture,
    decode_picture,
    encode_picture,
    from_pil,
    output_format,
    read_picture,
    read_size,
    read_style,
    shrink,
    to_array,
    to_pixels,
    write_picture,
)

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"]


def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def display_p3():
    """The sRGB profile with the primaries of Display P3, adapted to D50."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.5151, 0.2412, -0.0011),
        b"gXYZ": (0.2920, 0.6922, 0.0419),
        b"bXYZ": (0.1571, 0.0666, 0.7841),
    }
    for at in range(132, 132 + 12 * struct.unpack_from(">I", profile, 128)[0], 12):
        name, offset, _ = struct.unpack_from(">4sII", profile, at)
        if name in primaries:
            struct.pack_into(">3i", profile, offset + 8, *(round(value * 65536) for value in primaries[name]))
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "P3  ".encode("utf-16-be"))


def white_cyan():
    """A CMYK profile in which full cyan is white and no ink at all is black."""
    identity = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536))
    table += identity * 4 + bytes([0, 128, 128]) * 8 + bytes([255, 128, 128]) * 8 + identity * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"cyan\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body = b"", b""
    for name, data in ((b"A2B0", table), (b"desc", text), (b"cprt", b"text" + bytes(8)), (b"wtpt", white)):
        tags += struct.pack(">4sII", name, 128 + 4 + 4 * 12 + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + 4 + len(tags) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 4) + tags + body


def test_to_array_is_float_planes_from_zero_to_one():
    rgb = np.zeros((2, 3, 3), dtype=np.uint8)
    rgb[1, 2] = 255, 51, 0

    array = to_array(rgb)

    assert (array.shape, array.dtype) == ((1, 3, 2, 3), np.float32)
    np.testing.assert_array_equal(array[0, :, 1, 2], np.array([1, 0.2, 0], dtype=np.float32))


def test_to_pixels_rounds_and_clips():
    array = np.array([0.4999 / 255, 0.5001 / 255, 254.6 / 255, -0.1, 1.2, 0.5], dtype=np.float32).reshape(1, 3, 1, 2)

    assert to_pixels(array).transpose(2, 0, 1).ravel().tolist() == [0, 1, 255, 0, 255, 128]


def test_to_pixels_gives_back_all_256_values():
    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)

    np.testing.assert_array_equal(to_pixels(to_array(rgb)), rgb)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_to_pixels_refuses_what_is_not_a_number(value):
    array = np.zeros((1, 3, 4, 4), dtype=np.float32)
    array[0, 1, 2, 3] = value

    with pytest.raises(FastnstError, match="not numbers"):
        to_pixels(array)


def test_empty_bytes_are_an_input_error():
    with pytest.raises(InputError, match=r"^a\.png is empty; give a picture$"):
        decode_picture(b"", "a.png")


@pytest.mark.parametrize(
    "data", [b"x", b"hello there\n", b"<html><body>", b'<svg xmlns="http://www.w3.org/2000/svg"/>']
)
def test_bytes_that_are_no_picture_are_an_unsupported_format(data):
    with pytest.raises(
        UnsupportedFormatError, match=r"a\.png is not a picture .* JPEG, PNG, WEBP, GIF, AVIF, TIFF, BMP, HEIF$"
    ):
        decode_picture(data, "a.png")


@pytest.mark.parametrize("format", FORMATS)
def test_the_content_decides_and_not_the_name(format, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(encoded(noise(), format))

    assert read_picture(path).size == read_size(path, Limits()) == (20, 24)


def test_other_formats_are_refused_before_their_decoder_is_imported():
    done = subprocess.run([sys.executable, PROGRAMS / "read_other_formats.py"], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


def test_jpeg_cut_in_half_is_an_input_error():
    whole = encoded(noise(64, 64), "JPEG")

    with pytest.raises(InputError, match=r"is damaged and cannot be decoded \(.*\); save it again$"):
        decode_picture(whole[: len(whole) // 2], "a.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "BMP"])
def test_a_cut_that_an_option_would_paint_is_refused_with_its_name(format):
    whole = encoded(noise(64, 64), format)
    with pytest.raises(InputError, match=r"a\.jpg is cut off or damaged \(.*\); .* --allow-truncated$"):
        decode_picture(whole[:-40], "a.jpg", allow_truncated=False)
    assert decode_picture(whole[:-40], allow_truncated=True).size == (64, 64)


@pytest.mark.parametrize(("format", "options"), [("WEBP", {}), ("AVIF", {}), ("TIFF", {"compression": "tiff_lzw"})])
def test_a_cut_of_which_nothing_can_be_painted_is_not_refused_with_that_option(format, options):
    whole = bytearray(encoded(noise(64, 64), format, **options))
    whole[20:-400] = bytes(len(whole) - 420)

    with pytest.raises(InputError, match=r"is damaged and cannot be decoded \(.*\); save it again$"):
        decode_picture(bytes(whole), allow_truncated=False)


def test_a_jpeg_without_its_end_is_refused_with_the_option_that_paints_it():
    whole = encoded(noise(64, 64), "JPEG")

    with pytest.raises(InputError, match="--allow-truncated"):
        decode_picture(whole[:-2], allow_truncated=False)
    np.testing.assert_array_equal(decode_picture(whole[:-2], allow_truncated=True).rgb, decode_picture(whole).rgb)


def test_allow_truncated_keeps_what_is_left_and_warns(caplog):
    whole = encoded(noise(64, 64), "JPEG")

    picture = decode_picture(whole[: len(whole) // 2 + 300], "a.jpg", allow_truncated=True)

    np.testing.assert_array_equal(picture.rgb[:8], decode_picture(whole).rgb[:8])
    assert "a.jpg: damaged parts, if any, are left gray" in caplog.text


def test_allow_truncated_leaves_the_switch_of_pillow_as_it_was():
    from PIL import ImageFile

    decode_picture(encoded(noise()), allow_truncated=True)

    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_every_cut_is_an_input_error(format):
    whole = encoded(noise(64, 64), format)

    for length in (8, 20, 40, len(whole) // 2):
        with pytest.raises(InputError):
            decode_picture(whole[:length])


def test_png_with_a_flipped_byte_is_an_input_error():
    data = bytearray(encoded(noise()))
    data[data.index(b"IDAT") + 20] ^= 0x55

    with pytest.raises(InputError, match="damaged"):
        decode_picture(bytes(data))


def test_jpeg_with_a_flipped_scan_byte_is_decoded():
    data = bytearray(encoded(Image.new("RGB", (64, 64), "teal"), "JPEG"))
    data[-6] ^= 0x01

    assert decode_picture(bytes(data)).size == (64, 64)


@pytest.mark.parametrize("size", [(7142, 7142), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (1, 50_000_000)])
def test_too_large_a_picture_is_refused_before_memory_is_taken(size):
    command = [sys.executable, PROGRAMS / "decode_in_memory.py"]

    done = subprocess.run(command, input=png_header(*size), capture_output=True, check=False)

    assert done.returncode < 20, done.stderr  # MiB
    assert done.stdout.startswith(b"a.png ")
    assert b"scale it down first" in done.stdout


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (15, 16), (400, 15)])
def test_too_small_a_picture_is_refused_with_the_smallest_size(size):
    with pytest.raises(InputError, match=rf"is {size[0]}x{size[1]} pixels but at least 16x16 are needed"):
        decode_picture(encoded(Image.new("RGB", size)))


def test_picture_without_pixels_is_an_input_error():
    with pytest.raises(InputError):
        decode_picture(png_header(0, 0))


def test_smallest_picture_is_decoded():
    assert decode_picture(encoded(noise(16, 16))).size == (16, 16)


# With small limits.
def test_limits_are_inclusive():
    data = encoded(noise(20, 24))

    assert decode_picture(data, limits=Limits(pixels=480, side=24, size=len(data))).size == (20, 24)
    for limits in (Limits(pixels=479), Limits(side=23), Limits(size=len(data) - 1)):
        with pytest.raises(InputError):
            decode_picture(data, limits=limits)


# By the header alone: 50 million pixels need not be decoded to be let in.
@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(10_000, 5_000, True), (10_000, 5_001, False), (16_384, 3_051, True), (16_385, 16, False), (16, 16_385, False)],
)
def test_default_limits_are_50_million_pixels_and_16384_a_side(width, height, fits, tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(width, height))

    if fits:
        assert read_size(tmp_path / "a.png", Limits()) == (height, width)
    else:
        with pytest.raises(InputError, match="at most 50 million and 16384 a side"):
            read_size(tmp_path / "a.png", Limits())


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_first_of_two_thousand_frames_is_decoded(format):
    frames = [Image.new("L", (16, 16), 255 * (index > 0) - index % 7 * (index > 0)) for index in range(2000)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])

    assert decode_picture(data).rgb.max() == 0
    with pytest.raises(InputError, match=r"is an animation; .* --frames first"):
        decode_picture(data, frames="reject")


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("value", range(10))
def test_orientation_is_applied(format, value):
    upright = noise(17, 20)
    turned = upright.transpose(1, 0, 2)
    # What EXIF says lies at row 0 and column 0 of the stored picture: 6 is the right side and the top.
    stored = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }.get(value, upright)
    options = {"lossless": True} if format == "WEBP" else {}

    picture = decode_picture(encoded(np.ascontiguousarray(stored), format, exif=orientation(value), **options))

    np.testing.assert_array_equal(picture.rgb, upright)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"garbage",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\xff\xff\0\0\0\0",
        b"MM\0*\xff\xff\xff\xff",
    ],
)
def test_damaged_exif_is_ignored(format, exif):
    data = encoded(Image.new("RGB", (20, 24), "white"), format, exif=b"Exif\0\0" + exif)

    assert decode_picture(data).rgb.min() == 255


def test_display_p3_is_converted_to_srgb():
    given = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    linear = np.where(
        given[0, 0] / 255 <= 0.04045, given[0, 0] / 255 / 12.92, ((given[0, 0] / 255 + 0.055) / 1.055) ** 2.4
    )
    matrix = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
    expected = 255 * (1.055 * (matrix @ linear) ** (1 / 2.4) - 0.055)

    picture = decode_picture(encoded(given, icc_profile=display_p3()))

    assert expected[0] > 210  # far from the 200 of a picture whose profile is ignored
    np.testing.assert_allclose(picture.rgb[3, 3], expected, atol=2)  # the profile has 8-bit tables


def test_cmyk_profile_is_used():
    given = Image.new("CMYK", (16, 16), (255, 0, 0, 0))

    picture = decode_picture(encoded(given, "JPEG", icc_profile=white_cyan()))

    assert picture.rgb.min() >= 254


@pytest.mark.parametrize("profile", [b"garbage", b"\0" * 200, display_p3()[:300]])
def test_damaged_profile_is_ignored_with_a_warning(profile, caplog):
    rgb = noise()

    picture = decode_picture(encoded(rgb, icc_profile=profile), "a.png")

    np.testing.assert_array_equal(picture.rgb, rgb)
    assert "a.png: its color profile is ignored" in caplog.text


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_rgb(mode):
    ramp = np.linspace(0, 255, 16 * 16).round().reshape(16, 16)
    image = Image.fromarray(ramp.astype(np.uint8))
    image = Image.fromarray((ramp * 257).astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    expected = np.where(np.asarray(image), 255, 0) if mode == "1" else ramp

    picture = decode_picture(encoded(image))

    np.testing.assert_array_equal(picture.rgb, np.repeat(expected[..., None], 3, axis=2))


def test_palette_colors_and_transparency_survive():
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (8, 0, 16, 16))

    picture = decode_picture(encoded(image, transparency=0))

    assert picture.rgb[3, 3].tolist() == [255, 255, 255]
    assert picture.rgb[3, 12].tolist() == [0, 0, 255]
    assert (picture.alpha[3, 3], picture.alpha[3, 12]) == (0, 255)


def test_16_bit_ramp_is_monotone_and_not_white():
    ramp = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)

    gray = decode_picture(encoded(Image.fromarray(ramp))).rgb[..., 0].ravel()

    assert (np.diff(gray.astype(int)) >= 0).all()
    assert len(np.unique(gray)) == 256


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
def test_jpeg_modes_keep_their_colors(mode):
    color = (90, 90, 90) if mode == "L" else (200, 100, 40)
    image = Image.new("RGB", (16, 16), color).convert(mode)

    picture = decode_picture(encoded(image, "JPEG", quality=100))

    np.testing.assert_allclose(picture.rgb[8, 8], color, atol=3)  # JPEG is not lossless


def test_gray_with_alpha_keeps_both():
    image = Image.merge("LA", (Image.new("L", (16, 16), 80), Image.linear_gradient("L").resize((16, 16))))

    picture = decode_picture(encoded(image))

    np.testing.assert_array_equal(picture.alpha, np.asarray(image.getchannel("A")))
    assert picture.rgb[0, 0].tolist() == [round(80 * a + 255 * (1 - a)) for a in [picture.alpha[0, 0] / 255] * 3]


def test_colors_under_full_transparency_are_not_seen():
    pixels = np.zeros((32, 32, 4), dtype=np.uint8)
    pixels[:, :15] = 0, 0, 255, 255
    pixels[:, 15:] = 255, 0, 0, 0

    picture = decode_picture(encoded(pixels), max_size=16)

    assert picture.alpha.min() == 0
    np.testing.assert_array_equal(picture.rgb[..., 0], picture.rgb[..., 1])  # between blue and white there is no red
    np.testing.assert_array_equal(picture.rgb[:, 12:], 255)


def test_opaque_alpha_is_dropped():
    assert decode_picture(encoded(Image.new("RGBA", (16, 16), (1, 2, 3, 255)))).alpha is None


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_nothing_of_the_metadata_reaches_the_output(format):
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    exif.get_ifd(0x8825)[1] = "N"
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "<script>alert(1)</script>")
    given = encoded(noise(), exif=exif.tobytes(), pnginfo=text, icc_profile=display_p3())

    written = encode_picture(decode_picture(given), format)

    assert b"script" in given
    assert b"script" not in written
    assert not {"exif", "icc_profile", "xmp", "comment", "Title"} & Image.open(BytesIO(written)).info.keys()


def test_limit_of_pillow_is_left_alone():
    script = (
        "from PIL import Image; a = Image.MAX_IMAGE_PIXELS; import fastnst.image; assert Image.MAX_IMAGE_PIXELS == a"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_is_no_ordinary_file_is_an_input_error_and_never_waited_for(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to("nothing.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")

    for name in ("folder.jpg", "pipe.jpg", "broken.jpg", "loop.jpg", "missing.jpg", "a" * 300 + ".jpg"):
        with pytest.raises(InputError, match=name):
            read_picture(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_an_input_error(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise()))
    path.chmod(0)

    with pytest.raises(InputError, match="Permission denied"):
        read_picture(path)


def test_from_pil_does_not_change_the_given_image():
    image = Image.fromarray(noise(17, 20))
    image.getexif()[0x0112] = 6
    before = image.tobytes()

    assert from_pil(image).size == (20, 17)
    assert (image.tobytes(), image.getexif()[0x0112]) == (before, 6)


@pytest.mark.parametrize(("size", "expected"), [((100, 60), (50, 30)), ((40, 50), (40, 50)), ((99, 101), (49, 50))])
def test_shrink_bounds_the_longer_side_and_never_enlarges(size, expected):
    assert shrink(Picture(noise(*size)), 50).size == expected


def test_shrink_refuses_a_result_that_is_too_thin():
    with pytest.raises(InputError, match="scaled down to 50 pixels is 50x5 pixels but at least 16x16"):
        shrink(Picture(noise(20, 200)), 50)


@pytest.mark.parametrize("option", ["max_size", "short_side"])
def test_jpeg_decoded_small_looks_like_one_scaled_down(option):
    smooth = np.asarray(Image.fromarray(noise(8, 8)).resize((512, 512), Image.Resampling.BICUBIC))
    data = encoded(smooth, "JPEG", quality=95)

    small = decode_picture(data, **{option: 64})
    expected = shrink(decode_picture(data), small.size[0])

    assert small.size == (64, 64)
    assert np.abs(small.rgb.astype(int) - expected.rgb).mean() < 3  # two filters, a smooth picture


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_survives_encoding(format):
    alpha = np.tile(np.linspace(0, 255, 24).astype(np.uint8), (20, 1))

    image = Image.open(BytesIO(encode_picture(Picture(noise(), alpha), format)))

    np.testing.assert_array_equal(np.asarray(image.getchannel("A")), alpha)


def test_png_is_lossless():
    rgb = noise()

    np.testing.assert_array_equal(decode_picture(encode_picture(Picture(rgb), "PNG")).rgb, rgb)


def test_jpeg_puts_transparency_on_white():
    picture = Picture(np.zeros((16, 16, 3), dtype=np.uint8), np.zeros((16, 16), dtype=np.uint8))

    assert decode_picture(encode_picture(picture, "JPEG")).rgb.min() == 255


def test_picture_too_large_for_the_format_is_an_output_error():
    wide = Picture(np.zeros((16, 16_384 + 16, 3), dtype=np.uint8))

    with pytest.raises(OutputError, match="16400x16 as WEBP"):
        encode_picture(wide, "WEBP")


def test_write_picture_goes_by_the_suffix(tmp_path):
    for name, format in {"a.jpg": "JPEG", "b.JPEG": "JPEG", "c.png": "PNG", "d.webp": "WEBP"}.items():
        write_picture(Picture(noise()), tmp_path / name)

        assert looks_like_image((tmp_path / name).read_bytes()) == format


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt", "png"])
def test_output_of_another_suffix_is_a_usage_error_that_lists_them(name):
    with pytest.raises(UsageError, match=r"must end in \.jpg, \.jpeg, \.png, \.webp"):
        output_format(name)


def test_a_style_of_which_nothing_can_be_seen_is_refused_and_one_with_a_dot_is_not(tmp_path):
    path = tmp_path / "clear.png"
    image = Image.new("RGBA", (40, 30), (255, 0, 0, 0))
    image.save(path)

    with pytest.raises(InputError, match=r"clear\.png is fully transparent"):
        read_style(path, 64)
    image.putpixel((20, 15), (255, 0, 0, 255))
    image.save(path)
    assert read_style(path, 64).size == (48, 64)


def test_a_picture_that_becomes_too_small_is_named(tmp_path):
    path = tmp_path / "narrow.png"
    Image.new("RGB", (400, 20)).save(path)

    with pytest.raises(InputError, match=r"narrow\.png scaled down to 64 pixels is 64x3 pixels"):
        read_picture(path, max_size=64)
