import os
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_tars import encoded, plain, write_tar
from helpers.photos import bomb

from fastnst.errors import InputError
from fastnst.stream.index import Tar, from_bytes, index, to_bytes


def names(tar: Tar) -> list[str]:
    return [tar.name(number) for number in range(len(tar.starts))]


def same(one: list[Tar], other: list[Tar]) -> bool:
    """Whether two indices are equal, their arrays included."""
    return to_bytes(one) == to_bytes(other)


def test_pictures_are_told_by_their_bytes_and_what_describes_them_is_none(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        {
            "1.jpg": encoded(1),
            "1.json": b'{"caption": "a cat"}',
            "1.txt": b"a cat",
            "1.cls": b"3",
            "1.mask.png": plain(1),
            "2.bin": encoded(2, format="WEBP"),
            "2": plain(3),
            "folder.x/3.png": plain(3),
            "folder.x/notes": b"no picture",
            "__MACOSX/._1.jpg": plain(4),
            ".hidden.png": plain(4),
            "4.jpg": b"no picture",
            "5.psd": b"8BPS\0\1",
            "6.left.png": plain(6),
        },
    )

    (tar,) = index([str(path)])

    assert names(tar) == ["1.jpg", "2.bin", "2", "folder.x/3.png", "6.left.png"]
    assert tar.unusable == {
        "4.jpg": "not a picture",
        "5.psd": (
            "5.psd is a Photoshop document, which is not read; "
            "convert it to one of JPEG, PNG, WEBP, GIF, AVIF, TIFF, BMP, HEIF"
        ),
    }
    data = path.read_bytes()
    found = [data[start : start + length] for start, length in zip(tar.starts, tar.lengths, strict=True)]
    assert found == [encoded(1), encoded(2, format="WEBP"), plain(3), plain(3), plain(6)]


def test_a_tar_that_is_cut_off_has_what_is_whole_and_empty_ones_say_so(tmp_path):
    whole = write_tar(tmp_path / "a.tar", {f"{number}.png": plain(number) for number in range(5)}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "nothing.tar").write_bytes(b"")
    write_tar(tmp_path / "empty.tar", {})

    cut, nothing, empty = index([str(tmp_path / name) for name in ("cut.tar", "nothing.tar", "empty.tar")])

    assert names(cut) == [f"{number}.png" for number in range(len(cut.starts))]
    assert 0 < len(cut.starts) < 5
    assert "cut off" in cut.unusable[""]
    assert nothing.unusable[""]
    assert empty.unusable == {"": f"{tmp_path}/empty.tar has no pictures"}


def test_a_tar_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"b\.tar is not there"):
        index([str(tmp_path / "b.tar")])


def test_only_what_changed_is_read_again(tmp_path):
    paths = [write_tar(tmp_path / f"{name}.tar", {f"{name}.png": plain(1)}) for name in "ab"]
    file = tmp_path / "kept" / "index.npz"
    first = index([*map(str, paths)], file)
    times = os.stat(paths[0])
    paths[0].write_bytes(bytes(times.st_size))  # which nobody looks at, since size and time stay
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    write_tar(paths[1], {"c.png": plain(2)})

    again = index([*map(str, paths)], file)

    assert [names(tar) for tar in again] == [["a.png"], ["c.png"]]
    assert again[0].digest == first[0].digest
    assert same(index([*map(str, paths)], file), again)


@pytest.mark.parametrize("damage", [b"", b"no index", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_index_is_made_again(tmp_path, damage):
    path = write_tar(tmp_path / "a.tar", {"a.png": plain(1)})
    file = tmp_path / "index.npz"
    made = index([str(path)], file)
    file.write_bytes(damage)

    assert same(index([str(path)], file), made)
    assert same(from_bytes(file.read_bytes()), made)


def test_other_processes_get_the_same_index(tmp_path):
    files = {"a.png": plain(1), "é\udcff.png": plain(2), "b.jpg": b"none"}
    tars = index([str(write_tar(tmp_path / "a.tar", files)), str(write_tar(tmp_path / "b.tar", {}))])

    shared = from_bytes(to_bytes(tars))

    assert same(shared, tars)
    assert [names(tar) for tar in shared] == [["a.png", "é\udcff.png"], []]
    assert shared[0].unusable == {"b.jpg": "not a picture"}
    with pytest.raises(ValueError, match="zip"):
        from_bytes(to_bytes(tars)[:-50])


def test_the_digest_is_that_of_names_places_and_lengths_and_not_of_when_and_where(tmp_path):
    files = {"a.png": plain(1), "b.png": plain(2)}
    moved = [write_tar(tmp_path / folder / "a.tar", files) for folder in ("x", "y")]
    os.utime(moved[1], (1, 1))
    others = [write_tar(tmp_path / "z.tar", {"a.png": plain(1), "c.png": plain(2)}), write_tar(tmp_path / "w.tar", {})]

    digests = [tar.digest for tar in index([*map(str, [*moved, *others])])]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_picture_that_claims_a_huge_size_is_in_the_index_and_found_when_it_is_decoded(tmp_path):
    (tar,) = index([str(write_tar(tmp_path / "a.tar", {"bomb.png": bomb()}))])

    assert names(tar) == ["bomb.png"]
    assert np.array_equal(tar.lengths, [len(bomb())])
    assert Path(tar.place).stat().st_size == tar.size
