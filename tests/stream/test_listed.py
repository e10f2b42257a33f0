import numpy as np
import pytest
from helpers.photos import save_noise, save_plain

from fastnst.data import Photographs
from fastnst.errors import InputError, UsageError
from fastnst.stream.listed import ListedPhotographs
from fastnst.stream.names import Names

SIZE = 32


def listed(folder, names, hold_out=0):
    return ListedPhotographs("list.txt", names, lambda name: str(folder / name), SIZE, 0, hold_out)


def test_a_sorted_list_of_a_folder_is_cropped_like_the_folder(tmp_path):
    names = [f"{folder}/{number}.jpg" for folder in "ab" for number in range(6)]
    for number, name in enumerate(names):
        save_noise(tmp_path / name, number)
    folder = Photographs(tmp_path, SIZE, 0, hold_out=None)

    photographs = listed(tmp_path, names, hold_out=None)

    assert [photographs.name(photo) for photo in photographs.held_out] == [*map(folder.name, folder.held_out)]
    np.testing.assert_array_equal(list(photographs.batches(2, 9, 3)), list(folder.batches(2, 9, 3)))


def test_lines_that_are_not_there_are_replaced_and_listed(tmp_path):
    for number in range(4):
        save_plain(tmp_path / f"{number}.png", (10 * number, 100, 200))
    (tmp_path / "text.png").write_text("none")
    photographs = listed(tmp_path, ["0.png", "gone.png", "1.png", "text.png", "2.png", "3.png"])

    shown = {round(photographs.crop(position)[..., 0].mean() / 10) for position in range(12)}

    assert shown == set(range(4))
    assert sorted(problem.name for problem in photographs.problems()) == ["gone.png", "text.png"]
    assert photographs.count == 6
    assert photographs.place(1) == str(tmp_path / "gone.png")


def test_a_list_without_one_usable_line_is_given_up(tmp_path):
    with pytest.raises(InputError, match=r"none of 1000 photographs in a row in list\.txt can be used .*\.png"):
        listed(tmp_path, (f"{number}.png" for number in range(1500))).crop(0)
    with pytest.raises(InputError, match=r"there are no photographs in list\.txt"):
        listed(tmp_path, [])
    with pytest.raises(UsageError, match="--held-out is 3"):
        listed(tmp_path, ["a", "b", "c"], hold_out=3)


def test_photos_kept_apart_by_name_are_those(tmp_path):
    photographs = listed(tmp_path, ["a.png", "b.png", "aa.png", "b.png"])

    photographs.keep_apart(["b.png", "c.png"])

    assert photographs.held_out == [1, 3]
    assert [photographs.name(photographs.trained(number)) for number in range(2)] == ["a.png", "aa.png"]
    with pytest.raises(InputError, match="only held-out photographs left"):
        photographs.keep_apart(["a.png", "b.png", "aa.png"])


def test_the_digest_of_a_list_is_that_of_its_names_in_their_order(tmp_path):
    digests = [listed(tmp_path, names).digest for names in (["a", "b"], ["b", "a"], ["a", "b"])]

    assert digests[0] == digests[2] != digests[1]


def test_names_are_what_they_were_and_found_again():
    given = ["a", "", "é/\udcff", "a", "longer.jpg"]

    names = Names([*given, "with a\nbreak"])

    assert list(names) == given
    assert [names.find(name) for name in ("a", "é/\udcff", "longer", "")] == [[0, 3], [2], [], [1]]
