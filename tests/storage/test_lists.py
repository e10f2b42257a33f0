from pathlib import Path

import pytest

from fastnst.errors import UsageError
from fastnst.storage.addresses import write
from fastnst.storage.lists import braced, lines, numbered


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("last", [True, False])
def test_lists_are_read_as_any_program_writes_them(ends, encoding, last, tmp_path):
    names = ["a.jpg", "b c.jpg", "ü/日本%#?.png", "-x.jpg", "s3://bucket/x.jpg"]
    text = ends.join(["# all of them", names[0], "", "  ", *names[1:]]) + ends * last
    (tmp_path / "x.txt").write_bytes(text.encode(encoding))

    assert list(lines(str(tmp_path / "x.txt"))) == names
    assert list(numbered(str(tmp_path / "x.txt")))[:2] == [(2, "a.jpg"), (5, "b c.jpg")]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('"a b.jpg"', "a b.jpg"),
        ("'a b.jpg'", "a b.jpg"),
        ("  a.jpg \t", "a.jpg"),
        ('"', '"'),
        ("it's.jpg", "it's.jpg"),
        ("#a.jpg", None),
        ("  # a", None),
    ],
)
def test_quotes_spaces_and_remarks_are_none_of_a_name(line, name, tmp_path, memory):
    for place in (f"{tmp_path}/x.txt", f"{memory}/x.txt"):
        write(place, line.encode())
        assert list(lines(place)) == ([name] if name else [])


@pytest.mark.parametrize("name", ['"a b.jpg"', " a.jpg ", "#a.jpg", "'x'"])
def test_what_is_really_there_counts_first(name, tmp_path):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "x.txt").write_text(name + "\n")

    assert list(lines(str(tmp_path / "x.txt"))) == [name]


def test_names_may_be_no_text(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xe9.jpg\nb.jpg\n" if False else b"a\xe9.jpg\nb.jpg\n")

    assert list(lines(str(tmp_path / "x.txt"))) == ["a\udce9.jpg", "b.jpg"]


def test_lists_may_be_empty(tmp_path):
    Path(tmp_path / "x.txt").write_bytes(b"")

    assert list(lines(str(tmp_path / "x.txt"))) == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("x-{000..002}.tar", ["x-000.tar", "x-001.tar", "x-002.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{x}.jpg", ["{x}.jpg"]),
        ("a.jpg", ["a.jpg"]),
        ("{,a}b", ["b", "ab"]),
    ],
)
def test_braces_are_filled_in(pattern, names):
    assert braced(pattern) == names


def test_braces_have_a_bound():
    with pytest.raises(UsageError, match="stands for"):
        braced("{0..999999999}.tar")
    with pytest.raises(UsageError, match="stands for"):
        braced("{0..9999}{0..9999}.tar")
