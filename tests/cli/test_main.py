import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import noise, noise_file
from PIL import Image

from fastnst import errors
from fastnst.cli import main
from fastnst.cli.main import RENAMED, app

COMMANDS = [
    "batch",
    "benchmark",
    "dream",
    "evaluate",
    "export",
    "finetune",
    "import",
    "info",
    "merge",
    "optimize",
    "reconstruct",
    "serve",
    "sheet",
    "site",
    "styles",
    "stylize",
    "sweep",
    "tradeoff",
    "train",
    "visualize",
]

# The head of a PNG of 1x50,000,000 pixels.
HEADER = b"IHDR" + struct.pack(">IIBBBBB", 1, 50_000_000, 8, 2, 0, 0, 0)
TALL = b"\x89PNG\r\n\x1a\n\0\0\0\r" + HEADER + struct.pack(">I", zlib.crc32(HEADER)) + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"


def snapshot(folder):
    return {
        os.fsencode(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in Path(folder).rglob("*")
    }


def is_one_sentence(text):
    return text.startswith("fastnst: ") and text.count("\n") == 1 and text.endswith("\n") and "Traceback" not in text


def every_error(kind=errors.FastnstError):
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(found for child in children for found in every_error(child))]


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a command line that must be refused: exit status, one sentence, nothing on stdout, nothing new on disk."""
    monkeypatch.chdir(tmp_path)

    def run(status, *arguments):
        before = snapshot(tmp_path)
        found = main([os.fspath(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (found, out) == (status, ""), err
        assert is_one_sentence(err), err
        assert snapshot(tmp_path) == before
        return err

    return run


@pytest.fixture
def painted(tmp_path, monkeypatch, capsys, onnx_style):
    """Run `stylize` with the small style and return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main(["stylize", *map(os.fspath, arguments), "--style", str(onnx_style)])
        return status, *capsys.readouterr()

    return run


def test_commands_are_listed_with_a_line_of_help_each(capsys):
    assert sorted(name for name in app if not name.startswith("-")) == COMMANDS
    assert main(["-h"]) == 0
    lines = [line.strip("│ ").split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    described = {words[0] for words in lines if len(words) == 2}

    assert described >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    status = main([command, "--help"])

    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert f"Usage: fastnst {command}" in out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["-"],
        ["stylize"],
        ["stylize", "a.jpg"],
        ["stylize", "a.jpg", "-o"],
        ["stylize", "a.jpg", "-o", "b.png", "--unknown"],
        ["stylize", "a.jpg", "-o", "b.png", "--engine", "steam"],
        ["stylize", "a.jpg", "-o", "b.png", "--strength", "nan"],
        ["stylize", "a.jpg", "-o", "b.png", "--strength", "inf"],
        ["stylize", "a.jpg", "-o", "b.png", "--strength", "much"],
        ["stylize", "a.jpg", "-o", "b.png", "--strength-mode", "half"],
        ["stylize", "a.jpg", "-o", "b.png", "--stroke", "0.4"],
        ["stylize", "a.jpg", "-o", "b.png", "--stroke", "3.1"],
        ["stylize", "a.jpg", "-o", "b.png", "--stroke", "nan"],
        ["stylize", "a.jpg", "-o", "b.png", "--style", "great-wave", "--style", "harvest"],
        ["stylize", "a.jpg", "-o", "b.png", *["--style", "harvest"] * 3, "--mask", "m.png"],
        ["stylize", "a.jpg", "-o", "b.png", *["-s", "harvest"] * 2, "--mask", "m.png", "--background", "photo"],
        ["stylize", "a.jpg", "-o", "b.png", "--max-size", "nan"],
        ["stylize", "a.jpg", "-o", "b.png", "--max-size", "inf"],
        ["stylize", "a.jpg", "-o", "b.png", "--style", "no-such-style"],
        ["stylize", "a.jpg", "-o", "b.bmp"],
        ["stylize", "a.jpg", "b.jpg", "-o", "b.png"],
        ["stylize", "a\nb.jpg", "-o", "b.\x1b[31m"],
        ["sheet", "a.jpg", "-o", "b.png", "--tile-size", "0"],
        ["sheet", "a.jpg", "-o", "b.bmp"],
    ],
)
def test_wrong_usage_is_exit_status_2_and_one_sentence(arguments, refused):
    assert "\x1b" not in refused(2, *arguments)


@pytest.mark.parametrize("kind", every_error())
def test_every_error_ends_with_its_exit_status(kind, capsys):
    error = kind("stopped", signal.SIGTERM) if kind is errors.Interrupted else kind("stopped")

    @app.command
    def fail():
        raise error

    try:
        status = main(["fail"])
    finally:
        del app["fail"]

    assert status == error.exit_status
    assert capsys.readouterr() == ("", "fastnst: stopped\n")


def test_exit_statuses_are_those_the_readers_of_the_documentation_rely_on():
    assert {kind.__name__: getattr(kind, "exit_status", None) for kind in every_error()} == {
        "FastnstError": 1,
        "UsageError": 2,
        "UnavailableError": 3,
        "InputError": 4,
        "SizeError": 4,
        "UnsupportedFormatError": 4,
        "ModelError": 4,
        "UnsafeModelError": 4,
        "OutputError": 5,
        "DivergedError": 6,
        "StoppedError": 1,
        "StorageError": 1,
        "Interrupted": 1,  # of the class; each one carries 128 and its signal
    }
    assert errors.Interrupted("", signal.SIGINT).exit_status == 130
    assert errors.Interrupted("", signal.SIGTERM).exit_status == 143


def test_a_bug_is_exit_status_1_with_a_traceback(capsys):
    @app.command
    def fail():
        raise ZeroDivisionError

    try:
        status = main(["fail"])
    finally:
        del app["fail"]

    assert status == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("fastnst: this is a bug in fastnst; please report it with the lines above\n")


@pytest.mark.parametrize(
    "line",
    [
        "import fastnst",
        "from fastnst.cli import main; main(['--help'])",
        "from fastnst.cli import main; main(['--version'])",
        "from fastnst.cli import main; main(['stylize', '--help'])",
        "from fastnst.cli import main; main(['train', '--help'])",
    ],
)
def test_help_and_version_load_neither_torch_nor_onnxruntime(line):
    script = f"import sys\n{line}\nsys.exit(' '.join(sys.modules.keys() & {{'torch', 'onnxruntime'}}) or 0)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


def test_painting_with_an_onnx_style_does_not_load_torch(tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")
    line = f"main(['stylize', 'a.png', '-o', 'b.png', '--style', {str(onnx_style)!r}])"
    script = f"import sys\nfrom fastnst.cli import main\nassert {line} == 0\nassert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_version_is_printed(capsys):
    from fastnst import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"{__version__}\n", "")


# test_image.py has the many ways in which a picture can be damaged.
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"<html>",
        b"II*\0\x08\0\0\0",
        b"\x89PNG\r\n\x1a\n",
        TALL,
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0",
    ],
)
def test_unusable_picture_is_exit_status_4_and_one_sentence(data, refused, tmp_path, onnx_style):
    (tmp_path / "a.png").write_bytes(data)

    assert "a.png" in refused(4, "stylize", "a.png", "-o", "new/b.png", "--style", onnx_style)


def test_smallest_picture_is_painted_and_a_smaller_one_refused_with_the_smallest_size(painted, tmp_path):
    noise_file(tmp_path / "a.png", 16, 16)
    noise_file(tmp_path / "small.png", 15, 16)

    assert painted("a.png", "-o", "b.png") == (0, "b.png\n", "")
    status, out, err = painted("small.png", "-o", "c.png")
    assert (status, out) == (4, "")
    assert "small.png is 16x15 pixels but at least 16x16 are needed" in err


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_cut_picture_is_exit_status_4_and_one_sentence_from_a_process(suffix, fastnst, tmp_path, onnx_style):
    whole = Path(noise_file(tmp_path / f"a.{suffix}")).read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])

    done = fastnst("stylize", f"a.{suffix}", "-o", "b.png", "--style", onnx_style)

    assert (done.returncode, done.stdout) == (4, b"")
    assert is_one_sentence(done.stderr.decode())


def test_allow_truncated_paints_what_is_left_and_warns(painted, tmp_path):
    whole = Path(noise_file(tmp_path / "a.jpg", 64, 64)).read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) * 3 // 4])

    status, out, err = painted("a.jpg", "-o", "b.png", "--allow-truncated")

    assert (status, out) == (0, "b.png\n")
    assert "a.jpg: damaged parts, if any, are left gray" in err


def test_jpeg_named_png_is_painted(painted, tmp_path):
    noise_file(tmp_path / "a.png", format="JPEG")

    assert painted("a.png", "-o", "b.png") == (0, "b.png\n", "")


def test_animation_is_refused_with_frames_reject(refused, tmp_path, onnx_style):
    frames = [Image.new("L", (16, 16), color) for color in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    assert "--frames first" in refused(
        4, "stylize", "a.gif", "-o", "b.png", "--frames", "reject", "--style", onnx_style
    )


def test_photo_from_a_phone_comes_out_upright_without_orientation(painted, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise_file(tmp_path / "a.jpg", 20, 30, exif=exif.tobytes())

    assert painted("a.jpg", "-o", "b.jpg")[0] == 0
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.size == (20, 30)
        assert not image.getexif()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_where_a_photo_was_taken_is_not_in_the_painting(suffix, painted, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    noise_file(tmp_path / f"a.{suffix}", 20, 30, exif=exif.tobytes())
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.getexif().get_ifd(0x8825)

    assert painted(f"a.{suffix}", "-o", f"b.{suffix}")[0] == 0
    with Image.open(tmp_path / f"b.{suffix}") as image:
        assert image.size == (20, 30)
        assert not image.getexif()
        assert "exif" not in image.info


def test_damaged_exif_is_not_mentioned(fastnst, tmp_path, onnx_style):
    noise_file(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")

    done = fastnst("stylize", "a.jpg", "-o", "b.png", "--style", onnx_style)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"b.png\n", b"")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_alpha_is_kept(suffix, painted, tmp_path):
    image = Image.fromarray(noise())
    image.putalpha(Image.fromarray(noise(seed=1)[..., 0]))
    image.save(tmp_path / "a.png")

    assert painted("a.png", "-o", f"b.{suffix}")[0] == 0
    with Image.open(tmp_path / f"b.{suffix}") as written:
        np.testing.assert_array_equal(np.asarray(written.getchannel("A")), noise(seed=1)[..., 0])


def test_jpeg_is_flattened_on_white(painted, tmp_path):
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(tmp_path / "a.png")

    assert painted("a.png", "-o", "b.jpg")[0] == 0
    with Image.open(tmp_path / "b.jpg") as written:
        assert written.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("size", [(17, 1023), (481, 640), (31, 37)])
def test_output_has_the_size_of_the_input(size, painted, tmp_path):
    noise_file(tmp_path / "a.png", *size)

    assert painted("a.png", "-o", "b.png")[0] == 0
    with Image.open(tmp_path / "b.png") as written:
        assert (written.height, written.width) == size


def test_max_size_scales_the_longer_side(painted, tmp_path):
    noise_file(tmp_path / "a.jpg", 60, 90)

    assert painted("a.jpg", "-o", "b.png", "--max-size", "45")[0] == 0
    with Image.open(tmp_path / "b.png") as written:
        assert written.size == (45, 30)


def test_strength_zero_writes_the_photo(painted, tmp_path):
    noise_file(tmp_path / "a.png")

    assert painted("a.png", "-o", "b.png", "--strength", "0")[0] == 0
    with Image.open(tmp_path / "b.png") as written:
        np.testing.assert_array_equal(np.asarray(written), noise())


def test_second_style_is_painted_outside_the_mask(tmp_path, monkeypatch, capsys, onnx_style):
    monkeypatch.chdir(tmp_path)
    noise_file(tmp_path / "a.png")
    mask = np.zeros((20, 24), np.uint8)
    mask[:10] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    bundled = ["--style", "great-wave-tiny"]

    for name, *options in (
        ("both.png", "--style", onnx_style, *bundled, "--mask", "mask.png", "--feather", "0"),
        ("first.png", "--style", onnx_style),
        ("second.png", *bundled),
    ):
        assert main(["stylize", *map(str, options), "a.png", "-o", name]) == 0

    assert capsys.readouterr().out == "both.png\nfirst.png\nsecond.png\n"
    both, first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("both.png", "first.png", "second.png"))
    np.testing.assert_array_equal(both[:10], first[:10])
    np.testing.assert_array_equal(both[10:], second[10:])


def test_styles_are_mixed_by_their_shares(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    noise_file(tmp_path / "a.png")
    two = ["--style", "great-wave", "--style", "cafe-terrace"]

    for name, *options in (
        ("mixed.png", *two, "--mix", "0.6,0.4"),
        ("all.png", *two, "--mix", "0,1"),
        ("b.png", *two[2:]),
    ):
        assert main(["stylize", "a.png", "-o", name, *options]) == 0

    assert capsys.readouterr().out == "mixed.png\nall.png\nb.png\n"
    between, everything, second = (
        np.asarray(Image.open(name)).astype(int) for name in ("mixed.png", "all.png", "b.png")
    )
    assert np.abs(everything - second).max() <= 1
    assert np.abs(between - second).mean() > 2


def test_several_styles_need_a_mask_or_shares(refused, tmp_path):
    noise_file(tmp_path / "a.png")
    two = ["--style", "great-wave", "--style", "cafe-terrace"]

    assert "--mix 0.5,0.5" in refused(2, "stylize", "a.png", "-o", "b.png", *two)
    assert "one for each --style" in refused(2, "stylize", "a.png", "-o", "b.png", *two, "--mix", "1")
    assert "do not mix" in refused(2, "stylize", "a.png", "-o", "b.png", *two[:3], "great-wave-tiny", "--mix", "1,1")


def test_a_picture_in_bands_is_the_same_and_shows_how_far_it_is(painted, tmp_path):
    noise_file(tmp_path / "a.png", 150, 140)

    assert painted("a.png", "-o", "whole.png")[0] == 0
    status, out, err = painted("a.png", "-o", "bands.png", "--tile", "64")

    assert (status, out) == (0, "bands.png\n")
    assert "stylizing 100 %" in err
    whole, bands = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("whole.png", "bands.png"))
    assert np.abs(whole - bands).max() <= 1


def test_strokes_and_strength_keep_the_size(painted, tmp_path):
    noise_file(tmp_path / "a.png", 61, 97)

    assert painted("a.png", "-o", "b.png", "--stroke", "2", "--strength", "0.5") == (0, "b.png\n", "")
    assert painted("a.png", "-o", "c.png", "--stroke", "0.5", "--strength-mode", "fade") == (0, "c.png\n", "")
    for name in ("b.png", "c.png"):
        with Image.open(tmp_path / name) as written:
            assert written.size == (97, 61)


def test_strokes_too_large_for_the_picture_are_exit_status_4(refused, tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")

    assert "choose a smaller --stroke" in refused(
        4, "stylize", "a.png", "-o", "b.png", "--stroke", "3", "--style", onnx_style
    )


@pytest.mark.parametrize(
    "name", ["folder.jpg", "pipe.jpg", "broken.jpg", "loop.jpg", "missing.jpg", "a" * 300 + ".jpg"]
)
def test_what_is_no_ordinary_file_is_exit_status_4(name, refused, tmp_path, onnx_style):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to("nothing.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")

    assert name in refused(4, "stylize", name, "-o", "out", "--style", onnx_style)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"two\nlines.png", "two\\nlines.png"),
        ("🎨 Straße.png".encode(), "🎨 Straße.png"),
        (b"-o.png", "-o.png"),
        (b"\xff\xfe.png", "\\udcff\\udcfe.png"),
        (b"[1]*?.png", "[1]*?.png"),
        (b"a" * 251 + b".png", "a" * 251 + ".png"),
    ],
)
def test_odd_names_are_painted_and_safely_printed(name, shown, painted, tmp_path):
    noise_file(tmp_path / os.fsdecode(name))

    assert painted(os.path.join(".", os.fsdecode(name)), "-o", "out") == (0, f"out/{shown}\n", "")
    assert os.listdir(os.fsencode(tmp_path / "out")) == [name]


@pytest.mark.parametrize("name", [b"two\nlines.png", b"\xff\xfe.png", b"\x1b[31m.png"])
def test_odd_names_are_safely_printed_in_errors(name, refused, tmp_path, onnx_style):
    (tmp_path / os.fsdecode(name)).write_bytes(b"")

    message = refused(4, "stylize", os.fsdecode(name), "-o", "b.png", "--style", onnx_style)

    assert message.removesuffix("\n").isprintable()


def test_existing_output_is_refused_before_the_style_is_opened(refused, tmp_path):
    noise_file(tmp_path / "a.png")
    noise_file(tmp_path / "b.png")

    assert "--overwrite" in refused(5, "stylize", "a.png", "-o", "b.png", "--style", "missing.onnx")
    assert "--overwrite" in refused(5, "sheet", "a.png", "-o", "b.png", "--style", "missing.onnx")


def test_existing_output_is_replaced_with_overwrite(painted, tmp_path):
    noise_file(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"old")

    assert painted("a.png", "-o", "b.png", "--overwrite")[0] == 0
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_refused_style_leaves_no_new_folder(refused, tmp_path):
    noise_file(tmp_path / "a.png")

    assert "missing.onnx" in refused(4, "stylize", "a.png", "-o", "new/er/b.png", "--style", "missing.onnx")


def test_pickled_style_is_refused_with_what_to_give_instead(refused, tmp_path):
    noise_file(tmp_path / "a.png")

    assert "give a .safetensors or .onnx file" in refused(4, "stylize", "a.png", "-o", "b.png", "--style", "style.pth")


@pytest.fixture
def three_bad_of_ten(tmp_path):
    for index in range(10):
        noise_file(tmp_path / "in" / f"{index}.png")
    for index in (2, 5, 7):
        (tmp_path / "in" / f"{index}.png").write_bytes(b"damaged")


def test_folder_run_carries_on_past_bad_pictures_and_says_so(three_bad_of_ten, painted, tmp_path):
    status, out, err = painted("in", "-o", "out")

    assert status == 1
    assert out.splitlines() == [f"out/{index}.png" for index in (0, 1, 3, 4, 6, 8, 9)]
    for index in (2, 5, 7):
        assert f"fastnst: in/{index}.png is not a picture fastnst reads" in err
    assert err.endswith("fastnst: 7 of 10 pictures painted, 3 failed\n")
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_folder_run_tells_machines_as_json(three_bad_of_ten, painted):
    status, out, _ = painted("in", "-o", "out", "--json")

    report = json.loads(out)
    assert status == 1
    assert report["written"] == [f"out/{index}.png" for index in (0, 1, 3, 4, 6, 8, 9)]
    assert [failed["input"] for failed in report["failed"]] == ["in/2.png", "in/5.png", "in/7.png"]
    assert all(failed["error"].startswith(failed["input"]) for failed in report["failed"])


def test_fail_fast_stops_at_the_first_bad_picture(three_bad_of_ten, painted):
    status, out, _ = painted("in", "-o", "out", "--fail-fast")

    assert (status, out) == (1, "out/0.png\nout/1.png\n")


def test_skip_existing_paints_only_the_rest(painted, tmp_path):
    noise_file(tmp_path / "in/a.png")
    noise_file(tmp_path / "in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"kept")

    assert painted("in", "-o", "out", "--skip-existing")[:2] == (0, "out/b.png\n")
    assert painted("in", "-o", "out", "--skip-existing") == (0, "", "")
    assert (tmp_path / "out/a.png").read_bytes() == b"kept"


def test_pictures_that_differ_by_suffix_collide_in_one_format(refused, tmp_path):
    noise_file(tmp_path / "in/a.png")
    noise_file(tmp_path / "in/a.jpg")

    assert "both become out/a.webp" in refused(
        2, "stylize", "in", "-o", "out", "--format", "webp", "--style", "missing.onnx"
    )


def test_names_that_climb_stay_inside_the_output_folder(painted, tmp_path):
    noise_file(tmp_path / "x/y/a.png")
    noise_file(tmp_path / "b.png")
    (tmp_path / "x/link").symlink_to(tmp_path)

    status, out, _ = painted("x/y/../../b.png", "x/../x", "x/y/../y/*.png", "-o", "x/out")

    assert (status, out.splitlines()) == (0, ["x/out/b.png", "x/out/y/a.png", "x/out/a.png"])
    assert sorted(map(str, tmp_path.glob("*.png"))) == [str(tmp_path / "b.png")]


def test_collision_is_exit_status_2_before_work(refused, tmp_path):
    noise_file(tmp_path / "x/a.png")
    noise_file(tmp_path / "y/a.png")

    assert "both become out/a.png" in refused(
        2, "stylize", "x/a.png", "y/a.png", "-o", "out", "--style", "missing.onnx"
    )


@pytest.mark.parametrize("arguments", [["-", "-o", "-"], ["-o=-", "-"], ["--output", "-", "--", "-"]])
def test_picture_goes_through_pipes(arguments, fastnst, tmp_path, onnx_style):
    data = Path(noise_file(tmp_path / "a.png")).read_bytes()

    done = fastnst("stylize", "--style", onnx_style, *arguments, stdin=data)

    assert (done.returncode, done.stderr) == (0, b"")
    with Image.open(BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (24, 20))
        image.load()


def test_picture_is_not_written_to_a_terminal(tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")
    terminal, end = os.openpty()
    os.set_blocking(terminal, False)

    done = subprocess.run(
        [sys.executable, "-m", "fastnst", "stylize", "a.png", "-o", "-", "--style", onnx_style],
        stdout=end,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 2
    assert is_one_sentence(done.stderr.decode())
    with pytest.raises(BlockingIOError):
        os.read(terminal, 1)
    os.close(terminal)
    os.close(end)


def test_bar_on_a_terminal_leaves_results_on_stdout(tmp_path, onnx_style):
    noise_file(tmp_path / "in/a.png")
    noise_file(tmp_path / "in/b.png")
    terminal, end = os.openpty()

    done = subprocess.run(
        [sys.executable, "-m", "fastnst", "stylize", "in", "-o", "out", "--style", onnx_style],
        stdout=subprocess.PIPE,
        stderr=end,
        cwd=tmp_path,
        check=False,
    )

    assert done.stdout == b"out/a.png\nout/b.png\n"
    assert b"stylizing" in os.read(terminal, 100_000)
    os.close(terminal)
    os.close(end)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_leaves_early_is_exit_status_1_without_a_word(unbuffered, tmp_path, onnx_style):
    noise_file(tmp_path / "a.png", 256, 256)
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "stylize", "a.png", "-o", "-", "--style", onnx_style],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )

    assert process.stdout.read(10)[1:4] == b"PNG"
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.mark.parametrize("arguments", [["stylize", "a.png", "-o", "-", "--style"], ["info"]])
def test_full_standard_output_is_exit_status_5_and_one_sentence(arguments, tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")

    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastnst", *arguments, onnx_style],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )

    assert done.returncode == 5
    assert is_one_sentence(done.stderr.decode())


def test_closed_standard_streams_are_no_reason_to_fail(tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")

    done = subprocess.run(
        ["sh", "-c", '"$0" -m fastnst stylize a.png -o b.png --style "$1" <&- >&- 2>&-', sys.executable, onnx_style],
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 0
    assert (tmp_path / "b.png").exists()


def test_missing_folders_of_the_output_are_made(painted, tmp_path):
    noise_file(tmp_path / "a.png")

    assert painted("a.png", "-o", "new/er/b.png") == (0, "new/er/b.png\n", "")


@pytest.mark.parametrize("output", ["a.png/b.png", "a.png/deep/er", "x" * 300 + ".png"])
def test_output_that_cannot_be_is_exit_status_5(output, refused, tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")

    refused(5, "stylize", "a.png", "-o", output, "--style", onnx_style)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_read_only_folder_is_exit_status_5(refused, tmp_path, onnx_style):
    noise_file(tmp_path / "a.png")
    (tmp_path / "out").mkdir(mode=0o555)

    refused(5, "stylize", "a.png", "-o", "out/b.png", "--style", onnx_style)


def test_full_disk_is_exit_status_5_and_leaves_no_part_of_a_file(tmp_path, onnx_style):
    noise_file(tmp_path / "a.png", 64, 64)
    (tmp_path / "b.png").write_bytes(b"old")
    before = snapshot(tmp_path)

    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); import fastnst.__main__"
    arguments = ["stylize", "a.png", "-o", "b.png", "--overwrite", "--style", onnx_style]

    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, cwd=tmp_path, check=False)

    assert (done.returncode, done.stdout) == (5, b"")
    assert is_one_sentence(done.stderr.decode())
    assert {name: data for name, (_, data) in snapshot(tmp_path).items()} == {
        name: data for name, (_, data) in before.items()
    }


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_folder_run_keeps_whole_files_and_can_be_finished(number, status, painted, tmp_path, onnx_style):
    noise_file(tmp_path / "in/00.png", 200, 200)
    for index in range(1, 40):
        os.link(tmp_path / "in/00.png", tmp_path / f"in/{index:02}.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "stylize", "in", "-o", "out", "--style", onnx_style],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    with process.stdout, process.stderr:
        assert process.stdout.readline() == b"out/00.png\n"
        process.send_signal(number)
        assert is_one_sentence(process.stderr.read().decode())
    assert process.wait() == status

    kept = sorted((tmp_path / "out").iterdir())
    assert 0 < len(kept) < 40
    for path in kept:
        with Image.open(path) as image:
            image.load()
    assert painted("in", "-o", "out", "--skip-existing", "--quiet")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{index:02}.png" for index in range(40)]


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_device_that_is_not_there_is_exit_status_3_with_a_remedy(engine, fastnst, tmp_path, onnx_style, checkpoint):
    noise_file(tmp_path / "a.png")
    style = onnx_style if engine == "onnx" else checkpoint

    done = fastnst("stylize", "a.png", "-o", "b.png", "--style", style, "--device", "cuda")

    assert (done.returncode, done.stdout) == (3, b"")
    assert is_one_sentence(done.stderr.decode())
    assert b"--device cuda was asked for but" in done.stderr
    assert not (tmp_path / "b.png").exists()


def test_chosen_device_is_said_once_with_verbose(painted, tmp_path):
    noise_file(tmp_path / "a.png")

    status, _, err = painted("a.png", "-o", "b.png", "--device", "auto", "-v")

    assert status == 0
    assert err.count("ONNX Runtime runs on") == 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_same_command_twice_writes_the_same_bytes(suffix, painted, tmp_path):
    noise_file(tmp_path / "a.png", 65, 97)

    for name in ("b", "c"):
        assert painted("a.png", "-o", f"{name}.{suffix}", "--seed", "7")[0] == 0

    assert (tmp_path / f"b.{suffix}").read_bytes() == (tmp_path / f"c.{suffix}").read_bytes()


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines_on_stderr(painted, tmp_path):
    noise_file(tmp_path / "in/a.png")
    noise_file(tmp_path / "in/b.png")

    status, out, err = painted("in", "-o", "out")

    assert (status, out) == (0, "out/a.png\nout/b.png\n")
    assert err.startswith("stylizing picture 2/2, ")
    assert "\x1b" not in err


def on_terminal(*arguments, cwd, columns=80, **environment):
    """Run a command on a terminal of so many columns and return what it shows there."""
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
        cwd=cwd,
        env={**kept, "TERM": "xterm", **environment},
    )
    os.close(end)
    shown = b""
    with suppress(OSError):  # that is how a terminal ends on Linux
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colors_gets_neither_escapes_nor_a_bar(environment, tmp_path, onnx_style):
    noise_file(tmp_path / "in/a.png")
    noise_file(tmp_path / "in/b.png")

    painting = on_terminal("stylize", "in", "-o", "out", "--style", onnx_style, cwd=tmp_path, **environment)
    help_text = on_terminal("styles", "--help", cwd=tmp_path, **environment)

    assert "\x1b" not in painting + help_text
    lines = painting.splitlines()
    assert [line for line in lines if not line.startswith("stylizing picture ")] == ["out/a.png", "out/b.png"]
    assert len(lines) > 2
    assert "Usage: fastnst styles" in help_text


def test_narrow_terminal_cuts_nothing_off(tmp_path, onnx_style):
    names = [f"out/a-name-far-longer-than-forty-columns-{index}.png" for index in range(2)]
    for name in names:
        noise_file(tmp_path / "in" / Path(name).name)

    painting = on_terminal("stylize", "in", "-o", "out", "--style", onnx_style, cwd=tmp_path, columns=40)
    help_text = on_terminal("stylize", "--help", cwd=tmp_path, columns=40, NO_COLOR="1")

    for name in names:
        assert name in painting
    assert "2/2" in painting
    assert "…" not in painting + help_text
    words = help_text.replace("│", " ").split()
    for flag in ("--max-size", "--stroke", "--quality"):  # longer ones go on in the next line
        assert flag in words
    assert max(map(len, help_text.splitlines())) <= 40


def test_quiet_says_nothing(painted, tmp_path):
    noise_file(tmp_path / "in/a.png")
    noise_file(tmp_path / "in/b.png")

    assert painted("in", "-o", "out", "--quiet")[2] == ""


def test_verbose_shows_where_an_error_comes_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["stylize", "missing.jpg", "-o", "b.png", "--style", "missing.onnx", "-v"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_sheet_shows_the_photo_and_every_style(tmp_path, monkeypatch, capsys, onnx_style):
    monkeypatch.chdir(tmp_path)
    noise_file(Path("a.jpg"), 60, 80)

    status = main(["sheet", "a.jpg", "-o", "s.png", "--tile-size", "40", "--style", str(onnx_style), str(onnx_style)])

    assert (status, capsys.readouterr()) == (0, ("s.png\n", ""))
    with Image.open("s.png") as sheet:
        content = np.asarray(sheet.convert("RGB"))
    # Rows of at most two: the photo at 30x40 pixels, then the paintings, each with a margin of 10 and a label of 34.
    assert content.shape[1] == 10 + 2 * (40 + 10)
    assert content.shape[0] == 10 + 2 * (30 + 34 + 10)
    np.testing.assert_array_equal(content[10:40, 60:100], content[84:114, 10:50])
    assert (content[84:114, 60:100] == 255).all()


@pytest.mark.parametrize("flag", ["--temporal-weight", "--steadiness"])
@pytest.mark.parametrize("value", [["-1"], []], ids=["apart", "joined"])
def test_a_renamed_flag_keeps_its_old_name(flag, value, capsys):
    words = [flag, *value] if value else [f"{flag}=-1"]

    status = main(["train", "style.jpg", "--content", "photos", "-o", "a.safetensors", *words])

    assert status == 2
    assert "--temporal-weight is -1.0 but must be at least 0" in capsys.readouterr().err


def test_old_names_of_flags_are_not_in_the_help(capsys):
    for command in ("train", "evaluate"):
        main([command, "--help"])

    assert not [name for name in RENAMED if name in capsys.readouterr().out]
