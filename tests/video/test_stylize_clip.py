import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import difference, make_animation, make_clip, panned, read, starts
from helpers.material import PHOTOS, PROGRAMS, ROOT
from PIL import Image

from fastnst.cli import main
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import Interrupted, OutputError, UsageError
from fastnst.folder import Job
from fastnst.image import Picture
from fastnst.stylize import Stylizer
from fastnst.video.frames import ClipFormat, Frame
from fastnst.video.stylize import part_of, plan_clip, stylize_clip
from fastnst.video.write import open_writer

av = pytest.importorskip("av", reason="PyAV reads and writes video")

STYLE = ROOT / "checkpoints" / "great-wave-tiny.onnx"
SAME = Stylizer(lambda images: images)
NEGATIVE = Stylizer(lambda images: 1 - images)
OPTIONS = StylizeOptions()
WHOLE = ClipOptions()


def stylize(source: Path, target: Path, *more: object) -> int:
    return main(list(map(str, ["stylize", source, "-o", target, "-q", *more])))


def test_a_clip_is_painted_frame_by_frame(tmp_path):
    source = make_clip(tmp_path / "a.mp4", sound="aac")
    heard: list[tuple[int, int]] = []

    painted = stylize_clip(NEGATIVE, Job(source, tmp_path / "b.mp4"), OPTIONS, WHOLE, lambda *said: heard.append(said))

    assert (painted.path, painted.frames, painted.problem) == (tmp_path / "b.mp4", 8, None)
    assert heard == [(number, 8) for number in range(1, 9)]
    assert starts(painted.path) == starts(source)
    for before, after in zip(read(source), read(painted.path), strict=True):
        assert difference(255 - before.picture.rgb, after.picture.rgb) < 3


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
def test_frames_are_painted_in_batches(tmp_path, batch_size):
    batches: list[int] = []

    def paint(images: np.ndarray) -> np.ndarray:
        batches.append(len(images))
        return images

    source = make_clip(tmp_path / "a.mp4")
    stylize_clip(Stylizer(paint), Job(source, tmp_path / "b.mp4"), OPTIONS, ClipOptions(batch_size=batch_size))

    assert sum(batches) == 8
    assert set(batches[:-1]) <= {batch_size}
    for before, after in zip(read(source), read(tmp_path / "b.mp4"), strict=True):
        assert difference(before.picture.rgb, after.picture.rgb) < 3


def test_what_pictures_are_told_frames_are_told(tmp_path):
    source = make_clip(tmp_path / "a.mp4", size=(96, 64))
    Image.fromarray(np.where(np.arange(96) < 48, 255, 0).astype(np.uint8)[None].repeat(64, 0)).save(tmp_path / "m.png")
    where = {"mask": tmp_path / "m.png", "background": "photo", "feather": 0}
    options = StylizeOptions(max_size=48, strength=0.5, strength_mode="fade", **where)

    stylize_clip(NEGATIVE, Job(source, tmp_path / "b.mkv"), options, WHOLE)

    for before, after in zip(read(source), read(tmp_path / "b.mkv"), strict=True):
        small = np.asarray(Image.fromarray(before.picture.rgb).resize((48, 32), Image.Resampling.LANCZOS))
        assert after.picture.size == (32, 48)
        assert difference(after.picture.rgb[:, 28:], small[:, 28:]) < 6
        assert np.abs(after.picture.rgb[:, :20].astype(int) - 128).mean() < 4


@pytest.mark.parametrize(
    "kinds", [(".mp4", ".gif"), (".gif", ".mp4"), (".webp", ".png"), (".png", ".gif"), (".mp4", ".webp")]
)
def test_every_kind_of_clip_becomes_every_other(tmp_path, kinds):
    source = tmp_path / f"a{kinds[0]}"
    make_clip(source, rate=Fraction(10)) if kinds[0] == ".mp4" else make_animation(source, (100, 200, 300))

    stylize_clip(SAME, Job(source, tmp_path / f"b{kinds[1]}"), OPTIONS, WHOLE)

    before, after = read(source), read(tmp_path / f"b{kinds[1]}")
    assert [frame.start for frame in after] == [frame.start for frame in before]
    assert [frame.length for frame in after] == [frame.length for frame in before]
    for old, new in zip(before, after, strict=True):
        assert difference(old.picture.rgb, new.picture.rgb) < 6


def test_a_gif_of_a_fast_video_leaves_frames_out_instead_of_being_slow(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=60, rate=Fraction(60))

    stylize_clip(SAME, Job(source, tmp_path / "b.gif"), OPTIONS, WHOLE)

    frames = read(tmp_path / "b.gif")
    assert min(frame.length for frame in frames) >= Fraction(2, 100)
    assert frames[-1].start + frames[-1].length == 1


def test_only_the_frames_between_start_and_end_are_painted(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=50, rate=Fraction(25), sound="aac")

    painted = stylize_clip(SAME, Job(source, tmp_path / "b.mp4"), OPTIONS, ClipOptions(start=0.4, end=1.2))

    assert painted.frames == 20
    with av.open(str(painted.path)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert float(video.duration * video.time_base) == pytest.approx(0.8, abs=0.001)
        assert float(sound.duration * sound.time_base) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(("suffix", "frames"), [(".mkv", 1680), (".png", 840)])
def test_memory_does_not_grow_with_the_length(tmp_path, suffix, frames):
    # Decoder and encoder keep frames of their own, up to a number that is reached well before 840; that of PNGs none.
    source = make_clip(tmp_path / "a.mkv", frames=panned(160, 120, 40) * (frames // 40), rate=Fraction(25))
    command = [sys.executable, PROGRAMS / "clip_memory.py", source, str(frames), tmp_path / f"out{suffix}"]

    printed = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout

    # 420 more frames of 160x120 in RGB are 24 MB.
    half, whole = map(int, printed.split())
    assert whole - half < 12


def test_a_frame_of_another_size_is_fitted_in(tmp_path):
    with (tmp_path / "a.mkv").open("wb") as file, av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in panned(64, 48, 3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    sizes = iter([(48, 64), (96, 128), (48, 64)])

    class Odd(Stylizer):
        def stylize_pictures(self, pictures, options=None, hooks=None):
            height, width = next(sizes)
            return [Picture(np.zeros((height, width, 3), np.uint8)) for _ in pictures]

    stylize_clip(Odd(lambda images: images), Job(tmp_path / "a.mkv", tmp_path / "b.mp4"), OPTIONS, WHOLE)

    assert {frame.picture.size for frame in read(tmp_path / "b.mp4")} == {(48, 64)}


# What the command line makes of names.


def test_plans(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    clip.with_name("photo.jpg").write_bytes((PHOTOS / "owl.jpg").read_bytes())
    make_animation(tmp_path / "move.gif")
    everything = replace(OPTIONS, frames="all")

    def planned(source: str, output: str, options: StylizeOptions = OPTIONS) -> tuple[str, str] | None:
        job = plan_clip([source], output, options, WHOLE)
        return (str(job.source), str(job.target)) if job else None

    assert planned("clip.mp4", "b.mov") == ("clip.mp4", "b.mov")
    assert planned("clip.mp4", "folder") == ("clip.mp4", "folder/clip.mp4")
    assert planned("clip.mp4", "b.gif") == ("clip.mp4", "b.gif")
    assert planned("move.gif", "b.gif") == ("move.gif", "b.gif")
    assert planned("move.gif", "b.png") is None  # its first frame
    assert planned("move.gif", "b.png", everything) == ("move.gif", "b.png")
    assert planned("photo.jpg", "b.jpg") is None
    assert planned("photo.jpg", "folder") is None
    clip.rename("clip.jpg")
    assert planned("clip.jpg", "folder/") == ("clip.jpg", "folder/clip.mp4")


@pytest.mark.parametrize(
    ("inputs", "output", "options", "said"),
    [
        (["clip.mp4"], "b.png", {}, "is a video; name the output .mp4, or add --frames all"),
        (["clip.mp4"], "b.jpg", {}, "the name must end in .mp4, .mov, .mkv, .webm, .gif"),
        (["clip.mp4"], "-", {}, "the name must end in"),
        (["clip.mp4", "photo.jpg"], "b.mp4", {}, "one clip at a time"),
        (["clip.mp4", "clip.mp4"], "b.mp4", {}, "one clip at a time"),
        (["-"], "b.mp4", {}, "one clip at a time"),
        (["."], "b.gif", {}, "one clip at a time"),
        (["photo.jpg"], "b.mp4", {}, "is one picture; name the output .jpg"),
        (["photo.jpg"], "b.jpg", {"frames": "all"}, "--frames all makes an animation"),
        (["move.gif"], "b.gif", {"frames": "reject"}, "--frames reject refuses animations"),
    ],
)
def test_invalid_inputs_and_outputs_are_usage_errors(tmp_path, monkeypatch, inputs, output, options, said):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mp4", frames=2)
    make_animation(tmp_path / "move.gif")
    (tmp_path / "photo.jpg").write_bytes((PHOTOS / "owl.jpg").read_bytes())

    with pytest.raises(UsageError, match=said):
        plan_clip(inputs, output, replace(OPTIONS, **options), WHOLE)


def test_start_and_end_are_for_clips(tmp_path, capsys):
    assert stylize(PHOTOS / "owl.jpg", tmp_path / "b.jpg", "--start", 1) == 2
    assert "--start and --end cut clips" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--end is 1 but must be more than --start, 2"):
        ClipOptions(start=2, end=1)


def test_an_existing_output_is_refused_before_any_work(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=2)
    (tmp_path / "b.mp4").write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists already"):
        plan_clip([str(source)], str(tmp_path / "b.mp4"), OPTIONS, WHOLE)
    assert plan_clip([str(source)], str(tmp_path / "b.mp4"), replace(OPTIONS, overwrite=True), WHOLE)
    assert stylize(source, tmp_path / "b.mp4", "--style", STYLE, "--skip-existing") == 0
    assert (tmp_path / "b.mp4").read_bytes() == b"mine"


def test_the_command_paints_a_clip_and_prints_its_name(tmp_path, capsys):
    source = make_clip(tmp_path / "a.mp4", sound="aac")

    status = stylize(source, tmp_path / "b.mp4", "--style", STYLE, "--max-size", 32, "--json")

    said = json.loads(capsys.readouterr().out)
    assert (status, said) == (0, {"written": [str(tmp_path / "b.mp4")], "frames": 8, "failed": []})
    assert {frame.picture.size for frame in read(tmp_path / "b.mp4")} == {(24, 32)}


def test_progress_counts_frames_and_tells_the_time_left(tmp_path, capsys):
    assert main(["stylize", str(make_clip(tmp_path / "a.mp4")), "-o", str(tmp_path / "b.mp4"), "-s", str(STYLE)]) == 0
    assert "stylizing frame 8/8" in (err := capsys.readouterr().err)
    assert "0:00 left" in err


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_of_2000_frames_the_first_is_painted_unless_all_are_asked_for(tmp_path, suffix, capsys):
    source = tmp_path / f"a{suffix}"
    with source.open("wb") as file:
        writer = open_writer(file, suffix, ClipFormat(), 80)
        for number in range(2000):
            pixels = np.full((32, 32, 3), (number % 256, 80, 200), np.uint8)
            writer.write(Frame(Picture(pixels), Fraction(number, 50), Fraction(1, 50)))
        writer.close()

    assert stylize(source, tmp_path / "b.png", "--style", STYLE) == 0
    assert stylize(source, tmp_path / "c.png", "--style", STYLE, "--frames", "reject") == 4
    assert "is an animation" in capsys.readouterr().err
    with Image.open(tmp_path / "b.png") as picture:
        assert getattr(picture, "n_frames", 1) == 1
    assert stylize(source, tmp_path / "d.gif", "--style", STYLE, "--end", "0.1") == 0
    assert len(read(tmp_path / "d.gif")) == 5


def test_without_pyav_the_remedy_is_told_before_any_work(tmp_path, monkeypatch, capsys):
    source = make_clip(tmp_path / "a.mp4")
    animation = make_animation(tmp_path / "a.gif")
    for name in [name for name in sys.modules if name.split(".")[0] == "av"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)

    for given, target in ((source, "b.mp4"), (animation, "b.mp4"), (source, "b.gif")):
        assert stylize(given, tmp_path / target) == 3
        assert 'pip install "fastnst[video]"' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.mp4"]


def test_animations_need_no_pyav(tmp_path, monkeypatch):
    source = make_animation(tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "av", None)

    assert stylize(source, tmp_path / "b.gif", "--style", STYLE) == 0
    assert stylize(source, tmp_path / "b.webp", "--style", STYLE, "--frames", "all") == 0
    assert len(read(tmp_path / "b.webp")) == 3


def test_what_is_no_clip_is_exit_status_4(tmp_path, capsys):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n")

    assert stylize(tmp_path / "list.mp4", tmp_path / "b.mp4", "--style", STYLE) == 4
    assert "is neither a clip nor a picture that fastnst reads" in capsys.readouterr().err
    assert not (tmp_path / "b.mp4").exists()


def test_a_clip_that_was_cut_off_is_painted_as_far_as_it_goes_with_exit_status_1(tmp_path, capsys):
    source = make_clip(tmp_path / "a.mkv", frames=90, rate=Fraction(25))
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])

    status = stylize(source, tmp_path / "b.mp4", "--style", STYLE, "--json")

    said = json.loads(capsys.readouterr().out)
    assert status == 1
    assert 20 < said["frames"] == len(read(tmp_path / "b.mp4")) < 85
    assert said["failed"][0]["error"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_interrupted_what_is_painted_is_a_clip_that_plays(tmp_path, number, status, suffix):
    source = make_clip(tmp_path / "a.mp4", frames=60, sound="aac")
    target = tmp_path / f"b{suffix}"
    arguments = ["stylize", source, "-o", target, "--style", STYLE, "-q"]

    done = subprocess.run(
        list(map(str, [sys.executable, PROGRAMS / "kill_clip.py", 12, int(number), *arguments])),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )

    assert done.returncode == status, done.stderr
    assert f"stopped by {number.name} after 12 of about 60 frames" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", f"b.part{suffix}"]
    assert len(read(part_of(target))) == 12


def test_interrupted_in_python_it_is_interrupted(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=30)

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped by SIGINT after 5 of about 30 frames"):
        stylize_clip(SAME, Job(source, tmp_path / "b.mp4"), OPTIONS, WHOLE, stop)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif", ".webp"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, suffix):
    source = make_clip(tmp_path / "a.mp4", size=(160, 120), frames=40)
    arguments = ["stylize", source, "-o", tmp_path / f"b{suffix}", "--style", STYLE, "-q", "--frames", "all"]

    done = subprocess.run(
        list(map(str, [sys.executable, PROGRAMS / "full_disk.py", *arguments])),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 5, done.stderr
    assert "cannot write" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_error_of_the_style_ends_the_clip_and_leaves_nothing(tmp_path):
    source = make_clip(tmp_path / "a.mp4")

    with pytest.raises(Exception, match="not numbers"):
        stylize_clip(
            Stylizer(lambda images: images * np.float32(np.nan)), Job(source, tmp_path / "b.mp4"), OPTIONS, WHOLE
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
