from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_tars import encoded, plain, write_tar

from fastnst.crops import Problem, report_unusable
from fastnst.data import Photographs
from fastnst.errors import InputError, UsageError
from fastnst.stream.index import index
from fastnst.stream.tars import TarPhotographs

SIZE = 32


def opened(*tars: Path, hold_out: int | None = 0, seed: int = 0, buffer: int = 1 << 20) -> TarPhotographs:
    return TarPhotographs("photos/*.tar", index([str(tar) for tar in tars]), SIZE, seed, hold_out, buffer)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> list[Path]:
    """Three tars with 24, 0 and 7 photos of noise, which are more than a window of half a MiB."""
    folder = tmp_path_factory.mktemp("noisy")
    pictures = {f"{number:02}": encoded(number, side=128, format="PNG") for number in range(31)}
    keys = list(pictures)
    tars = []
    for name, part in (("a", keys[:24]), ("b", []), ("sub/c", keys[24:])):
        samples = [((f"{key}.png", pictures[key]), (f"{key}.json", b"{}")) for key in part]
        tars.append(write_tar(folder / f"{name}.tar", dict(chain(*samples))))
    return tars


def colors_of(crops: list[np.ndarray]) -> list[int]:
    return [round(float(crop[..., 0].mean()) / 10) for crop in crops]


def plain_tar(folder: Path, *more: tuple[str, bytes]) -> Path:
    """Seven photos of one color each, so that a crop says which photo it is from."""
    return write_tar(folder / "plain.tar", {**{f"{number}.png": plain(number) for number in range(7)}, **dict(more)})


def test_photos_and_their_crops_are_those_of_a_folder_with_the_same_files(noisy, tmp_path):
    photographs = opened(*noisy)
    for number in range(31):
        name = "sub/c" if number >= 24 else "a"
        path = tmp_path / f"{name}.tar::{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(number, side=128, format="PNG"))
    folder = Photographs(tmp_path, SIZE, seed=0)

    for position in range(40):
        path = tmp_path / photographs.name(photographs.order.at(position))
        expected = folder.random_crop(path, np.random.default_rng([0, position]))
        np.testing.assert_array_equal(photographs.crop(position), expected)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_batches_are_the_same_for_any_number_of_workers(noisy, workers):
    photographs = opened(*noisy)

    batches = list(opened(*noisy).batches(0, 25, batch_size=3, workers=workers))

    assert len({len(photographs.order.window_at(position).photos) for position in range(62)}) > 1
    np.testing.assert_array_equal(batches, [[photographs.crop(3 * step + i) for i in range(3)] for step in range(25)])


@pytest.mark.parametrize("start", [1, 7, 16, 31])
def test_batches_from_a_later_step_continue_those_from_the_first(noisy, start):
    whole = list(opened(*noisy).batches(0, 32, batch_size=2))

    np.testing.assert_array_equal(list(opened(*noisy).batches(start, 32, batch_size=2)), whole[start:])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_see_the_parts_of_what_one_alone_would_see(noisy, ranks):
    alone = list(opened(*noisy).batches(1, 12, 4))
    parts = [list(opened(*noisy).batches(1, 12, 4 // ranks, 2, rank, ranks)) for rank in range(ranks)]

    for step, batch in enumerate(alone):
        np.testing.assert_array_equal(batch, np.concatenate([part[step] for part in parts]))


def test_each_epoch_shows_every_photo_once_and_a_tar_smaller_than_a_batch_repeats_its_photos(tmp_path):
    photographs = opened(plain_tar(tmp_path))

    epochs = [colors_of([photographs.crop(7 * epoch + i) for i in range(7)]) for epoch in range(3)]
    (batch,) = photographs.batches(0, 1, batch_size=21)

    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert colors_of(list(batch)) == list(chain(*epochs))


def test_the_buffer_decides_what_is_shuffled_together(noisy):
    one, other = (opened(*noisy, buffer=buffer) for buffer in (1 << 20, 1 << 30))

    assert [one.order.at(place) for place in range(31)] != [other.order.at(place) for place in range(31)]


def test_held_out_photos_are_spread_over_the_tars_and_in_no_crop(tmp_path):
    tars = [plain_tar(tmp_path / name) for name in "ab"]
    photographs = opened(*tars, hold_out=2)

    names = [photographs.name(photo) for photo in photographs.held_out]
    assert names == ["a/plain.tar::3.png", "b/plain.tar::3.png"]
    assert photographs.count == 12
    assert photographs.place(photographs.held_out[0]) == f"{tars[0]}::3.png"
    assert 3 not in colors_of([photographs.crop(position) for position in range(36)])
    assert colors_of([photographs.read(photo).rgb for photo in photographs.held_out]) == [3, 3]
    assert colors_of([photographs.read(photographs.trained(number)).rgb for number in (0, 11)]) == [0, 6]


def test_photos_kept_apart_by_name_are_those_and_one_that_has_gone_is_missed_by_nobody(tmp_path):
    photographs = opened(plain_tar(tmp_path), hold_out=None)
    assert photographs.held_out == []

    photographs.keep_apart(["plain.tar::2.png", "plain.tar::9.png", "other.tar::2.png"])

    assert [photographs.name(photo) for photo in photographs.held_out] == ["plain.tar::2.png"]
    assert sorted(colors_of([photographs.crop(position) for position in range(6)])) == [0, 1, 3, 4, 5, 6]
    with pytest.raises(InputError, match="only held-out photographs left"):
        photographs.keep_apart([photographs.name(photo) for photo in range(7)])


def test_a_photo_that_breaks_when_decoded_is_replaced_and_listed_beside_what_was_no_picture(tmp_path, caplog):
    photographs = opened(plain_tar(tmp_path, ("damaged.jpg", encoded()[:1500]), ("none.jpg", b"text")))

    colors = colors_of([crop for batch in photographs.batches(0, 4, batch_size=2) for crop in batch])
    again = colors_of([photographs.crop(position) for position in range(8)])
    report_unusable(photographs)

    assert colors == again
    assert set(colors) == set(range(7))
    none, damaged = photographs.problems()
    assert none == Problem("plain.tar::none.jpg", f"{tmp_path}/plain.tar::none.jpg", "not a picture")
    assert damaged.name == "plain.tar::damaged.jpg"
    assert "2 of the 9 files in photos/*.tar are unusable and left out: plain.tar::none.jpg (not a" in caplog.text


def test_replacement_of_a_damaged_photo_is_the_same_from_any_start_and_with_any_workers(tmp_path):
    tar = plain_tar(tmp_path, *((f"damaged{number}.jpg", encoded(number)[:1500]) for number in range(3)))
    whole = list(opened(tar).batches(0, 10, batch_size=2, workers=1))

    np.testing.assert_array_equal(list(opened(tar).batches(4, 10, batch_size=2, workers=5)), whole[4:])


def test_tars_without_pictures_or_with_damaged_ones_only_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"no usable picture in photos/\*\.tar \(.*has no pictures\)"):
        opened(write_tar(tmp_path / "a.tar", {"a.json": b"{}"}))
    damaged = opened(write_tar(tmp_path / "b.tar", {f"{number}.jpg": encoded(number)[:1500] for number in range(3)}))
    with pytest.raises(InputError, match=r"every picture in .* turned out damaged"):
        list(damaged.batches(0, 2, batch_size=2))


def test_holding_out_every_photo_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match=r"--held-out is 7 but photos/\*\.tar has 7 usable photographs; give fewer"):
        opened(plain_tar(tmp_path), hold_out=7)


def test_digest_is_that_of_what_is_in_the_tars_wherever_they_are(tmp_path):
    before = opened(plain_tar(tmp_path / "x"), hold_out=2)
    moved = opened(plain_tar(tmp_path / "y"))
    more = opened(plain_tar(tmp_path / "z", ("8.png", plain(8))))

    assert before.digest == moved.digest != more.digest
    assert before.parts.keys() == more.parts.keys() == {"plain.tar"}
