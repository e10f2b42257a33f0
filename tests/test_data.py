import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import bomb, cut_off, save_noise, save_plain
from PIL import Image

from fastnst.data import Photographs, report_unusable
from fastnst.errors import InputError, UsageError

SIZE = 32


def colors_of(crops: list[np.ndarray]) -> list[int]:
    """Which of the plain photos, whose red is 10 times their number, each crop shows."""
    return [round(float(crop[..., 0].mean()) / 10) for crop in crops]


@pytest.fixture
def plain_photos(tmp_path: Path) -> Path:
    """Seven photos of one color each, in nested folders, so that a crop says which photo it is from."""
    for number in range(7):
        save_plain(tmp_path / "photos" / "abc"[number % 3] / f"{number}.png", (10 * number, 100, 200))
    return tmp_path / "photos"


@pytest.fixture
def noisy_photos(tmp_path: Path) -> Path:
    for number in range(5):
        save_noise(tmp_path / "noisy" / f"{number}.jpg", number)
    return tmp_path / "noisy"


def test_photos_are_found_in_nested_folders_without_classes(tmp_path):
    paths = [save_plain(tmp_path / name, (1, 2, 3)) for name in ("top.png", "a/one.png", "a/b/c/deep.png")]

    photographs = Photographs(tmp_path, SIZE, seed=0)

    assert photographs.files == sorted(paths)
    assert photographs.unusable == {}


def test_photos_that_no_longer_fit_into_memory_are_decoded_again_to_the_same_crops(noisy_photos, monkeypatch):
    kept = Photographs(noisy_photos, SIZE, seed=0)
    monkeypatch.setattr(kept, "_room", 2 * 64 * 64 * 3)  # two of the five
    everything = Photographs(noisy_photos, SIZE, seed=0)

    crops = [kept.crop(position) for position in range(15)]

    assert len(kept._kept) == 2
    np.testing.assert_array_equal(crops, [everything.crop(position) for position in range(15)])


def test_names_mean_nothing_and_bytes_everything(tmp_path):
    save_plain(tmp_path / "photo.png", (1, 2, 3)).rename(tmp_path / "photo.txt")
    (tmp_path / "notes.jpg").write_text("not a picture")

    photographs = Photographs(tmp_path, SIZE, seed=0)

    assert photographs.files == [tmp_path / "photo.txt"]
    assert photographs.unusable == {tmp_path / "notes.jpg": "not a picture"}


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_photo_of_any_mode_becomes_rgb_crops(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / ("photo.jpg" if mode in ("CMYK", "YCbCr") else "photo.png"))

    crop = Photographs(tmp_path, SIZE, seed=0).crop(0)

    assert crop.shape == (SIZE, SIZE, 3)
    assert crop.dtype == np.uint8
    assert 60 < crop.mean() < 200  # neither clipped to white nor black


def test_photo_with_an_exif_rotation_is_cropped_upright(tmp_path):
    halves = np.zeros((64, 64, 3), dtype=np.uint8)
    halves[:, :32] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise, so that white is on top
    Image.fromarray(halves).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    photographs = Photographs(tmp_path, SIZE, seed=0)

    rows = [photographs.crop(position).mean(axis=(1, 2)) for position in range(8)]

    assert all(row[0] > row[-1] + 100 for row in rows if np.ptp(row) > 100)
    assert any(np.ptp(row) > 100 for row in rows)


def test_photo_smaller_than_the_crops_is_enlarged(tmp_path):
    save_noise(tmp_path / "small.png", side=16)

    assert Photographs(tmp_path, 64, seed=0).crop(0).shape == (64, 64, 3)


def test_crops_show_photos_from_several_places_and_both_sides(noisy_photos):
    for path in list(noisy_photos.iterdir())[1:]:
        path.unlink()
    photographs = Photographs(noisy_photos, SIZE, seed=0)

    crops = {photographs.crop(position).tobytes() for position in range(10)}

    assert len(crops) == 10


def test_unusable_files_are_skipped_and_say_why(plain_photos):
    (plain_photos / "empty.jpg").write_bytes(b"")
    (plain_photos / "text.png").write_text("hello")
    (plain_photos / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 9)
    (plain_photos / "bomb.png").write_bytes(bomb())
    save_plain(plain_photos / "tiny.png", (1, 2, 3), size=(9, 99))

    photographs = Photographs(plain_photos, SIZE, seed=0)

    reasons = {path.name: reason for path, reason in photographs.unusable.items()}
    assert len(photographs.files) == 7
    assert reasons.keys() == {"empty.jpg", "text.png", "corrupt.png", "bomb.png", "tiny.png"}
    assert "damaged" in reasons["corrupt.png"]
    assert "claims a size far beyond what is decoded" in reasons["bomb.png"]
    assert "9x99" in reasons["tiny.png"]


def test_unusable_files_are_named_in_one_warning_the_first_three_of_them(plain_photos, caplog):
    report_unusable(Photographs(plain_photos, SIZE, seed=0))
    assert caplog.text == ""
    for name in "abcd":
        (plain_photos / f"{name}.txt").write_text("none")
    photographs = Photographs(plain_photos, SIZE, seed=0, hold_out=1)
    photographs.unusable[photographs.files[0]] = "damaged"  # as decoding finds out

    report_unusable(photographs)
    report_unusable(photographs, "bad.txt")

    first, second = (record.getMessage() for record in caplog.records)
    assert first == (
        f"5 of the 11 files in {plain_photos} are unusable and left out: "
        "a.txt (not a picture), b.txt (not a picture), c.txt (not a picture), ..."
    )
    assert second == first + " (all in bad.txt)"


def test_links_in_circles_broken_links_and_pipes_do_not_hang(plain_photos):
    (plain_photos / "a" / "up").symlink_to(plain_photos)
    (plain_photos / "itself.jpg").symlink_to("itself.jpg")
    (plain_photos / "nowhere.jpg").symlink_to("nothing-there.jpg")
    os.mkfifo(plain_photos / "pipe.jpg")

    photographs = Photographs(plain_photos, SIZE, seed=0)

    assert len(photographs.files) == 7
    assert {path.name for path in photographs.unusable} == {"itself.jpg", "nowhere.jpg", "pipe.jpg"}


def test_thumbnails_companions_and_own_files_are_no_photographs(plain_photos):
    before = Photographs(plain_photos, SIZE, seed=0)
    for name in ("@eaDir/0.png", ".thumbnails/0.png", "__MACOSX/0.png", "a/._0.png", "run/previews/000000-0.jpg"):
        save_plain(plain_photos / name, (1, 2, 3))
    (plain_photos / "run" / "metrics.jsonl").touch()
    (plain_photos / "a" / "Thumbs.db").touch()
    own = save_plain(plain_photos / "sheet.jpg", (1, 2, 3))

    after = Photographs(plain_photos, SIZE, seed=0, leave_out=[own])

    assert (after.files, after.unusable, after.digest) == (before.files, {}, before.digest)


def test_linked_folders_are_trained_on(plain_photos, tmp_path):
    linked = save_plain(tmp_path / "elsewhere" / "9.png", (90, 100, 200))
    (plain_photos / "more").symlink_to(linked.parent)

    photographs = Photographs(plain_photos, SIZE, seed=0)

    assert photographs.name(photographs.files[-1]) == "more/9.png"


def test_a_photo_in_a_format_that_is_not_read_is_called_so(plain_photos):
    (plain_photos / "a.psd").write_bytes(b"8BPS\0\1")

    (reason,) = Photographs(plain_photos, SIZE, seed=0).unusable.values()

    assert "a.psd" in reason


def test_digest_is_that_of_names_and_sizes_wherever_they_are(plain_photos, tmp_path):
    before = Photographs(plain_photos, SIZE, seed=0, hold_out=2).digest
    moved = shutil.copytree(plain_photos, tmp_path / "moved")

    assert Photographs(moved, SIZE, seed=1).digest == before
    save_plain(moved / "a" / "0.png", (255, 0, 1), (99, 98))
    assert Photographs(moved, SIZE, seed=1).digest != before


def test_folder_without_a_usable_picture_is_an_input_error(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")

    with pytest.raises(InputError, match=r"no usable picture in .*\(1 unusable files\)"):
        Photographs(tmp_path, SIZE, seed=0)


def test_folder_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="missing is not a folder"):
        Photographs(tmp_path / "missing", SIZE, seed=0)


def test_each_epoch_shows_every_photo_once_in_an_order_of_its_own(plain_photos):
    photographs = Photographs(plain_photos, SIZE, seed=0)

    epochs = [colors_of([photographs.crop(7 * epoch + i) for i in range(7)]) for epoch in range(3)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_folder_smaller_than_a_batch_repeats_its_photos(plain_photos):
    photographs = Photographs(plain_photos, SIZE, seed=0)

    (batch,) = photographs.batches(0, 1, batch_size=16)

    assert batch.shape == (16, SIZE, SIZE, 3)
    assert sorted(colors_of(list(batch))[:14]) == sorted([*range(7), *range(7)])


def test_crop_depends_on_seed_and_position_only(noisy_photos):
    first, second = (Photographs(noisy_photos, SIZE, seed=3) for _ in range(2))
    forward = [first.crop(position) for position in range(12)]

    backward = [second.crop(position) for position in reversed(range(12))]

    np.testing.assert_array_equal(forward, backward[::-1])


def test_another_seed_crops_differently(noisy_photos):
    crops = [Photographs(noisy_photos, SIZE, seed=seed).crop(0).tobytes() for seed in range(4)]

    assert len(set(crops)) == 4


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_batches_are_the_same_for_any_number_of_workers(noisy_photos, workers):
    photographs = Photographs(noisy_photos, SIZE, seed=0)

    batches = list(photographs.batches(0, 5, batch_size=3, workers=workers))

    expected = [[photographs.crop(3 * step + i) for i in range(3)] for step in range(5)]
    np.testing.assert_array_equal(batches, expected)


@pytest.mark.parametrize("start", [1, 4, 7])
def test_batches_from_a_later_step_continue_those_from_the_first(noisy_photos, start):
    photographs = Photographs(noisy_photos, SIZE, seed=0)

    later = list(photographs.batches(start, 8, batch_size=2))

    np.testing.assert_array_equal(later, list(photographs.batches(0, 8, batch_size=2))[start:])


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_see_the_parts_of_what_one_alone_would_see(noisy_photos, ranks):
    photographs = Photographs(noisy_photos, SIZE, seed=0)

    alone = list(photographs.batches(1, 5, 4))
    parts = [list(photographs.batches(1, 5, 4 // ranks, 2, rank, ranks)) for rank in range(ranks)]

    for step, batch in enumerate(alone):
        np.testing.assert_array_equal(batch, np.concatenate([part[step] for part in parts]))


def test_no_batches_are_left_after_the_last_step(noisy_photos):
    assert list(Photographs(noisy_photos, SIZE, seed=0).batches(5, 5, batch_size=2)) == []


def test_photo_that_breaks_when_decoded_is_replaced_and_listed(plain_photos):
    damaged = cut_off(save_noise(plain_photos / "damaged.jpg"))
    photographs = Photographs(plain_photos, SIZE, seed=0)
    assert damaged in photographs.files

    colors = colors_of([photographs.crop(position) for position in range(8)])

    assert set(colors) == set(range(7))
    assert list(photographs.unusable) == [damaged]
    assert "damaged" in photographs.unusable[damaged]


def test_replacement_of_a_damaged_photo_is_the_same_from_any_start_and_with_any_workers(plain_photos):
    for number in range(3):
        cut_off(save_noise(plain_photos / f"damaged{number}.jpg", number))
    whole = list(Photographs(plain_photos, SIZE, seed=0).batches(0, 10, batch_size=2, workers=1))

    later = list(Photographs(plain_photos, SIZE, seed=0).batches(4, 10, batch_size=2, workers=5))

    np.testing.assert_array_equal(later, whole[4:])


def test_photo_removed_while_training_is_replaced(plain_photos):
    photographs = Photographs(plain_photos, SIZE, seed=0)
    photographs.files[0].unlink()

    colors = colors_of([photographs.crop(position) for position in range(7)])

    assert set(colors) == set(range(1, 7))


def test_folder_whose_photos_all_turn_out_damaged_is_an_input_error(tmp_path):
    for number in range(3):
        cut_off(save_noise(tmp_path / f"{number}.jpg", number))
    photographs = Photographs(tmp_path, SIZE, seed=0)

    with pytest.raises(InputError, match=r"every picture in .* turned out damaged"):
        list(photographs.batches(0, 2, batch_size=2))


def test_held_out_photos_are_spread_over_the_folder_and_in_no_crop(plain_photos):
    photographs = Photographs(plain_photos, SIZE, seed=0, hold_out=2)

    everything = Photographs(plain_photos, SIZE, seed=0).files
    assert photographs.held_out == [everything[1], everything[5]]
    assert sorted(photographs.files + photographs.held_out) == everything
    held_out = {int(path.stem) for path in photographs.held_out}
    assert not held_out & set(colors_of([photographs.crop(position) for position in range(50)]))


@pytest.mark.parametrize(("count", "held_out"), [(1, 0), (9, 0), (10, 1), (39, 3), (40, 4), (100, 4)])
def test_one_photo_in_ten_but_at_most_four_are_held_out_by_default(tmp_path, count, held_out):
    for number in range(count):
        save_plain(tmp_path / f"{number}.png", (1, 2, 3), (16, 16))

    assert len(Photographs(tmp_path, SIZE, seed=0, hold_out=None).held_out) == held_out


def test_holding_out_every_photo_is_wrong_usage(plain_photos):
    with pytest.raises(UsageError, match=r"--held-out is 7 but .* has 7 usable photographs; give fewer"):
        Photographs(plain_photos, SIZE, seed=0, hold_out=7)


def test_photos_kept_apart_by_name_stay_so_when_others_come_and_go(plain_photos):
    names = [photo.relative_to(plain_photos).as_posix() for photo in Photographs(plain_photos, SIZE, 0, 2).held_out]
    (plain_photos / names[0]).unlink()
    save_plain(plain_photos / "0.png", (1, 2, 3))

    photographs = Photographs(plain_photos, SIZE, seed=0, hold_out=None)
    photographs.keep_apart(names)

    assert photographs.held_out == [plain_photos / names[1]]
    assert len(photographs.files) == 6


def test_a_folder_that_shrank_to_its_held_out_photos_cannot_be_trained_on(plain_photos):
    photographs = Photographs(plain_photos, SIZE, seed=0)

    with pytest.raises(InputError, match="only held-out photographs left"):
        photographs.keep_apart([photographs.name(path) for path in photographs.files])
