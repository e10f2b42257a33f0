from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import NTSC, av, difference, make_animation, make_clip, panned, read, starts
from PIL import Image, ImageSequence

from fastnst.errors import UsageError
from fastnst.image import Picture
from fastnst.video.frames import ClipFormat, Frame, Sound
from fastnst.video.read import open_clip
from fastnst.video.write import open_writer, write_animation

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
FRAMES = [np.full((31, 45, 3), color, np.uint8) for color in COLORS]


def copy(source: Path, target: Path) -> Path:
    """Written as it is read."""
    with open_clip(source) as reader, target.open("wb") as file:
        writer = open_writer(file, target.suffix, reader.format, 90)
        for item in reader:
            if isinstance(item, Frame):
                writer.write(item)
            elif isinstance(item, Sound):
                writer.sound(item)
        writer.close()
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("rate", [NTSC, Fraction(25)])
def test_frames_rate_and_length_are_kept(tmp_path, suffix, rate):
    source = make_clip(tmp_path / "a.mp4", rate=rate)

    target = copy(source, tmp_path / f"b{suffix}")

    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == rate
    assert [frame.length for frame in read(target)] == [1 / rate] * 8
    assert starts(target) == starts(source) == [number / rate for number in range(8)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_rate_is_kept_frame_by_frame(tmp_path, suffix):
    times = [0, 40, 100, 300, 333, 900]
    source = make_clip(tmp_path / f"a{suffix}", frames=6, times=times, format={".mkv": "matroska"}.get(suffix))

    target = copy(source, tmp_path / "b.mp4")

    # Matroska has whole milliseconds; within those, times may be those of a steady rate.
    assert [float(start) * 1000 for start in starts(target)] == pytest.approx(times, abs=0 if suffix == ".mp4" else 1)
    with av.open(str(target)) as container:
        assert container.duration == pytest.approx(1_467_000, abs=2000)


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (17, 48)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_odd_sizes_stay(tmp_path, size, suffix):
    source = make_clip(tmp_path / "a.webm", size=size, codec="libvpx-vp9")

    frames = read(copy(source, tmp_path / f"b{suffix}"))

    assert {frame.picture.size for frame in frames} == {size[::-1]}


@pytest.mark.parametrize("tags", [None, {"colorspace": 1, "color_range": 1}, {"colorspace": 6, "color_range": 2}])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv444p10le"])
def test_colors_do_not_shift(tmp_path, tags, pixels):
    # Untagged, what is small was made for BT.601.
    colors = [(200, 30, 60), (20, 160, 230), (128, 128, 128), (10, 10, 10), (250, 250, 250), (90, 200, 20)]
    frames = [np.full((48, 64, 3), color, np.uint8) for color in colors]
    source = make_clip(tmp_path / "a.mp4", frames=frames, pixels=pixels, tags=tags)

    read_back, written = read(source), read(copy(source, tmp_path / "b.mp4"))

    for frame, again, color in zip(read_back, written, colors, strict=True):
        assert np.abs(np.median(frame.picture.rgb, (0, 1)) - color).max() <= 2
        assert np.abs(np.median(again.picture.rgb, (0, 1)) - color).max() <= 3


def test_a_written_clip_says_which_colors_it_has(tmp_path):
    with av.open(str(copy(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"))) as container:
        frame = next(container.decode(video=0))

        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


def test_pixels_that_are_not_square_stay_so(tmp_path):
    source = make_clip(tmp_path / "a.mp4", tags=None)
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for frame in read(source):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.picture.rgb, format="rgb24")))
        container.mux(stream.encode())

    with av.open(str(copy(tmp_path / "wide.mp4", tmp_path / "b.mp4"))) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def sound_of(path: Path) -> tuple[str, list[bytes], np.ndarray]:
    """Codec, packets and samples."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    with av.open(str(path)) as container:
        samples = [frame.to_ndarray()[0].astype(float) for frame in container.decode(audio=0)]
        return stream.codec_context.name, packets, np.concatenate(samples)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", ".mp4"), ("aac", ".mkv"), ("libopus", ".webm"), ("flac", ".mkv")]
)
def test_sound_is_copied_where_the_container_holds_it(tmp_path, codec, suffix):
    source = make_clip(tmp_path / f"a{'.mkv' if codec != 'aac' else '.mp4'}", frames=20, sound=codec)

    target = copy(source, tmp_path / f"b{suffix}")

    assert sound_of(target)[:2] == sound_of(source)[:2]


@pytest.mark.parametrize(("codec", "suffix", "expected"), [("aac", ".webm", "opus"), ("pcm_u8", ".mp4", "aac")])
def test_sound_is_encoded_again_where_the_container_does_not_hold_it(tmp_path, codec, suffix, expected):
    source = make_clip(tmp_path / f"a{'.mkv' if codec != 'aac' else '.mp4'}", frames=20, sound=codec)

    name, _, samples = sound_of(copy(source, tmp_path / f"b{suffix}"))

    assert name == expected
    assert len(samples) == pytest.approx(48_000 * 20 / NTSC, abs=2400)
    middle = samples[9600:19_200]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440 * len(middle) // 48_000  # still the same tone


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize(("loop", "clear"), [(0, False), (3, True)])
def test_an_animation_keeps_its_durations_loop_and_transparency(tmp_path, suffix, loop, clear):
    source = make_animation(tmp_path / f"a{suffix}", loop=loop, clear=clear)

    target = copy(source, tmp_path / f"b{suffix}")

    with Image.open(source) as before, Image.open(target) as after:
        assert after.info["loop"] == before.info["loop"] == loop
        assert after.n_frames == 3
        for old, new in zip(ImageSequence.Iterator(before), ImageSequence.Iterator(after), strict=True):
            old.load(), new.load()  # only then WebP says how long they are shown
            assert new.info["duration"] == old.info["duration"]
            wanted, got = np.asarray(old.convert("RGBA")).astype(int), np.asarray(new.convert("RGBA")).astype(int)
            np.testing.assert_array_equal(got[..., 3], wanted[..., 3])
            assert np.abs(got - wanted)[:, 20:].max() <= 6  # away from the edge, where WebP mixes colors


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_a_gif_that_plays_once_plays_once(tmp_path, suffix):
    source = make_animation(tmp_path / "a.gif", loop=None)

    with Image.open(copy(source, tmp_path / f"b{suffix}")) as after:
        assert after.info.get("loop") == (None if suffix == ".gif" else 1)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_a_photo_survives_each_kind_of_animation(tmp_path, suffix):
    pixels = panned(96, 64, 2)
    with (tmp_path / f"a{suffix}").open("wb") as file:
        writer = open_writer(file, suffix, ClipFormat(), 95)
        for number, picture in enumerate(pixels):
            writer.write(Frame(Picture(picture), Fraction(number, 10), Fraction(1, 10)))
        writer.close()

    frames = read(tmp_path / f"a{suffix}")

    for frame, picture in zip(frames, pixels, strict=True):
        assert difference(frame.picture.rgb, picture) < {".gif": 5, ".png": 1e-9, ".webp": 4}[suffix]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_frames_come_back_in_order_with_their_durations(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"

    write_animation(path, FRAMES, rate=10, hold=1.5)

    with Image.open(path) as clip:
        frames = [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(clip)]
        assert clip.size == (45, 31)
        assert clip.info["loop"] == 0
    for (frame, duration), expected, milliseconds in zip(frames, COLORS, [100, 100, 100, 1600], strict=True):
        assert np.abs(np.subtract(frame.getpixel((20, 10)), expected)).max() <= 2
        assert duration == milliseconds


def test_mp4_has_every_frame_and_even_sides(tmp_path):
    av = pytest.importorskip("av", reason="PyAV writes MP4")
    path = tmp_path / "clip.mp4"

    write_animation(path, FRAMES, rate=8, hold=0.5)

    with av.open(path) as clip:
        stream = clip.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(stream)]
        assert (stream.average_rate, stream.width, stream.height) == (8, 46, 32)
    assert len(frames) == 4 + 4
    for frame, color in zip(frames, [*COLORS, *COLORS[-1:] * 4], strict=True):
        assert np.abs(frame[10, 20].astype(int) - color).max() <= 8


def test_one_frame_is_an_animation_too(tmp_path):
    write_animation(tmp_path / "one.gif", FRAMES[:1], rate=5)

    with Image.open(tmp_path / "one.gif") as clip:
        assert clip.size == (45, 31)


@pytest.mark.parametrize("name", ["clip.jpg", "clip.avi", "clip"])
def test_another_suffix_is_a_usage_error(tmp_path, name):
    with pytest.raises(UsageError, match=r"does not end in .gif, .png, .webp or .mp4"):
        write_animation(tmp_path / name, FRAMES, rate=5)
    assert list(tmp_path.iterdir()) == []
