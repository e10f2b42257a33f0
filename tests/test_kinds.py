from pathlib import Path

import pytest
from helpers.photos import noise_file

from fastnst.kinds import Kind, kind_of, why_unreadable

FTYP = b"\0\0\0\x18ftyp"
DRAWING = b'<?xml version="1.0"?>\n<!-- a circle -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.heic", b"", Kind.UNREADABLE),
        ("a.cr3", FTYP + b"crx ", Kind.UNREADABLE),
        ("a", FTYP + b"crx ", Kind.UNREADABLE),
        ("a", b"\0\0\0\x0cJXL \r\n\x87\n", Kind.UNREADABLE),
        ("a.jxl", b"\xff\n", Kind.UNREADABLE),
        ("a", b"\0\0\0\x0cjP  \r\n\x87\n", Kind.UNREADABLE),
        ("a", b"8BPS\0\1", Kind.UNREADABLE),
        ("a.nef", b"MM\0*\0\0\0\x08", Kind.UNREADABLE),
        ("a.DNG", b"II*\0\x08\0\0\0", Kind.UNREADABLE),
        ("a.arw", b"", Kind.UNREADABLE),
        ("a", DRAWING, Kind.UNREADABLE),
        ("a.jpg", b"", Kind.UNREADABLE),
        ("a.JPG", b"<html>", Kind.UNREADABLE),
        ("a.wmv", b"", Kind.UNREADABLE),
        ("a.mp4", b"<html>", Kind.UNREADABLE),
        ("a.txt", b"BM is not always a bitmap", Kind.OTHER),
        ("a.xml", b"<?xml version='1.0'?><rss/>", Kind.OTHER),
        ("a.ts", b"export const a = 1", Kind.OTHER),
        ("a.pdf", b"%PDF-1.7", Kind.OTHER),
        ("a.m4a", FTYP + b"mp42", Kind.OTHER),
        ("a", FTYP + b"M4A ", Kind.OTHER),
        ("._a.jpg", b"\0\5\x16\7\0\2\0\0", Kind.OTHER),
        ("._a.mov", b"\0\5\x16\7\0\2\0\0", Kind.OTHER),
        ("a", FTYP + b"isom", Kind.CLIP),
        ("a.jpg", FTYP + b"isom", Kind.UNREADABLE),
    ],
)
def test_kinds_by_first_bytes_and_names(tmp_path, name, data, kind):
    path = tmp_path / name
    path.write_bytes(data.ljust(64, b"\0") if data.startswith(b"\0") else data)

    assert kind_of(path, lambda path: b"ftyp" in path.read_bytes()[:8]) is kind


@pytest.mark.parametrize(("name", "format"), [("a.jpg", "PNG"), ("a", "JPEG"), ("a.txt", "WEBP"), ("a.nef", "JPEG")])
def test_a_picture_is_one_whatever_its_name(tmp_path, name, format):
    noise_file(tmp_path / name, format=format)

    assert kind_of(tmp_path / name) is Kind.PICTURE


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.psd", b"8BPS\0\1", ""),
        ("a.nef", b"MM\0*\0\0\0\x08", "is a raw photograph"),
        ("a.wmv", b"0&\xb2u", "is not a video fastnst reads"),
        ("a.jpg", b"", "is empty"),
        ("missing.jpg", None, "cannot read"),
    ],
)
def test_the_reason_is_told(tmp_path, name, data, said):
    path: Path = tmp_path / name
    if data is not None:
        path.write_bytes(data)

    assert said in str(why_unreadable(path))
    assert str(path) in str(why_unreadable(path))
