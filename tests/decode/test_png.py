import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from helpers.clips import read
from helpers.material import PROGRAMS
from helpers.photos import noise
from helpers.picture_files import chunk, directory, encoded, gamma, png, profile
from PIL import Image

from fastnst.image import Limits, decode_picture, read_size

LONG = b"x" * 3_000_000
XMP = b'<rdf:Description tiff:Orientation="6"/>'
EXIF = directory(">", (0x112, 3, 1, b"\0\6"))
TEXTS = {
    "a compressed text": chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG)),
    "a text": chunk(b"tEXt", b"a\0" + LONG * 25),
    "an international text": chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(LONG)),
    "many texts": chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG[:1_000_000])) * 80,
    "a text packed in another way": chunk(b"zTXt", b"a\0\7" + LONG[:100]),
    "a damaged text": chunk(b"zTXt", b"a\0\0" + LONG[:100]),
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    "an empty text": chunk(b"iTXt", b""),
    "a profile that is none": chunk(b"iCCP", b"a\0\0" + zlib.compress(LONG)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_keeps_a_picture_from_being_decoded(name, tmp_path):
    rgb = noise()
    plain = encoded(rgb)

    for data in (plain[:33] + TEXTS[name] + plain[33:], plain[:-12] + TEXTS[name] + plain[-12:]):
        np.testing.assert_array_equal(decode_picture(data).rgb, rgb)
        (tmp_path / "a.png").write_bytes(data)
        assert read_size(tmp_path / "a.png", Limits()) == (20, 24)


def test_what_expands_a_thousandfold_takes_no_memory():
    bomb = zlib.compress(bytes(120 << 20), 1)
    kinds = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0", b"iCCP": b"\0\0"}
    plain = encoded(noise())
    data = (
        plain[:33]
        + b"".join(chunk(kind, b"XML:com.adobe.xmp" + head + bomb) for kind, head in kinds.items())
        + plain[33:]
    )

    command = [sys.executable, PROGRAMS / "decode_in_memory.py"]
    done = subprocess.run(command, input=data, capture_output=True, check=False)

    assert done.returncode <= 64, done.stderr  # MiB
    assert done.stdout == b"24x20\n"


# Each is larger than Pillow inflates, or goes on to be.
@pytest.mark.parametrize(
    "turning",
    [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + LONG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP + LONG),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  26\n" + EXIF.hex().encode() + b"\n")),
        chunk(b"tEXt", b"Raw profile type APP1\0\ngeneric\n  32\n" + (b"Exif\0\0" + EXIF).hex().encode()),
        chunk(b"eXIf", EXIF),
    ],
)
def test_what_turns_a_picture_is_found_in_every_kind_of_text(turning):
    plain = encoded(noise())

    assert decode_picture(plain[:33] + turning + plain[33:]).size == (24, 20)
    assert decode_picture(plain[:-12] + turning + plain[-12:]).size == (24, 20)


def test_a_profile_of_more_than_a_mebibyte_is_used():
    linear = profile(b"RGB ", gamma(1))
    padded = linear + os.urandom(2 << 20)
    padded = struct.pack(">I", len(padded)) + padded[4:]
    plain = encoded(np.full((16, 16, 3), 55, dtype=np.uint8))

    picture = decode_picture(plain[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(padded)) + plain[33:])

    expected = 255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    assert np.abs(picture.rgb - expected).max() <= 1


@pytest.mark.parametrize(("written", "power"), [(100_000, 1), (55_556, 1.8), (38_462, 2.6)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_gamma_without_a_profile_is_used(mode, written, power):
    plain = encoded(Image.new("L", (16, 16), 55).convert(mode))

    picture = decode_picture(plain[:33] + chunk(b"gAMA", struct.pack(">I", written)) + plain[33:])

    expected = 255 * (1.055 * (55 / 255) ** (power / 2.4) - 0.055)  # IEC 61966-2-1
    assert np.abs(picture.rgb - expected).max() <= 1


@pytest.mark.parametrize("chunks", [[(b"gAMA", 45_455)], [(b"gAMA", 0)], [(b"sRGB", None), (b"gAMA", 100_000)]])
def test_a_gamma_of_srgb_or_beside_it_changes_nothing(chunks):
    rgb = noise()
    plain = encoded(rgb)
    data = b"".join(chunk(kind, b"\0" if value is None else struct.pack(">I", value)) for kind, value in chunks)

    np.testing.assert_array_equal(decode_picture(plain[:33] + data + plain[33:]).rgb, rgb)


def test_an_animation_with_a_long_text_is_read(tmp_path):
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(3)]
    data = encoded(frames[0], save_all=True, append_images=frames[1:])
    (tmp_path / "a.png").write_bytes(data[:33] + TEXTS["a compressed text"] + data[33:])

    for frame, expected in zip(read(tmp_path / "a.png"), frames, strict=True):
        np.testing.assert_array_equal(frame.picture.rgb, np.asarray(expected))


@pytest.mark.parametrize("cut", [1, 9, 13, 100, 800])
def test_what_is_left_of_a_file_with_texts_is_decoded(cut):
    rgb = noise()
    plain = encoded(rgb)

    picture = decode_picture((plain[:33] + chunk(b"tEXt", b"a\0b") + plain[33:])[:-cut], allow_truncated=True)

    np.testing.assert_array_equal(picture.rgb[:4], rgb[:4])


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_gray_with_a_transparent_color_keeps_it(depth):
    levels = 2**depth
    samples = np.arange(256).reshape(16, 16) * (257 if depth == 16 else 1) % levels
    clear = samples[3, 5]

    picture = decode_picture(png(samples, depth, chunk(b"tRNS", struct.pack(">H", clear))))

    np.testing.assert_array_equal(picture.alpha, np.where(samples == clear, 0, 255))
    opaque = np.rint(samples * 255 / (levels - 1))
    np.testing.assert_array_equal(picture.rgb[..., 0], np.where(samples == clear, 255, opaque))


@pytest.mark.parametrize("depth", [8, 16])
def test_rgb_with_a_transparent_color_keeps_it_and_no_other(depth):
    samples = np.full((16, 16, 3), (0x12, 0x56, 0x9A) if depth == 8 else (0x1234, 0x5678, 0x9ABC))
    samples[:, 8:, 1] += 1  # in 16 bits, the same upper half

    picture = decode_picture(png(samples, depth, chunk(b"tRNS", struct.pack(">3H", *samples[0, 0]))))

    np.testing.assert_array_equal(picture.alpha, np.repeat([[0] * 8 + [255] * 8], 16, axis=0))
    np.testing.assert_array_equal(picture.rgb[:, 8:], samples[:, 8:] >> (depth - 8))


def test_a_transparent_color_in_16_bits_is_turned_with_its_picture():
    samples = np.full((16, 20, 3), 0x1234)
    samples[:4] = 0x1235

    picture = decode_picture(png(samples, 16, chunk(b"tRNS", struct.pack(">3H", *[0x1235] * 3)), chunk(b"eXIf", EXIF)))

    assert picture.size == (20, 16)
    np.testing.assert_array_equal(picture.alpha, np.repeat([[255] * 12 + [0] * 4], 20, axis=0))
