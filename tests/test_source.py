"""What programs have of a picture, against its pixels."""

import array
import io
import mmap
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photos import noise, noise_file
from PIL import Image

from fastnst.errors import InputError, UsageError
from fastnst.image import Picture
from fastnst.source import from_source

RGB = noise()  # (20, 24, 3)
UNIT = RGB / 255
PLANES = torch.from_numpy(RGB).permute(2, 0, 1)
NO_PICTURE = r"is no picture; give one of \(H, W\), \(H, W, 1\), \(H, W, 3\) or \(H, W, 4\)"


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def at_its_end(data):
    buffer = io.BytesIO()
    buffer.write(data)
    return buffer


def in_archive(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", data)
    return zipfile.ZipFile(buffer).open("a.png")


class Pipe:
    """Neither goes back nor gives more than 7 bytes at once."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def read(self, size=-1):
        return self.file.read(min(size, 7))


class Library:
    """An array of another library."""

    def __array__(self, dtype=None, copy=None):
        return RGB


ENCODED = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "array": lambda data: array.array("B", data),
    "file": io.BytesIO,
    "written file": at_its_end,
    "archive": in_archive,
    "pipe": Pipe,
}
NUMBERS = {
    "uint8": RGB,
    "read-only": read_only(RGB),
    "of Fortran": np.asfortranarray(RGB),
    "flipped twice": RGB[::-1].copy()[::-1],
    "memoryview": memoryview(RGB),
    "uint16": RGB.astype(np.uint16) * 257,
    "uint16, big-endian": (RGB.astype(np.uint16) * 257).astype(">u2"),
    "float64": UNIT,
    "float32": UNIT.astype(np.float32),
    "float32, big-endian": UNIT.astype(">f4"),
    "float16": UNIT.astype(np.float16),
    "rounded beyond 1": UNIT.astype(np.float32) * (1 + np.finfo(np.float32).eps),
    "another library's": Library(),
    "tensor": PLANES / 255,
    "tensor of 8 bits": PLANES,
    "tensor of a batch": PLANES[None] / 255,
    "tensor with a gradient": (PLANES / 255).requires_grad_(),
    "tensor of bfloat16": (PLANES / 255).bfloat16(),
    "picture": Picture(RGB),
}


@pytest.mark.parametrize("kind", ENCODED)
def test_encoded_pictures_are_decoded(kind, tmp_path):
    data = noise_file(tmp_path / "a.png").read_bytes()

    np.testing.assert_array_equal(from_source(ENCODED[kind](data)).rgb, RGB)


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_paths_and_mapped_files_are_decoded(kind, tmp_path):
    path = noise_file(tmp_path / "a.png")

    if kind is os.fsencode:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert np.array_equal(from_source(mapped).rgb, RGB)
            assert np.array_equal(from_source(file).rgb, RGB)
            assert not file.closed
    else:
        np.testing.assert_array_equal(from_source(kind(path)).rgb, RGB)


@pytest.mark.parametrize("kind", NUMBERS)
def test_arrays_and_tensors_are_pixels(kind):
    picture = from_source(NUMBERS[kind])

    np.testing.assert_array_equal(picture.rgb, RGB)
    assert picture.alpha is None


@pytest.mark.parametrize("white", [255, 1.0], ids=["uint8", "float"])
def test_gray_and_transparent_arrays(white):
    values = RGB if white == 255 else UNIT
    gray = np.repeat(RGB[..., :1], 3, axis=2)

    np.testing.assert_array_equal(from_source(values[..., 0]).rgb, gray)
    np.testing.assert_array_equal(from_source(values[..., :1]).rgb, gray)
    picture = from_source(np.dstack([values, values[..., 0]]))
    np.testing.assert_array_equal(picture.alpha, RGB[..., 0])
    np.testing.assert_array_equal(picture.rgb, np.rint(255 - (255 - RGB.astype(int)) * (RGB[..., :1] / 255)))


def test_true_is_white():
    np.testing.assert_array_equal(from_source(RGB[..., 0] > 99).rgb[..., 1], (RGB[..., 0] > 99) * 255)


def test_an_array_is_copied():
    values = RGB.copy()
    picture = from_source(values)
    values[:] = 0

    np.testing.assert_array_equal(picture.rgb, RGB)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (RGB.transpose(2, 0, 1), rf"array of uint8 \(3, 20, 24\) {NO_PICTURE}: transpose\(1, 2, 0\)"),
        (np.zeros((20, 24, 5)), rf"float64 \(20, 24, 5\) {NO_PICTURE}"),
        (np.zeros((20, 24, 2), np.uint8), NO_PICTURE),
        (RGB[None], rf"\(1, 20, 24, 3\) {NO_PICTURE}, one picture at a time"),
        (np.zeros(20, np.uint8), NO_PICTURE),
        (np.float32(1), NO_PICTURE),
        (RGB.astype(np.int64), "array of int64 .* give bool, uint8 0..255, uint16 0..65535 or floats 0..1"),
        (RGB * 1j, "array of complex128"),
        (RGB.astype(object), "array of object"),
        (RGB.astype(float), "from 0 to 255 but floats are 0..1; divide it by 255"),
        (UNIT - 0.25, "from -0.25 to 0.75 but floats are 0..1; scale or clip it"),
        (UNIT * 1.01, "from 0 to 1.01 but"),
        (np.where(RGB > 250, np.nan, 0.5), r"has \d+ values that are NaN or infinite"),
        (np.where(RGB > 250, np.inf, 0.5), r"has \d+ values that are NaN or infinite"),
        (np.ma.masked_array(RGB, RGB > 99), "masked values"),
        (torch.from_numpy(RGB), r"Tensor of torch.uint8 \(20, 24, 3\) .*permute\(2, 0, 1\)"),
        (torch.zeros(2, 3, 20, 24), r"\(2, 3, 20, 24\) is no picture"),
        (torch.zeros(3, 20, 24).to_sparse(), "no plain tensor"),
        (torch.zeros(3, 20, 24, device="meta"), "no plain tensor"),
        (None, "None is no picture; give a path"),
        ([[0, 1]], "a list is no picture"),
        (3, "3 is no picture"),
        (Image.Image, "a type is no picture"),
        ("https://example.org/a//b.jpg?x=1", r"^https://example\.org/a//b\.jpg\?x=1 is an address, .* not fetched"),
        (Path("https://example.org/b.jpg"), r"^https://example\.org/b\.jpg is an address"),
        ("file:///home/a.jpg", r"^file:///home/a\.jpg is an address"),
        ("data:image/png;base64,AA", "^data:image/png;base64,AA is an address"),
    ],
)
def test_what_is_no_picture_is_refused_by_type_shape_and_values(values, reason):
    with pytest.raises(UsageError, match=reason):
        from_source(values)


@pytest.mark.parametrize("shape", [(0, 24, 3), (20, 0), (15, 24, 3)])
def test_an_array_without_enough_pixels_is_an_input_error(shape):
    with pytest.raises(InputError, match=rf"{shape[1]}x{shape[0]} pixels but at least 16x16"):
        from_source(np.zeros(shape))


class Upload:
    """A file as servers have them, which is awaited."""

    async def read(self, size=-1):
        return b""


def test_files_that_cannot_be_read_say_so(tmp_path):
    path = noise_file(tmp_path / "a.png")
    with path.open("rb") as closed:
        pass

    with pytest.raises(InputError, match=r"a\.png cannot be read \(I/O operation on closed file"):
        from_source(closed)
    with path.open(encoding="latin-1") as text, pytest.raises(UsageError, match=r"a\.png gives str, not bytes"):
        from_source(text)
    with (tmp_path / "new").open("wb") as new, pytest.raises(InputError, match="cannot be read"):
        from_source(new)
    with pytest.raises(InputError, match="empty, or was read to its end"):
        from_source(io.BytesIO())
    with pytest.raises(UsageError, match="an Upload is read asynchronously"):
        from_source(Upload())
    view = memoryview(b"")
    view.release()
    with pytest.raises(InputError, match="released memoryview"):
        from_source(view)


def test_a_closed_image_says_that_it_is_closed(tmp_path):
    with Image.open(noise_file(tmp_path / "a.png")) as closed:
        pass
    new = Image.new("RGB", (20, 20))
    new.close()

    for image in (closed, new):
        with pytest.raises(InputError, match="is closed; use the image before that"):
            from_source(image)


def test_a_truncated_image_is_taken_only_if_allowed(tmp_path):
    data = noise_file(tmp_path / "a.png").read_bytes()
    cut = data[: len(data) // 2]

    with pytest.raises(InputError, match="damaged"):
        from_source(Image.open(io.BytesIO(cut)))
    picture = from_source(Image.open(io.BytesIO(cut)), allow_truncated=True)
    np.testing.assert_array_equal(picture.rgb[:5], RGB[:5])
