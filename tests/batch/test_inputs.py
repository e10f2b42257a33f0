import json
import os
from pathlib import Path

import pytest
from helpers.material import PHOTOS
from helpers.photos import noise, noise_file
from helpers.picture_files import encoded
from helpers.tars import tar_of

from fastnst.batch.inputs import items_of
from fastnst.batch.items import output_name
from fastnst.batch.tables import read_item
from fastnst.config import StylizeOptions
from fastnst.errors import InputError, StorageError, UnavailableError, UsageError
from fastnst.folder import plan
from fastnst.storage.addresses import write
from fastnst.video.jobs import clip_suffix

PNG = encoded(noise())


def items(*inputs, output="out", column=None, **options):
    return list(items_of(list(map(str, inputs)), str(output), StylizeOptions(**options), column))


def kept(*inputs, **options):
    return [item.kept for item in items(*inputs, **options)]


def errors(found):
    return {item.key: item.error for item in found if item.error}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder, *names):
    """Pictures of these names, anywhere."""
    for name in names:
        write(f"{folder}/{name}", PNG)


@pytest.fixture
def messy():
    """A folder with whatever lies beside pictures."""
    for name in ("in/b.png", "in/a.jpg", "in/deep/er/c.webp", "in/d.gif", "in/-x y.jpg", "in/ü%#?.png", "in/no suffix"):
        noise_file(Path(name), format="PNG")
    for name in ("in/damaged.jpg", "in/empty.png", "in/.hidden.jpg", "in/notes.md", "in/Thumbs.db", "in/photo.cr2"):
        Path(name).write_bytes(b"" if "empty" in name else b"something")
    Path("in/film.mov").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(100))
    Path("in/film.avi").write_bytes(b"no film")
    Path("in/broken.jpg").symlink_to("nowhere")
    Path("in/up").symlink_to("..")
    Path("in/again").symlink_to("deep")
    Path("outside.jpg").write_bytes(PNG)
    Path("in/link.jpg").symlink_to("../outside.jpg")
    fill("in/out", "old.jpg")


@pytest.mark.parametrize("format", [None, "webp"])
@pytest.mark.parametrize(
    "inputs",
    [
        ["in"],
        ["in/"],
        ["in/*"],
        ["in/**"],
        ["in/*.jpg", "in/deep"],
        ["in/a.jpg", "in/a.jpg", "in/b.png"],
        ["in/[a-d]*"],
    ],
)
def test_of_local_files_the_same_are_taken_as_by_stylize(inputs, format, messy):
    options = StylizeOptions(format=format)

    jobs = plan(inputs, "in/out", options, clip_suffix)
    found = items(*inputs, output="in/out", format=format)

    expected = {(str(job.source), str(job.target), job.clip) for job in jobs if job.error is None}
    named = {(one.key, str(Path("in/out", output_name(one, options))), one.clip) for one in found if not one.error}
    assert named == expected
    assert errors(found) == {str(job.source): str(job.error) for job in jobs if job.error}
    assert len(found) == len(jobs)
    assert all(Path(one.place).exists() for one in found if not one.error)


def test_undecodable_names_are_kept():
    Path("in").mkdir()
    Path(os.fsdecode(b"in/\xff\xfe.png")).write_bytes(PNG)

    (item,) = items("in")

    assert item.kept == "\udcff\udcfe.png"
    assert read_item(item, 10**6) == PNG
    assert "has a name that is no text" in next(iter(errors(items("in", output="memory://out")).values()))


def test_a_single_file_keeps_its_name():
    fill("in", "a.jpg")

    assert kept("in/a.jpg") == kept(f"file://{Path.cwd()}/in/a.jpg") == ["a.jpg"]


def test_what_is_named_and_not_there_is_reported():
    fill("in", "a.jpg")

    found = items("in/a.jpg", "in/nothing.jpg", "in/gone.tar")

    assert [one.key for one in found if not one.error] == ["in/a.jpg"]
    assert list(errors(found)) == ["in/nothing.jpg", "in/gone.tar"]


def test_brackets_and_braces_that_are_really_there_count_first():
    fill("in", "[1].jpg", "{1..3}.jpg", "a.jpg", "b.jpg", "c.jpg")

    assert kept("in/[1].jpg") == ["[1].jpg"]
    assert kept("in/{1..3}.jpg") == ["{1..3}.jpg"]
    assert kept("in/{a,c}.jpg") == ["a.jpg", "c.jpg"]


def test_two_inputs_for_one_output_are_refused():
    fill("in", "a.gif", "a.jpg", "x/b.jpg", "y/b.jpg")

    with pytest.raises(UsageError, match=r"in/a\.gif and in/a\.jpg would both become out/a\.png; paint them into"):
        items("in", format="png")
    with pytest.raises(UsageError, match=r"in/x/b\.jpg and in/y/b\.jpg would both become s3://b/o/b\.jpg"):
        items("in/x", "in/y", output="s3://b/o")
    assert kept("in") == ["a.gif", "a.jpg", "x/b.jpg", "y/b.jpg"]


def test_two_inputs_for_one_output_are_refused_in_any_shard(memory):
    fill(memory, "a.gif", "a.jpg", "b.jpg")

    for output in ("out", "memory://out"):
        with pytest.raises(UsageError, match="would both become"):
            [items(memory, output=output, format="png", shard=f"{index}/7") for index in range(7)]


@pytest.mark.parametrize("kind", ["folder", "list", "table", "tar", "memory", "bucket"])
def test_shards_are_all_of_it_and_none_twice(kind, request):
    names = [f"d/{number:02}.jpg" for number in range(40)]
    given = request.getfixturevalue(kind) if kind in ("memory", "bucket") else kind
    if kind == "list":
        Path(given := "x.txt").write_text("\n".join([*names, "\0"]))
    elif kind == "table":
        Path(given := "x.jsonl").write_text("\n".join([*(json.dumps({"path": name}) for name in names), "broken"]))
    elif kind == "tar":
        Path(given := "x.tar").write_bytes(tar_of(dict.fromkeys([*names, "../x.jpg"], PNG)))
    else:
        fill(given, *names)

    shards = [items(given, shard=f"{index}/5") for index in range(1, 6)]

    assert sorted(one.key for shard in shards for one in shard) == sorted(one.key for one in items(given))
    assert all(shards)
    assert sum(map(len, shards)) == (41 if kind in ("list", "table", "tar") else 40)


def test_nothing_for_a_shard_is_no_error_but_nothing_for_all_is(memory):
    fill("in", "a.jpg")
    Path("empty").mkdir()

    assert [] in [items("in", shard=f"{index}/2") for index in range(2)]
    for name in ("empty", "*.jpg", memory, f"{memory}/*.jpg"):
        with pytest.raises(InputError, match=r"no pictures in .*; give files or folders"):
            items(name, shard="1/2")


def test_tars_and_tables_in_a_folder_are_pointed_at(memory):
    for given in ("in", memory):
        write(f"{given}/x.tar", tar_of({"a.jpg": PNG}))
        with pytest.raises(InputError, match=r"name files that have many, such as .*/x\.tar"):
            items(given)
        assert kept(f"{given}/*.tar") == ["x/a.jpg"]


@pytest.mark.parametrize("store", ["memory", "bucket"])
def test_remote_folders_patterns_and_files(store, request):
    root = request.getfixturevalue(store)
    names = ["a.jpg", "d/e/ü %#.png", "d/film.mp4", "d/f.jpg"]
    fill(f"{root}/in", *names, "notes.md", ".hidden.jpg", "d/__MACOSX/x.jpg", "out/old.jpg", "outer/x.jpg", "x.tar")

    found = items(f"{root}/in", output=f"{root}/in/out")

    assert sorted((one.key, one.place, one.kept) for one in found) == sorted(
        (f"{root}/in/{name}", f"{root}/in/{name}", name) for name in [*names, "outer/x.jpg"]
    )
    assert [one.kept for one in found if one.clip] == ["d/film.mp4"]
    assert kept(f"{root}/in/", output=f"{root}/in") == kept(f"{root}/in", output=root)
    assert len(kept(f"{root}/in", output=root)) == len(names) + 2
    assert kept(f"{root}/in/d/*.jpg") == ["f.jpg"]
    assert kept(f"{root}/in/d*/*.jpg") == ["d/f.jpg"]
    assert sorted(kept(f"{root}/in/{{a,d/f}}.jpg")) == ["a.jpg", "f.jpg"]
    assert kept(f"{root}/in/d/film.mp4") == ["film.mp4"]
    assert [read_item(one, 10**6) for one in items(f"{root}/in/a.jpg")] == [PNG]


def test_remote_names_that_lead_out_are_reported(bucket):
    fill(bucket, "in/a.jpg", "in/../b.jpg", "in//c.jpg", "in/d\\..\\..\\..\\e.jpg")

    found = items(f"{bucket}/in")

    assert sorted(one.kept for one in found if not one.error) == ["a.jpg", "c.jpg"]
    assert len(errors(found)) == 2
    assert all("leads out of the output folder" in error for error in errors(found).values())
    assert all(".." not in one.kept for one in found)


def test_a_remote_file_without_suffix_is_a_picture(memory):
    fill(memory, "picture")

    assert kept(f"{memory}/picture") == ["picture"]


def test_web_addresses_are_files():
    assert kept("https://host/shop/a.jpg", "https://host/x/b.jpg?size=2") == ["a.jpg", "b-size=2.jpg"]


def test_lists_tables_and_tars_anywhere(bucket):
    fill(f"{bucket}/in", "a.jpg", "b.jpg")
    write(f"{bucket}/in/list.txt", b"a.jpg\r\nb.jpg\r\n")
    write(f"{bucket}/in/t.jsonl", b'{"path": "a.jpg"}\n{"path": "b.jpg"}\n')
    for number in range(3):
        write(f"{bucket}/in/{number:03}.tar", tar_of({"a.jpg": PNG}))

    assert kept(f"{bucket}/in/list.txt") == kept(f"{bucket}/in/t.jsonl") == ["a.jpg", "b.jpg"]
    expected = ["000/a.jpg", "001/a.jpg", "002/a.jpg"]
    assert kept(f"{bucket}/in/{{000..002}}.tar") == kept(f"{bucket}/in/*.tar") == expected
    assert all(read_item(one, 10**6) == PNG for one in items(f"{bucket}/in/*.tar"))
    found = items(f"{bucket}/in/{{001..004}}.tar")
    assert [one.kept for one in found if not one.error] == ["001/a.jpg", "002/a.jpg"]
    assert [key.rpartition("/")[2] for key in errors(found)] == ["003.tar", "004.tar"]


def test_what_is_listed_twice_is_taken_once():
    fill("in", "a.jpg", "b.jpg")
    Path("x.lst").write_text(f"in/a.jpg\n./in/a.jpg\n{Path.cwd()}/in/b.jpg\nin/b.jpg\nin/../in/a.jpg\n")
    Path("x.jsonl").write_text('{"file_name": "in/a.jpg"}\n')

    assert kept("x.lst", output="o")[:1] == ["in/a.jpg"]
    assert kept("x.lst", "x.jsonl", output="o").count("in/a.jpg") == 1
    assert kept("in", "in", "in/") == ["a.jpg", "b.jpg"]


def test_damaged_tables_and_tars_among_others_are_reported():
    fill("in", "a.jpg")
    Path("t.parquet").write_bytes(b"no table")
    Path("t.tar").write_bytes(b"no tar")

    found = items("t.parquet", "t.tar", "in")

    assert list(errors(found)) == ["t.parquet", "t.tar"]
    assert [one.kept for one in found if not one.error] == ["a.jpg"]
    with pytest.raises(InputError, match="no Parquet"):
        items("t.parquet")


def test_a_text_that_is_no_list_is_left_alone():
    fill("in", "a.jpg")
    Path("in/notes.txt").write_text("The photos of last summer,\nall of them.\n")

    assert kept("in/a.jpg", "in/notes.txt") == ["a.jpg"]
    with pytest.raises(InputError, match=r"no pictures in in/notes\.txt"):
        items("in/notes.txt")


def test_a_picture_that_is_called_a_list_is_a_picture():
    fill("in", "a.txt")

    assert kept("in/a.txt") == ["a.txt"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "s3://b/x.tar.zst"])
def test_compressed_tars_are_refused(name):
    with pytest.raises(UsageError, match="compressed tar"):
        items(name)


def test_a_folder_may_be_called_a_tar():
    fill("x.tar", "a.jpg")
    fill("x.tar.gz", "b.jpg")

    assert kept("x.tar", "x.tar.gz") == ["a.jpg", "b.jpg"]


def test_columns_are_checked():
    Path("t.jsonl").write_text('{"caption": "x", "where": "a.jpg"}\n')

    assert kept("t.jsonl", column="where") == ["a.jpg"]
    with pytest.raises(UsageError, match=r"has no column picture; give one of those that it has: caption, where"):
        items("t.jsonl", column="picture")


def test_standard_input_is_refused():
    with pytest.raises(UsageError, match="standard input"):
        items("-")


def test_stores_that_are_not_there_are_told(monkeypatch):
    monkeypatch.setattr("fastnst.storage.remote._PAUSES", ())
    with pytest.raises(UnavailableError, match="pip install gcsfs"):
        items("gs://bucket/in")
    with pytest.raises(StorageError, match="cannot be read now"):
        items("http://127.0.0.1:9/folder/")


def test_names_that_are_too_long_are_reported():
    Path("x.lst").write_text("a" * 253 + ".jpg\nb.jpg\n")

    found = items("x.lst")

    assert [one.kept for one in found if not one.error] == ["b.jpg"]
    assert "is too long a name" in found[0].error


def test_items_come_as_they_are_found(monkeypatch):
    Path("x.lst").write_text("a.jpg\nb.jpg\n")

    listing = items_of(["x.lst", "nothing.parquet"], "out", StylizeOptions())

    assert next(listing).kept == "a.jpg"


def test_photographs_of_the_repository_are_pictures():
    found = items(PHOTOS)

    assert len(found) == len(list(Path(PHOTOS).glob("*.jpg")))
    assert not errors(found)
