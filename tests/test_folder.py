import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import noise, noise_file
from PIL import Image

from fastnst.config import StylizeOptions
from fastnst.errors import InputError, OutputError, UsageError
from fastnst.folder import IN_HAND, Job, plan, run
from fastnst.stylize import Stylizer

OPTIONS = StylizeOptions()


def negative(images):
    return 1 - images


def planned(inputs, output, **options):
    return [(str(job.source), str(job.target)) for job in plan(inputs, output, StylizeOptions(**options))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.jpg", "in/deep/er/c.webp", "in/d.gif"):
        noise_file(Path(name))
    Path("in/notes.txt").write_text("no picture")
    return tmp_path


def test_one_file_goes_to_the_file_that_is_named(folder):
    assert planned(["in/a.jpg"], "x/y.png") == [("in/a.jpg", "x/y.png")]


@pytest.mark.parametrize("output", ["out", "out/", "out.v2/", "painted.png/"])
def test_one_file_goes_into_a_folder_under_its_own_name(output, folder):
    assert planned(["in/a.jpg"], output) == [("in/a.jpg", str(Path(output, "a.jpg")))]


def test_one_file_goes_into_an_existing_folder_whatever_its_name(folder):
    Path("out.png").mkdir()

    assert planned(["in/a.jpg"], "out.png") == [("in/a.jpg", "out.png/a.jpg")]


def test_folder_keeps_its_sub_folders_and_formats(folder):
    assert planned(["in"], "out") == [
        ("in/a.jpg", "out/a.jpg"),
        ("in/b.png", "out/b.png"),
        ("in/d.gif", "out/d.png"),
        ("in/deep/er/c.webp", "out/deep/er/c.webp"),
    ]


def test_format_of_a_folder_can_be_chosen(folder):
    assert [target for _, target in planned(["in"], "out", format="webp")] == [
        "out/a.webp",
        "out/b.webp",
        "out/d.webp",
        "out/deep/er/c.webp",
    ]


def test_output_folder_inside_the_input_is_not_painted_again(folder):
    noise_file(Path("in/out/a.jpg"))

    assert "in/out/a.jpg" not in dict(planned(["in"], "in/out", skip_existing=True))


def test_globs_are_expanded(folder):
    assert planned(["in/*"], "out") == [
        ("in/a.jpg", "out/a.jpg"),
        ("in/b.png", "out/b.png"),
        ("in/d.gif", "out/d.png"),
    ]
    assert planned(["in/**/*.webp"], "out") == [("in/deep/er/c.webp", "out/c.webp")]


def test_a_folder_with_brackets_in_its_name_is_no_pattern(folder):
    noise_file(Path("photos [2019]/a.jpg"))

    assert planned(["photos [2019]/*.jpg"], "out") == [("photos [2019]/a.jpg", "out/a.jpg")]
    with pytest.raises(InputError, match=r"\[\[\] for a bracket"):
        plan(["photos [2020]/*.jpg"], "out", OPTIONS)


def reported(inputs, output="out", clips=()):
    jobs = plan(inputs, output, OPTIONS, lambda path: ".mp4" if path.name in clips else None)
    return sorted(str(job.source) for job in jobs if job.error), [str(job.target) for job in jobs if not job.error]


@pytest.mark.parametrize("how", ["folder", "pattern", "list"])
def test_folder_pattern_and_list_take_report_and_leave_alone_the_same(how, folder):
    for name in ("x.heic", "y.nef", "broken.jpg", "z.mov", "notes.txt", "Thumbs.db", "clip", "also.mkv"):
        Path("in", name).write_bytes(b"something")
    for name in (".h.jpg", "._a.jpg", "@eaDir/a.jpg", "flat/previews/000000-0.jpg"):
        noise_file(Path("in", name))
    Path("in/flat/metrics.jsonl").write_text("")
    Path("in/gone.jpg").symlink_to("nothing")
    Path("in/gone").symlink_to("nothing")
    Path("in/deep/er/c.webp").unlink()
    inputs = {"folder": ["in"], "pattern": ["in/*"], "list": [str(path) for path in sorted(Path("in").glob("[!.]*"))]}

    failed, targets = reported(inputs[how], clips=("clip", "also.mkv"))

    assert failed == [f"in/{name}" for name in ("broken.jpg", "gone", "gone.jpg", "x.heic", "y.nef", "z.mov")]
    assert sorted(targets) == [f"out/{name}" for name in ("a.jpg", "also.mp4", "b.png", "clip.mp4", "d.png")]


def test_a_list_with_folders_is_followed_once_and_not_into_the_output(folder):
    noise_file(Path("in/out/z.jpg"))
    Path("in/again").symlink_to("deep")
    Path("in/deep/up").symlink_to(Path("in").absolute())
    Path("in/self").symlink_to(".")

    failed, targets = reported([str(path) for path in sorted(Path("in").iterdir())], "in/out")

    assert (failed, sorted(targets)) == ([], [f"in/out/{name}" for name in ("a.jpg", "b.png", "d.png", "er/c.webp")])


def test_what_cannot_be_read_collides_with_nothing_and_is_told_when_it_is_its_turn(folder):
    Path("in/b.jxl").write_bytes(b"\xff\x0a" + bytes(30))

    outcomes = list(run(Stylizer(negative), plan(["in"], "out", OPTIONS), OPTIONS))

    assert [outcome.job.source.name for outcome in outcomes if outcome.error] == ["b.jxl"]
    assert Path("out/b.png").exists()


def test_a_missing_file_of_a_list_is_reported(folder):
    assert reported(["in/a.jpg", "in/missing.jpg"]) == (["in/missing.jpg"], ["out/a.jpg"])


def test_name_with_brackets_that_exists_is_no_glob(folder):
    noise_file(Path("a[1].png"))

    assert planned(["a[1].png"], "out") == [("a[1].png", "out/a[1].png")]


def test_picture_without_a_suffix_is_found_by_its_content(folder):
    Path("in/a.jpg").rename("in/portrait")

    assert ("in/portrait", "out/portrait.png") in planned(["in"], "out")


@pytest.mark.parametrize("inputs", [["in/*.bmp"], ["empty"]])
def test_nothing_to_paint_is_an_input_error(inputs, folder):
    Path("empty").mkdir()

    with pytest.raises(InputError, match="no pictures in"):
        plan(inputs, "out", OPTIONS)


def test_two_inputs_with_one_output_are_a_usage_error(folder):
    noise_file(Path("other/a.jpg"))

    with pytest.raises(UsageError, match=r"in/a\.jpg and other/a\.jpg would both become out/a\.jpg"):
        plan(["in/a.jpg", "other/a.jpg"], "out", OPTIONS)


@pytest.mark.parametrize("output", ["-", "one.png"])
def test_several_inputs_cannot_go_to_one_output(output, folder):
    with pytest.raises(UsageError, match="several pictures cannot all go to"):
        plan(["in"], output, OPTIONS)


@pytest.mark.parametrize("output", ["a.bmp", "a.tar.gz", ""])
def test_output_with_a_wrong_suffix_is_a_usage_error(output, folder):
    with pytest.raises(UsageError, match="the name must end in"):
        plan(["in/a.jpg"], output, OPTIONS)


def test_standard_input_cannot_go_into_a_folder(folder):
    with pytest.raises(UsageError, match="standard input cannot go into a folder"):
        plan(["-"], "out", OPTIONS)


def test_one_existing_output_refuses_the_whole_folder(folder):
    noise_file(Path("out/deep/er/c.webp"))

    with pytest.raises(OutputError, match=r"out/deep/er/c\.webp exists already"):
        plan(["in"], "out", OPTIONS)


def test_skip_existing_leaves_out_what_is_painted(folder):
    noise_file(Path("out/deep/er/c.webp"))

    assert len(planned(["in"], "out", skip_existing=True)) == 3


def test_plan_makes_nothing(folder):
    plan(["in"], "out/new", OPTIONS)

    assert not Path("out").exists()


def test_run_reports_what_fails_and_paints_the_others(folder):
    Path("in/b.png").write_bytes(b"damaged")

    outcomes = list(run(Stylizer(negative), plan(["in"], "out", OPTIONS), OPTIONS))

    assert [type(outcome.error).__name__ for outcome in outcomes] == [
        "NoneType",
        "UnsupportedFormatError",
        "NoneType",
        "NoneType",
    ]
    assert sorted(path.name for path in Path("out").rglob("*.*")) == ["a.jpg", "c.webp", "d.png"]


def test_run_stops_at_the_first_failure_with_fail_fast(folder):
    Path("in/b.png").write_bytes(b"damaged")
    options = StylizeOptions(fail_fast=True)

    outcomes = list(run(Stylizer(negative), plan(["in"], "out", options), options))

    assert [outcome.error is None for outcome in outcomes] == [True, False]


def test_run_raises_what_concerns_every_output(folder):
    jobs = plan(["in"], "out", OPTIONS)
    Path("out").write_bytes(b"in the way")

    with pytest.raises(OutputError, match="cannot make the folder out"):
        list(run(Stylizer(negative), jobs, OPTIONS))


def test_run_paints_many_pictures_in_order_as_one_by_one(folder):
    for index in range(12):
        Image.fromarray(noise(20 + index, 30)).save(f"in/n{index:02}.png")
    jobs = plan(["in"], "out", OPTIONS)
    style = Stylizer.open("great-wave-tiny")

    outcomes = list(run(style, jobs, OPTIONS))

    assert [outcome.job for outcome in outcomes] == jobs
    assert all(outcome.error is None for outcome in outcomes)
    for job in jobs:
        if job.target.suffix == ".png":
            with Image.open(job.target) as written:
                np.testing.assert_array_equal(np.asarray(written), np.asarray(style.stylize(job.source)))


def test_run_paints_one_picture_at_a_time_and_reads_few_ahead(folder, caplog):
    caplog.set_level("INFO")
    for index in range(9):
        Image.fromarray(noise()).save(f"in/n{index}.png")
    at_once, most = 0, 0

    def engine(images):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        painted = negative(images)
        at_once -= 1
        return painted

    style = Stylizer(engine)
    for done, _ in enumerate(run(style, plan(["in"], "out", OPTIONS), OPTIONS), start=1):
        assert len(list(Path("out").rglob("*.*"))) <= done + IN_HAND

    assert most == 1
    assert re.search(r"the network was busy for \d+\.\d of \d+\.\d seconds \(\d+ %\)", caplog.text)


def test_run_that_is_given_up_begins_nothing_more(folder):
    for index in range(20):
        Image.fromarray(noise()).save(f"in/n{index:02}.png")
    outcomes = run(Stylizer(negative), plan(["in"], "out", OPTIONS), OPTIONS)

    next(outcomes)
    outcomes.close()

    assert 1 <= len(list(Path("out").rglob("*.*"))) <= 1 + IN_HAND


@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_standard_output_gets_the_format_that_is_asked_for(format, folder, capfdbinary):
    jobs = [Job(Path("in/a.jpg"), "-")]

    list(run(Stylizer(negative), jobs, StylizeOptions(format=format)))

    expected = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[format]
    assert Image.open(BytesIO(capfdbinary.readouterr().out)).format == expected


def test_standard_output_gets_every_byte_when_a_write_takes_only_a_part(folder, monkeypatch):
    class Narrow(BytesIO):
        def write(self, data):
            return super().write(data[:100])

    class Text:
        buffer = Narrow()

    monkeypatch.setattr(sys, "stdout", Text)
    list(run(Stylizer(negative), [Job(Path("in/b.png"), "-")], OPTIONS))

    painted = Image.open(Text.buffer)
    np.testing.assert_array_equal(np.asarray(painted), 255 - noise())


def test_strokes_too_large_for_a_picture_fail_it_only(tmp_path):
    photos = [noise_file(tmp_path / "small.png"), noise_file(tmp_path / "large.png", 60, 90)]
    options = StylizeOptions(stroke=3)

    outcomes = list(run(Stylizer(negative), plan(list(map(str, photos)), str(tmp_path / "out"), options), options))

    assert "would be painted at 8x7" in str(outcomes[0].error)
    assert outcomes[1].error is None


def test_a_mask_of_another_size_fails_its_picture_only(tmp_path):
    photos = [noise_file(tmp_path / "small.png"), noise_file(tmp_path / "large.png", 30, 40)]
    Image.new("L", (24, 20), 255).save(tmp_path / "mask.png")
    options = StylizeOptions(mask=tmp_path / "mask.png")

    outcomes = list(run(Stylizer(negative), plan(list(map(str, photos)), str(tmp_path / "out"), options), options))

    assert outcomes[0].error is None
    assert "has 24x20 pixels but the picture 40x30" in str(outcomes[1].error)
