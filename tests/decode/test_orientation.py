import itertools
import struct
from io import BytesIO

import numpy as np
import pytest
from helpers.photos import noise
from helpers.picture_files import chunk, directory, encoded, with_exif
from PIL import Image, ImageOps

from fastnst.data import Photographs
from fastnst.decode.orientation import exif_orientation
from fastnst.image import decode_picture, from_pil, read_style

# TIFF's types, two that do not exist, and the bytes of a value.
SIZES = {
    0: 1,
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
    99: 1,
}
WRONG = [
    bytes(64),
    b"\xff" * 64,
    b"72\0garbage" * 8,
    struct.pack("<16I", *[72, 1, 0, 0] * 4),
    struct.pack("<8d", *[np.nan] * 8),
]
TAGS = {"XResolution": 0x11A, "ResolutionUnit": 0x128, "Make": 0x10F, "DateTime": 0x132, "EXIF": 0x8769, "GPS": 0x8825}
STORED = np.zeros((32, 48, 3), dtype=np.uint8)
STORED[:16] = 200


def tag(value: int, order: str = "<") -> tuple[int, int, int, bytes]:
    return 0x112, 3, 1, struct.pack(order + "H", value)


@pytest.mark.parametrize("name", TAGS)
def test_no_other_tag_of_whatever_type_and_value_keeps_a_picture_from_being_turned(name):
    plain = encoded(STORED, "JPEG")
    cases = list(itertools.product("<>", SIZES, (0, 1, 2, 3, 70_000), WRONG))

    for order, kind, count, wrong in cases:
        entry = TAGS[name], kind, count, wrong[: max(1, SIZES[kind] * count)]
        data = with_exif(plain, directory(order, tag(6, order), entry))

        assert decode_picture(data).size == (48, 32), (order, kind, count, wrong)
    assert len(cases) == 900


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "code"), [(1, "B"), (3, "H"), (4, "I"), (6, "b"), (8, "h"), (9, "i"), (11, "f"), (12, "d"), (16, "Q")]
)
def test_an_orientation_of_any_type_of_number_counts(order, kind, code):
    for value in range(1, 9):
        assert exif_orientation(directory(order, (0x112, kind, 1, struct.pack(order + code, value)))) == value


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (5, struct.pack("<II", 6, 1), 6),
        (5, struct.pack("<II", 12, 2), 6),
        (5, struct.pack("<II", 6, 0), None),
        (5, struct.pack("<II", 13, 2), None),
        (2, b"6\0", 6),
        (2, b"sideways\0", None),
        (3, struct.pack("<H", 0), None),
        (3, struct.pack("<H", 9), None),
        (11, struct.pack("<f", float("nan")), None),
        (12, struct.pack("<d", 6.5), None),
        (99, b"\6", None),
    ],
)
def test_an_orientation_is_a_whole_number_from_one_to_eight(kind, value, expected):
    assert exif_orientation(directory("<", (0x112, kind, len(value) if kind == 2 else 1, value))) == expected


def test_every_beginning_of_exif_data_is_read_as_far_as_it_goes():
    whole = directory("<", (0x10F, 2, 8, b"camera \0"), tag(6), (0x132, 2, 20, b"2020:01:01 00:00:00\0"))

    found = [exif_orientation(whole[:length]) for length in range(len(whole) + 1)]

    assert set(found) == {None, 6}
    assert found == sorted(found, key=bool)
    assert exif_orientation(b"Exif\0\0Exif\0\0" + whole) == 6


def test_exif_data_in_the_form_of_a_bigtiff_is_read():
    assert exif_orientation(directory(">", tag(8, ">"), big=True)) == 8


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("xmp", [XMP, XMP.replace(b'="6"/>', b">6</tiff:Orientation>")])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_xmp_turns_where_exif_says_nothing(format, xmp):
    if format == "PNG":
        plain = encoded(STORED)
        data = plain[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + plain[33:]
    else:
        data = encoded(STORED, format, xmp=xmp)

    assert decode_picture(data).size == (48, 32)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("format", ["TIFF", "AVIF"])
def test_pictures_whose_decoder_turns_them_too_are_turned_once(format, value):
    image = Image.fromarray(noise(24, 32))
    image.getexif()[0x112] = value
    options = {"quality": 100, "subsampling": "4:4:4"} if format == "AVIF" else {"compression": "tiff_lzw"}

    picture = decode_picture(encoded(image, format, exif=image.getexif().tobytes(), **options))

    expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb - expected).max() <= (8 if format == "AVIF" else 0)


def test_a_tiff_is_turned_whatever_its_other_tags_hold():
    image = Image.fromarray(STORED)
    exif = Image.Exif()
    exif[0x112] = 6
    data = encoded(image, "TIFF", exif=exif, resolution_unit=3, x_resolution=72, y_resolution=72)
    at = data.index(struct.pack("<HHI", 0x11A, 5, 1))
    data = data[: at + 2] + struct.pack("<HI", 2, 3) + b"72\0\0" + data[at + 12 :]

    assert decode_picture(data).size == (48, 32)


def test_damaged_exif_data_of_an_avif_is_no_reason_against_it():
    exif = directory("<", tag(1), (0x10E, 2, 200, b"x" * 200))
    data = encoded(STORED, "AVIF", exif=exif)
    start = data.index(exif[:4])

    for wrong in (bytes(100), b"\xff" * 100, exif[:8] + b"\xff" * 92):
        assert decode_picture(data[:start] + wrong + data[start + 100 :]).size == (32, 48)


def test_the_frames_of_an_animation_are_turned(tmp_path):
    from helpers.clips import read

    frames = [Image.fromarray(STORED), Image.fromarray(255 - STORED)]
    exif = Image.Exif()
    exif[0x112] = 6
    (tmp_path / "a.webp").write_bytes(
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, exif=exif.tobytes())
    )

    assert [frame.picture.size for frame in read(tmp_path / "a.webp")] == [(48, 32)] * 2


GPS_OF_A_WRONG_TYPE = (0x8825, 4, 1, struct.pack("<I", 8))


def test_crops_and_styles_of_decoded_halves_are_upright(tmp_path):
    """Where Pillow decodes a JPEG at a fraction of its size."""
    stored = np.zeros((512, 768, 3), dtype=np.uint8)
    stored[:256] = 200  # upright by 6, that is the right half
    data = with_exif(encoded(stored, "JPEG"), directory("<", tag(6), (0x11A, 2, 3, b"72\0"), GPS_OF_A_WRONG_TYPE))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(data)

    middle = Photographs(tmp_path / "photos", 64, seed=0).middle(tmp_path / "photos" / "a.jpg")
    style = read_style(tmp_path / "photos" / "a.jpg", 96)

    assert style.size == (96, 64)
    for pixels in (middle, style.rgb):
        half = pixels.shape[1] // 2
        assert pixels[:, : half - 4].max() < 10
        assert pixels[:, half + 4 :].min() > 190


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_an_image_of_pillow_is_turned_by_the_tags_it_has_now(format):
    exif = Image.Exif()
    exif[0x112] = 6
    opened = Image.open(BytesIO(encoded(STORED, format, exif=exif)))
    changed = Image.open(BytesIO(encoded(STORED, format, exif=exif)))
    changed.load()
    changed.getexif()[0x112] = 1

    assert from_pil(opened).size == (48, 32)
    assert from_pil(changed).size == changed.size[::-1]
