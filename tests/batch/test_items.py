import pickle
import sys

import pytest
from helpers.photos import noise_file

from fastnst.batch.items import Item, failed, is_clip_name, is_wanted_name, name_problem, output_name, safe, suffix_of
from fastnst.config import StylizeOptions
from fastnst.errors import InputError, SizeError
from fastnst.folder import plan

OPTIONS = StylizeOptions()


def item(kept, **fields):
    return Item(kept, kept, kept, **fields)


@pytest.mark.parametrize("format", [None, "jpg", "png", "webp"])
def test_outputs_are_called_as_stylize_calls_them(format, tmp_path):
    names = ["a.jpg", "B.JPEG", "c.png", "d.tif", "e.gif", "f", "g.image", "h.i.webp", "deep/er/j k.bmp", "x.jpe"]
    for name in names:
        noise_file(tmp_path / "in" / name, format="PNG")
    options = StylizeOptions(format=format)

    targets = {str(job.source): job.target for job in plan([str(tmp_path / "in")], str(tmp_path / "out"), options)}

    for name in names:
        assert tmp_path / "out" / output_name(item(name), options) == targets[str(tmp_path / "in" / name)]


@pytest.mark.parametrize(
    ("kept", "name"),
    [("a/b.mp4", "a/b.mp4"), ("b.MOV", "b.MOV"), ("b.avi", "b.mp4"), ("b.webm", "b.webm"), ("b", "b.mp4")],
)
def test_clips_keep_their_kind_where_it_can_be_written(kept, name):
    assert output_name(item(kept, clip=True), OPTIONS) == name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("/a//b/./c.jpg", "a/b/c.jpg"),
        ("a/../b.jpg", "b.jpg"),
        ("C:\\Users\\x.jpg", "C/Users/x.jpg"),
        ("c:x.jpg", "c/x.jpg"),
        ("\\\\server\\share\\x.jpg", "server/share/x.jpg"),
        ("a..b/...jpg", "a..b/...jpg"),
        (" a\n.jpg", " a\n.jpg"),
        ("\udcff.jpg", "\udcff.jpg"),
    ],
)
def test_names_from_somewhere_else_are_made_safe(name, kept):
    assert safe(name) == kept


@pytest.mark.parametrize("name", ["..", "../x.jpg", "a/../../x.jpg", "..\\x.jpg", "", "/", ".", "a/..", "a\0.jpg"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(InputError, match="give"):
        safe(name)
    assert safe(failed(name, name, InputError("x")).kept) == "unusable"


@pytest.mark.parametrize(
    ("name", "remote", "problem"),
    [
        ("x" * 251 + ".jpg", False, None),
        ("x" * 252 + ".jpg", False, "too long"),
        ("ü" * 126 + ".jpg", False, "too long"),
        ("/".join(["x" * 100] * 12) + ".jpg", False, None),
        ("/".join(["x" * 100] * 12) + ".jpg", True, "too long"),
        ("\udcff.jpg", False, None),
        ("\udcff.jpg", True, "no text"),
    ],
)
def test_names_that_no_output_can_have_are_told(name, remote, problem):
    found = name_problem(name, remote=remote)

    assert found is None if problem is None else problem in found


def test_what_failed_before_has_its_code():
    error = failed("a\0b", "../x", SizeError("too large"))

    assert (error.error, error.code, error.kept) == ("too large", "image_dimensions", "unusable")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a/B.JPG", ".jpg"),
        ("https://host/a.jpg?w=1.5#x.png", ".jpg"),
        ("s3://b/a?b.png", ".png"),
        ("https://host/a", ""),
        (".jpg", ""),
    ],
)
def test_suffixes_of_paths_and_addresses(name, suffix):
    assert suffix_of(name) == suffix


def test_names_tell_what_is_wanted():
    assert [name for name in ("a.jpg", "a.cr2", "a.mp4", "a.txt", "a", "a.tar", "x.svg") if is_wanted_name(name)] == [
        "a.jpg",
        "a.cr2",
        "a.mp4",
        "x.svg",
    ]
    assert [name for name in ("a.jpg", "a.mp4", "b.MKV") if is_clip_name(name)] == ["a.mp4", "b.MKV"]


def test_items_are_small_and_travel():
    one = Item(
        "s3://bucket/shop-000.tar::0001.jpg", "s3://bucket/shop-000.tar", "shop-000/0001.jpg", start=512, length=9
    )

    assert pickle.loads(pickle.dumps(one)) == one
    assert len(pickle.dumps(one)) < 250
    assert sys.getsizeof(one) < 150
