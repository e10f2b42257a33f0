import json
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from helpers.photos import noise_file

from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import InputError, UsageError
from fastnst.folder import plan, share_name
from fastnst.shard import Shard
from fastnst.video.jobs import plan_jobs

NAMES = [f"{folder}/{number:05}.jpg" for folder in ("a", "b ü", "c%#?") for number in range(2000)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.jpg", "in/deep/er/c.webp", "in/d.gif", "in/-x y.jpg", "in/ü%.png", "in/e.jpg"):
        noise_file(Path(name))
    Path("in/notes.txt").write_text("no picture")
    Path("in/damaged.jpg").write_bytes(b"no picture")
    return tmp_path


def planned(inputs, shard=None, output="out", **options):
    jobs = plan(inputs, output, StylizeOptions(shard=shard, **options))
    return [(str(job.source), str(job.target), str(job.error)) for job in jobs]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000])
def test_every_name_is_in_exactly_one_share(count):
    shares = [Shard(index, count) for index in range(1, count + 1)]

    assert {sum(share.has(name) for share in shares) for name in NAMES[:: max(1, count // 10)]} == {1}


def test_shares_are_of_about_the_same_size():
    sizes = Counter(next(i for i in range(1, 9) if Shard(i, 8).has(name)) for name in NAMES)

    assert len(sizes) == 8
    assert all(0.85 < size / (len(NAMES) / 8) < 1.15 for size in sizes.values())


@pytest.mark.parametrize(("name", "index"), [("a/00000.jpg", 6), ("b ü/00005.jpg", 7)])
def test_a_name_stays_in_its_share_on_any_machine(name, index):
    # What `printf NAME | b2sum -l 64` says, as a number, modulo 8, plus one.
    assert [i for i in range(1, 9) if Shard(i, 8).has(name)] == [index]


def test_names_that_no_text_can_be_have_a_share_too():
    assert [Shard(1, 2).has("\udcff.jpg"), Shard(2, 2).has("\udcff.jpg")].count(True) == 1


@pytest.mark.parametrize(("text", "shard"), [("3/8", Shard(3, 8)), ("0/8", Shard(8, 8)), (" 1/1 ", Shard(1, 1))])
def test_share_is_read_from_a_text(text, shard):
    assert Shard.parse(text) == shard
    assert StylizeOptions(shard=text).shard == str(shard)
    assert shard.tag == f"{shard.index}-of-{shard.count}"


@pytest.mark.parametrize("text", ["", "3", "9/8", "1/0", "0/0", "-1/8", "1/8/2", "a/b", "1.5/8", "³/8", "1/9999999999"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(UsageError, match="give I/N"):
        StylizeOptions(shard=text)


@pytest.mark.parametrize(
    ("name", "same"),
    [("a/b.jpg", "a/b"), ("a/b.PNG", "a/b"), ("b.jpg.png", "b"), ("film.MOV", "film"), ("x.1.png", "x.1"), ("a", "a")],
)
def test_share_is_that_of_the_name_without_suffix(name, same):
    assert share_name(name) == same


def test_frames_of_a_film_are_spread():
    names = [share_name(f"film.{number:04}.png") for number in range(100)]

    assert 20 < sum(map(Shard(1, 2).has, names)) < 80


@pytest.mark.parametrize("inputs", [["in"], ["in/*"], ["in/a.jpg", "in/b.png", "in/deep"]])
def test_shares_of_a_folder_are_all_of_it_and_none_twice(inputs, folder):
    shares = [planned(inputs, f"{index}/4") for index in range(1, 5)]

    assert sorted(chain(*shares)) == sorted(planned(inputs))
    assert sum(map(bool, shares)) > 1


@pytest.mark.parametrize("output", ["out", "out.png"])
def test_a_single_file_is_in_one_share(output, folder):
    shares = [planned(["in/a.jpg"], f"{index}/3", output) for index in range(3)]

    assert sorted(map(len, shares)) == [0, 0, 1]


def test_an_unreadable_folder_is_reported_by_one_share(folder):
    Path("in/gone").symlink_to("nowhere")

    shares = [planned(["in"], f"{index}/5") for index in range(5)]

    assert sum("gone is left out" in error for share in shares for _, _, error in share) == 1


def test_two_inputs_for_one_output_are_refused_whatever_the_shares(folder):
    noise_file(Path("in/e.gif"))

    with pytest.raises(UsageError, match="would both become"):
        [planned(["in"], f"{index}/9", format="png") for index in range(9)]


def test_a_share_without_files_is_no_error_but_a_folder_without_any_is(folder):
    Path("empty").mkdir()

    assert [] in [planned(["in"], f"{index}/500") for index in range(1, 4)]
    with pytest.raises(InputError, match="no pictures in empty"):
        planned(["empty"], "1/4")


def test_options_of_clips_that_are_in_other_shares_are_no_error(folder):
    plan_jobs(["in"], "out", StylizeOptions(shard="1/2"), ClipOptions(smooth=0.5))
    with pytest.raises(UsageError, match="video"):
        plan_jobs(["in"], "out", StylizeOptions(), ClipOptions(smooth=0.5))


def test_command_paints_its_share(folder, onnx_style, fastnst):
    for name in ("in/damaged.jpg", "in/notes.txt"):
        Path(name).unlink()
    written = []
    for index in range(2):
        done = fastnst("stylize", "in", "-o", "out", "--style", onnx_style, "--shard", f"{index}/2", "--json")
        assert done.returncode == 0, done.stderr
        written.append(json.loads(done.stdout)["written"])

    assert all(written)
    assert len(written[0]) + len(written[1]) == 7 == len([path for path in Path("out").rglob("*") if path.is_file()])
    assert fastnst("stylize", "in", "-o", "x", "--shard", "3/2").returncode == 2
