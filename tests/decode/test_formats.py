import pytest
from helpers.material import DATA
from helpers.photos import noise
from helpers.picture_files import chunk, encoded

from fastnst.decode.formats import HEAD, MAGIC, looks_like_image
from fastnst.errors import UnsupportedFormatError
from fastnst.image import decode_picture

FOREIGN = {
    "camera's raw photograph": [
        b"II*\0\x10\0\0\0CR\2\0",
        b"FUJIFILMCCD-RAW 0201",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    ],
    "JPEG XL": [b"\xff\x0a\xfa\x7f", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\x2f"],
    "Photoshop": [b"8BPS\0\1"],
    "CgBI": [b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2"],
}


def container(major: bytes, *others: bytes) -> bytes:
    return (16 + 4 * len(others)).to_bytes(4, "big") + b"ftyp" + major + bytes(4) + b"".join(others) + b"\0\0\0\x08free"


@pytest.mark.parametrize("format", [name for name in MAGIC if name != "HEIF"])
def test_sixteen_bytes_of_what_is_written_tell_its_format(format):
    assert looks_like_image(encoded(noise(), format)[:16]) == format


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (container(b"avif", b"mif1", b"miaf"), "AVIF"),
        (container(b"avis", b"avif", b"msf1", b"iso8"), "AVIF"),
        (container(b"mif1", b"avif", b"miaf"), "AVIF"),
        (container(b"msf1", b"iso8", b"avis"), "AVIF"),
        (container(b"miaf", b"MA1B"), "AVIF"),
        (container(b"heic", b"mif1"), "HEIF"),
        (container(b"mif1", b"heic"), "HEIF"),
        (container(b"mif1"), "HEIF"),
        (container(b"isom", b"iso2", b"mp41"), None),
        (container(b"qt  "), None),
        (container(b"isom") + b"avif", None),  # behind the box of brands
        (b"BMW makes cars in Munich", None),
        (b"II*", None),
        (b"", None),
    ],
)
def test_brands_and_headers_tell_the_format(data, format):
    assert looks_like_image(data[:HEAD]) == format


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, heads in FOREIGN.items() for data in heads])
def test_a_picture_of_a_format_that_is_not_read_is_refused_by_its_name(name, data):
    with pytest.raises(
        UnsupportedFormatError, match=rf"^a\.png is a .*{name}.*, which is not read; convert it to one of"
    ):
        decode_picture(data + bytes(100), "a.png")


def test_a_png_of_an_iphone_app_is_refused_with_the_program_that_converts_it():
    plain = encoded(noise())

    with pytest.raises(UnsupportedFormatError, match="pngcrush -revert-iphone-optimizations"):
        decode_picture(plain[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + plain[8:])


@pytest.mark.parametrize("brand", [b"avif", b"mif1", b"msf1", b"miaf"])
def test_an_avif_is_decoded_under_every_brand_that_its_file_may_begin_with(brand):
    data = (DATA / "mif1.avif").read_bytes()

    picture = decode_picture(data[:8] + brand + data[12:])

    assert picture.size == (160, 240)
    assert abs(picture.rgb.mean() - 89) < 1
