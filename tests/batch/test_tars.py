import tarfile
from pathlib import Path

import pytest
from helpers.photos import noise
from helpers.picture_files import encoded
from helpers.tars import entry, tar_of

from fastnst.batch.tables import read_item
from fastnst.batch.tars import items_of_tar, items_of_tars, tar_stem
from fastnst.errors import InputError

PNG, JPEG = encoded(noise()), encoded(noise(), "JPEG")


def everybody(_):
    return True


@pytest.fixture
def tar(tmp_path):
    """Writes a tar and gives the items in it by what is kept of their names."""

    def items(contents, name="shop-000.tar", cut=None, **options):
        place = tmp_path / name
        place.write_bytes(tar_of(contents, **options)[:cut])
        return {item.kept: item for item in items_of_tar(str(place), everybody)}

    return items


def test_pictures_and_clips_are_taken_and_read_by_ranges(tar, tmp_path):
    items = tar({"0/a.jpg": JPEG, "0/a.json": b"{}", "0/a.cls": b"7", "b.PNG": PNG, "film.mp4": b"mp4", "c.img": PNG})

    assert {kept: read_item(item, 10**6) for kept, item in items.items()} == {
        "shop-000/0/a.jpg": JPEG,
        "shop-000/b.PNG": PNG,
        "shop-000/film.mp4": b"mp4",
        "shop-000/c.img": PNG,
    }
    assert [kept for kept, item in items.items() if item.clip] == ["shop-000/film.mp4"]
    assert items["shop-000/0/a.jpg"].key == f"{tmp_path}/shop-000.tar::0/a.jpg"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("./a.jpg", "t/a.jpg"),
        ("/etc/a.jpg", "t/etc/a.jpg"),
        ("a/../b.jpg", "t/b.jpg"),
        ("a//b.jpg", "t/a/b.jpg"),
        ("C:\\x\\a.jpg", "t/C/x/a.jpg"),
        ("c:a.jpg", "t/c/a.jpg"),
        ("a\\b.jpg", "t/a/b.jpg"),
        ("ü 日%#?.jpg", "t/ü 日%#?.jpg"),
        ("\udcff.jpg", "t/\udcff.jpg"),
        ("-x.jpg", "t/-x.jpg"),
    ],
)
def test_names_are_made_safe(name, kept, tar):
    items = tar({name: PNG}, "t.tar", format=tarfile.GNU_FORMAT)

    assert [(item.kept, item.error) for item in items.values()] == [(kept, None)]
    assert read_item(items[kept], 10**6) == PNG


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/../../etc/x.jpg", "..\\..\\x.jpg", "x/../../../y.jpg"])
def test_names_that_lead_out_are_reported(name, tar):
    (item,) = tar({name: PNG}, "t.tar").values()

    assert "leads out of the output folder" in item.error
    assert item.code == "unusable_input"
    assert ".." not in Path(item.kept).parts
    assert not item.kept.startswith("/")
    with pytest.raises(InputError, match="leads out"):
        read_item(item, 10**6)


def test_clutter_is_left_out(tar):
    assert list(tar({"a.jpg": PNG, "._a.jpg": PNG, "__MACOSX/a.jpg": PNG, ".x/a.jpg": PNG}, "t.tar")) == ["t/a.jpg"]


def test_of_one_name_the_last_counts(tar):
    contents = {"a.jpg": entry("x.jpg", b"first"), "b.jpg": entry("x.jpg", PNG)}

    (item,) = tar(contents, "t.tar").values()

    assert read_item(item, 10**6) == PNG


def test_of_a_tar_that_was_cut_off_there_is_what_is_whole_and_an_error(tar, tmp_path):
    items = tar({"a.jpg": PNG, "b.jpg": PNG}, "t.tar", cut=len(tar_of({"a.jpg": PNG})) // 10240 * 10240 - 10240 + 3000)

    assert items["t/a.jpg"].error is None
    assert "is cut off within b.jpg" in items["t.tar"].error
    assert items["t.tar"].key == f"{tmp_path}/t.tar"


def test_a_tar_that_became_shorter_is_told(tar, tmp_path):
    items = tar({"a.jpg": PNG}, "t.tar")
    (tmp_path / "t.tar").write_bytes((tmp_path / "t.tar").read_bytes()[:1000])

    with pytest.raises(InputError, match="became shorter"):
        read_item(items["t/a.jpg"], 10**6)


def test_several_tars_come_in_order_and_one_that_is_damaged_does_not_stop_them(tmp_path):
    places = [str(tmp_path / f"{number}.tar") for number in range(20)]
    for number, place in enumerate(places):
        Path(place).write_bytes(b"damaged" if number == 7 else tar_of({"a.jpg": PNG, "b.jpg": PNG}))

    items = list(items_of_tars(places, everybody))

    kept = [kept for n in range(20) for kept in ([f"{n}.tar"] if n == 7 else [f"{n}/a.jpg", f"{n}/b.jpg"])]
    assert [item.kept for item in items] == kept
    assert [item.kept for item in items if item.error] == ["7.tar"]


def test_only_what_is_ours_is_kept(tmp_path):
    (tmp_path / "t.tar").write_bytes(tar_of({"a.jpg": PNG, "b.jpg": PNG}))

    assert [item.kept for item in items_of_tar(str(tmp_path / "t.tar"), "t/b.jpg".__eq__)] == ["t/b.jpg"]


@pytest.mark.parametrize(
    ("place", "stem"), [("/x/a.b.tar", "a.b"), ("s3://b/c/shop.tar", "shop"), ("x\\y.tar", "y"), ("tar", "tar")]
)
def test_members_are_below_the_name_of_the_tar(place, stem):
    assert tar_stem(place) == stem
