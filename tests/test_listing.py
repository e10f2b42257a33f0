import os
from pathlib import Path

import pytest

from fastnst.listing import entries_in, files_below, files_matching


def write(*names):
    for name in map(Path, names):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(b"")


def below(folder, *leave_out):
    return [path.as_posix() for path in files_below(Path(folder), [Path(path) for path in leave_out]).files]


def matching(pattern, *leave_out):
    return [path.as_posix() for path in files_matching(pattern, [Path(path) for path in leave_out]).files]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_files_are_found_at_all_depths_in_order():
    write("in/b", "in/a/c/d", "in/a/b", "out")

    assert below("in") == ["in/a/b", "in/a/c/d", "in/b"]


@pytest.mark.parametrize(
    "name",
    [
        ".x.jpg",
        "._x.jpg",
        ".DS_Store",
        ".thumbnails/x.jpg",
        ".ipynb_checkpoints/x.png",
        "@eaDir/x.jpg/SYNOFILE_THUMB_M.jpg",
        "#recycle/x.jpg",
        "$RECYCLE.BIN/x.jpg",
        "__MACOSX/x.jpg",
        "Thumbs.db",
        "desktop.ini",
        "deep/THUMBS.DB",
        "deep/.hidden/x.jpg",
        "run/previews/000000-0.jpg",
        "run/metrics.jsonl",
        "run/report.html",
        "run/bad_images.txt",
        "run/events.out.tfevents.1.2",
        "descent/000100.png",
        "weights.jpg",
    ],
)
def test_what_nobody_put_there_is_left_out(name):
    write("in/x.jpg", f"in/{name}", "in/run/metrics.jsonl", "in/run/previews/000010-0.jpg", "in/descent/metrics.jsonl")
    write("in/weights/sweep.json")

    assert below("in") == ["in/weights/sweep.json", "in/x.jpg"]
    assert [name for name in matching("in/**") if name != "in/weights/sweep.json"] == ["in/x.jpg"]
    assert name not in map(str, entries_in(Path("in")))


def test_names_that_mean_something_elsewhere_are_taken():
    names = ["in/000100.png", "in/previews/a.jpg", "in/thumbs/a.jpg", "in/weights.jpg", "in/weights/a.jpg"]
    write(*names)

    assert below("in") == sorted(names, key=Path)


def test_photographs_among_logs_are_taken():
    write("in/metrics.jsonl", "in/previews/000000-0.jpg", "in/000100.jpg", "in/a.jpg")

    assert below("in") == ["in/000100.jpg", "in/a.jpg"]


def test_what_is_to_be_left_out_is_so_by_whatever_way_it_is_reached():
    write("in/a", "in/out/b", "in/c")
    Path("in/link").symlink_to(Path("in/out").absolute())

    assert below("in", "in/out/../out", "in/c", "missing") == ["in/a"]
    assert matching("in/*", "in/out", "in/c") == ["in/a"]
    assert matching("in/*/*", "in/out") == []
    assert matching("in/**", "in/out", "in/c") == ["in/a"]
    assert below("in", "in", "in/out") == ["in/a", "in/c"]  # the folder itself cannot be


def test_links_to_folders_are_followed_once_and_never_in_circles():
    write("in/b/x", "elsewhere/y", "elsewhere/deep/z")
    Path("in/a").symlink_to("b")  # found as b, under its own name
    Path("in/b/up").symlink_to(Path("in").absolute())
    Path("in/b/out").symlink_to(Path("elsewhere").absolute())
    Path("elsewhere/back").symlink_to(Path("in").absolute())
    Path("elsewhere/deep/again").symlink_to(Path("elsewhere").absolute())

    assert below("in") == ["in/b/out/deep/z", "in/b/out/y", "in/b/x"]
    assert matching("in/**") == ["in/b/out/deep/z", "in/b/out/y", "in/b/x"]
    assert matching("in/*/x") == ["in/b/x"]


def test_a_folder_may_be_a_link_or_above_the_current_one_and_links_up_are_circles(monkeypatch):
    write("data/in/a", "data/in/deep/b", "data/c")
    Path("data/in/up").symlink_to(Path("data").absolute())
    Path("in").symlink_to("data/in")
    Path("data/in/deep/self").symlink_to(".")

    assert below("in") == ["in/a", "in/deep/b"]
    assert matching("in/*") == ["in/a"]
    assert matching("in/*/*") == ["in/deep/b"]
    assert below("in/up") == ["in/up/c", "in/up/in/a", "in/up/in/deep/b"]
    monkeypatch.chdir("data/in/deep")
    assert below("..") == ["../a", "../deep/b"]
    assert below(".") == ["b"]


def test_links_to_files_are_files_and_those_to_nothing_are_told():
    write("in/a")
    Path("in/b").symlink_to("a")
    Path("in/c").symlink_to("missing")
    Path("in/d").symlink_to("d")

    for listing in (files_below(Path("in")), files_matching("in/*"), files_matching("in/**")):
        assert listing.files == [Path("in/a"), Path("in/b")]
        assert list(listing.unreadable) == [Path("in/c"), Path("in/d")]
    assert files_matching("in/**/a").unreadable == {}


def test_a_folder_that_cannot_be_read_is_told(monkeypatch):
    write("in/a", "in/locked/b")
    before = os.listdir

    def refuse(path="."):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return before(path)

    monkeypatch.setattr(os, "listdir", refuse)
    for listing in (files_below(Path("in")), files_matching("in/**/*"), files_matching("in/**/b")):
        assert listing.unreadable == {Path("in/locked"): "the folder cannot be read: Permission denied"}
    assert files_matching("in/*/*").unreadable == {Path("in/locked"): "the folder cannot be read: Permission denied"}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("in/*.jpg", ["in/a.jpg", "in/b.jpg"]),
        ("in/[!a].jpg", ["in/b.jpg"]),
        ("in/?.*", ["in/a.jpg", "in/b.jpg", "in/c.png"]),
        ("in/**/*.jpg", ["in/a.jpg", "in/b.jpg", "in/x [1]/a[1].jpg", "in/x [1]/e.jpg"]),
        ("**/c.png", ["in/c.png"]),
        ("in/x [1]/*.jpg", ["in/x [1]/a[1].jpg", "in/x [1]/e.jpg"]),
        ("in/x [1]/**", ["in/x [1]/a[1].jpg", "in/x [1]/e.jpg"]),
        ("in/x*/*[1].jpg", ["in/x [1]/a[1].jpg"]),
        ("in/* [[]1]/e.*", ["in/x [1]/e.jpg"]),
        ("./in/../in/*.png", ["in/../in/c.png"]),
        ("in/.*", ["in/.h.jpg"]),
        ("in/*/*/*", []),
        ("nowhere/*", []),
        ("in/a.jpg/*", []),
    ],
)
def test_patterns(pattern, found):
    write("in/a.jpg", "in/b.jpg", "in/c.png", "in/x [1]/a[1].jpg", "in/x [1]/e.jpg", "in/.h.jpg")

    assert matching(pattern) == found
    assert matching(str(Path.cwd() / pattern)) == [(Path.cwd() / name).as_posix() for name in found]
