import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers.photo_tars import encoded, write_tar
from helpers.photos import save_noise
from helpers.tars import tar_of

from fastnst.crops import Crops
from fastnst.data import Photographs
from fastnst.errors import InputError, UsageError
from fastnst.stream.content import open_content, reader

SIZE = 32


def photos(count: int, first: int = 0) -> dict[str, bytes]:
    return {f"{number}.png": encoded(number, format="PNG") for number in range(first, first + count)}


def crops_of(content: object, **options: object) -> np.ndarray:
    return np.stack([*opened(content, **options).batches(0, 6, batch_size=3)])


def opened(content: object, **options: object) -> Crops:
    return open_content(os.fspath(content), SIZE, 0, **options)


def test_a_folder_is_what_it_always_was(tmp_path):
    for number in range(5):
        save_noise(tmp_path / "photos" / f"{number}.jpg", number)
    folder = Photographs(tmp_path / "photos", SIZE, 0, hold_out=1)

    same = opened(tmp_path / "photos", hold_out=1)

    assert isinstance(same, Photographs)
    assert same.held_out == folder.held_out
    np.testing.assert_array_equal([*same.batches(0, 4, 3)], [*folder.batches(0, 4, 3)])
    held_out = folder.held_out[0]
    assert reader(str(tmp_path / "photos"), tmp_path)(folder.name(held_out)) == held_out.read_bytes()


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """A folder with three tars of four photos each."""
    for number in range(3):
        write_tar(tmp_path / "tars" / f"{number:02}.tar", photos(4, 4 * number))
    return tmp_path / "tars"


def test_tars_by_braces_by_a_pattern_by_a_list_or_in_memory_are_the_same_photographs(tars, tmp_path, memory):
    (tars / "list.lst").write_text("00.tar\r\n# another\r\n\r\n01.tar\n" + f"{tars}/02.tar")
    for path in tars.glob("*.tar"):
        fsspec.filesystem("memory").pipe_file(f"{memory}/{path.name}", path.read_bytes())
    (tmp_path / "remote.txt").write_text(f"{memory}/{{00..02}}.tar\n")

    expected = crops_of(tars / "{00..02}.tar")

    for content in (tars / "*.tar", tars / "list.lst", f"{memory}/{{00..02}}.tar", f"{memory}/*.tar"):
        np.testing.assert_array_equal(crops_of(content), expected)
    np.testing.assert_array_equal(crops_of(tmp_path / "remote.txt"), expected)
    assert opened(f"{memory}/*.tar").digest == opened(tars / "list.lst").digest
    assert not (crops_of(tars / "00.tar") == expected).all()


def test_a_list_of_photographs_here_and_in_memory(tmp_path, memory):
    store = fsspec.filesystem("memory")
    for name, data in photos(6).items():
        (tmp_path / name).write_bytes(data)
        store.pipe_file(f"{memory}/{name}", data)
    (tmp_path / "list.txt").write_text("\n".join(sorted(photos(6))))
    addresses = "".join(f"{memory}/{name}\n" for name in sorted(photos(6)))
    (tmp_path / "addresses.txt").write_text(addresses)
    store.pipe_file(f"{memory}/list.txt", (tmp_path / "list.txt").read_bytes())

    expected = [*Photographs(tmp_path, SIZE, 0).batches(0, 6, 3)]

    for content in (tmp_path / "list.txt", tmp_path / "addresses.txt", f"{memory}/list.txt", memory, f"{memory}/*.png"):
        np.testing.assert_array_equal(crops_of(content), expected)
    assert reader(f"{memory}/list.txt", tmp_path)("3.png") == photos(6)["3.png"]
    assert reader(memory, tmp_path)("3.png") == photos(6)["3.png"]


def test_what_is_in_tars_is_kept_and_shared_and_read_by_name(tars, tmp_path):
    content = str(tars / "*.tar")
    made: list[bytes] = []

    def share(make):
        made.append(make())
        return made[0]

    first = opened(content, beside=tmp_path / "run", share=share)
    second = opened(content, beside=tmp_path / "run", share=share)
    name = first.name(first.trained(5))
    data = reader(content, tmp_path / "run")(name)

    assert len({one.digest for one in (first, second)}) == 1
    assert name == "01.tar::5.png"
    assert data == photos(6)["5.png"]
    assert len([*(tmp_path / "run").iterdir()]) == 1
    with pytest.raises(InputError, match=r"01\.tar::9\.png is not there any more"):
        reader(content, tmp_path / "run")("01.tar::9.png")


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("missing", InputError, "is not a folder; give one with photographs, a list of them"),
        ("missing.txt", InputError, r"missing\.txt is not there"),
        ("missing.tar", InputError, r"missing\.tar is not there"),
        ("m-{0..2}.tar", InputError, r"m-0\.tar is not there"),
        ("m-*.tar", InputError, r"nothing fits .*m-\*\.tar; check the pattern"),
        ("a.tar.gz", UsageError, "is compressed, and is read in parts; unpack it"),
        ("empty.txt", InputError, r"there are no photographs in .*empty\.txt"),
        ("mixed.txt", UsageError, r"lists tars and .*a\.jpg; give one list of tars, or one of pictures"),
        ("a.jpg", InputError, "is not a folder"),
        ("memory://nowhere", InputError, "there are no photographs in memory://nowhere"),
        ("nope://a/*.tar", UsageError, "nope://, which fsspec does not know"),
    ],
)
def test_what_cannot_be_trained_on_is_told(tmp_path, name, error, said):
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    (tmp_path / "mixed.txt").write_text("m.tar\na.jpg\n")
    (tmp_path / "a.jpg").write_bytes(encoded())
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b" + tar_of({}))

    with pytest.raises(error, match=said):
        opened(name if "://" in name else tmp_path / name)
