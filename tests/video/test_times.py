from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.clips import decoded, make_clip, read, remux, starts

from fastnst.video.frames import Sound, Timeline
from fastnst.video.read import open_clip
from fastnst.video.times import Beginning, Clock

B_FRAMES = {"bf": "3", "b-pyramid": "normal", "g": "20"}
RATE = Fraction(25)

# Container and codec, with frames that are stored in another order than shown wherever that is possible.
KINDS = [
    ("a.avi", "libx264", B_FRAMES),
    ("a.avi", "mpeg4", {"bf": "2"}),
    ("a.avi", "mpeg2video", {"bf": "2"}),
    ("a.mkv", "libx264", B_FRAMES),
    ("a.mkv", "mpeg4", {"bf": "2"}),
    ("a.mp4", "libx264", B_FRAMES),
    ("a.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=20"}),
    ("a.mp4", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=20"}),
    ("a.mov", "libx264", B_FRAMES),
    ("a.ts", "libx264", B_FRAMES),
    ("a.ts", "mpeg2video", {"bf": "2"}),
    ("a.m2ts", "libx264", B_FRAMES),
    ("a.flv", "libx264", B_FRAMES),
    ("a.flv", "flv", {}),
    ("a.webm", "libvpx-vp9", {"lag-in-frames": "20", "auto-alt-ref": "1"}),
    ("a.webm", "libvpx", {"lag-in-frames": "16", "auto-alt-ref": "1"}),
    ("a.mpg", "mpeg2video", {"bf": "2"}),
    ("a.wmv", "wmv2", {}),
    ("a.wmv", "libx264", B_FRAMES),
    ("a.ogv", "libvpx", {}),
    ("a.mxf", "mpeg2video", {"bf": "2"}),
    ("a.h264", "libx264", B_FRAMES),
    ("a.m2v", "mpeg2video", {"bf": "2"}),
]


@pytest.mark.parametrize(("name", "codec", "encoding"), KINDS)
def test_every_frame_that_decodes_is_read_at_its_time(tmp_path, name, codec, encoding):
    path = make_clip(tmp_path / name, codec=codec, encoding=encoding, rate=RATE, frames=30)

    with open_clip(path) as reader:
        frames = list(reader)

    assert len(frames) == decoded(path) == 30
    assert [frame.start for frame in frames] == [number / RATE for number in range(30)]
    assert frames[-1].end == 30 / RATE
    assert reader.problem is None


@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize("name", ["a.avi", "a.ts", "a.flv", "a.mkv"])
def test_a_start_within_a_scene_has_all_frames_from_there(tmp_path, name, number):
    path = make_clip(tmp_path / name, encoding=B_FRAMES, rate=RATE, frames=60)
    whole = read(path)

    frames = read(path, start=number * 0.2, end=2)

    assert [frame.start for frame in frames] == [index / RATE for index in range(50 - 5 * number)]
    for frame, expected in zip(frames, whole[5 * number :], strict=False):
        assert (frame.picture.rgb == expected.picture.rgb).all()


def shift(seconds: float, kind: str = "video audio"):
    def change(packet, _):
        if packet.stream.type in kind:
            packet.pts += round(seconds / packet.time_base)
            packet.dts += round(seconds / packet.time_base)
        return packet

    return change


@pytest.mark.parametrize("name", ["b.webm", "b.mkv", "b.flv", "b.ts", "b.mp4", "b.mov"])
@pytest.mark.parametrize("seconds", [2, 0.4])
def test_a_clip_that_begins_later_than_its_file_is_whole(tmp_path, name, seconds):
    codec = "libvpx-vp9" if name == "b.webm" else "libx264"
    source = make_clip(tmp_path / ("a.webm" if name == "b.webm" else "a.mp4"), codec=codec, rate=RATE)
    path = remux(source, tmp_path / name, shift(seconds))

    with open_clip(path) as reader:
        frames = list(reader)

    assert reader.problem is None
    assert [frame.start for frame in frames] == [number / RATE for number in range(8)]
    assert float(reader.length) == pytest.approx(8 / 25, abs=0.1)


def test_a_clip_that_begins_late_and_was_cut_off_says_so(tmp_path):
    source = make_clip(tmp_path / "a.mp4", rate=RATE, frames=75)
    data = remux(source, tmp_path / "b.mkv", shift(3)).read_bytes()
    (tmp_path / "c.mkv").write_bytes(data[: len(data) * 2 // 3])

    with open_clip(tmp_path / "c.mkv") as reader:
        count = len(list(reader))

    assert 20 < count < 70
    assert "was cut off" in reader.problem


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.wmv", "a.ts", "a.mpg", "a.ogv", "a.flv"])
def test_a_short_loss_at_the_end_is_told(tmp_path, name):
    codec = {".webm": "libvpx-vp9", ".wmv": "wmv2", ".mpg": "mpeg2video", ".ogv": "libvpx"}.get(
        Path(name).suffix, "libx264"
    )
    path = make_clip(tmp_path / name, codec=codec, rate=RATE, frames=20)
    path.write_bytes(path.read_bytes()[:-150])

    with open_clip(path) as reader:
        list(reader)

    assert "was cut off" in reader.problem


def set_times(times):
    def change(packet, number):
        packet.pts = packet.dts = times(number)
        return packet

    return change


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (lambda number: 0, [40 * number for number in range(40)]),
        (lambda number: 40 * number - 40 * (number % 10 == 9), None),  # twice the same
        (lambda number: 30 * number + number % 3, [30 * number + number % 3 for number in range(40)]),
    ],
)
def test_frames_without_times_of_their_own_are_kept(tmp_path, times, expected):
    source = make_clip(tmp_path / "a.mkv", encoding={"bf": "0"}, rate=RATE, frames=40)
    path = remux(source, tmp_path / "b.mkv", set_times(times))

    told = [float(start) * 1000 for start in starts(path)]

    assert len(told) == decoded(path) == 40
    assert told == sorted(set(told))
    assert told == pytest.approx(expected or [40 * number for number in range(40)], abs=1 if expected else 21)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
@pytest.mark.parametrize("jump", [0, 60])
def test_recordings_that_were_joined_go_on(tmp_path, name, jump):
    codec = "mpeg2video" if name == "a.mpg" else "libx264"
    sound = "mp2" if name == "a.mpg" else "aac"
    first = make_clip(tmp_path / name, codec=codec, rate=RATE, frames=50, sound=sound)
    second = remux(first, tmp_path / f"b{name[1:]}", shift(jump))
    first.write_bytes(first.read_bytes() + second.read_bytes())

    with open_clip(first) as reader:
        items = list(reader)

    frames = [item for item in items if not isinstance(item, Sound)]
    heard = [float(item.packet.pts * item.packet.time_base - item.offset) for item in items if isinstance(item, Sound)]
    assert len(frames) == decoded(first) == 100
    assert float(frames[-1].end) == pytest.approx(4, abs=0.1)
    assert max(heard) == pytest.approx(4, abs=0.15)
    assert [frame.length for frame in frames[:-1]] == pytest.approx([0.04] * 99, abs=0.1)


def test_frames_hidden_by_an_edit_list_stay_hidden(tmp_path):
    source = make_clip(tmp_path / "a.mp4", encoding={"bf": "0"}, rate=RATE, frames=40)
    path = remux(source, tmp_path / "b.mp4", shift(-1))

    frames = read(path)

    assert len(frames) == decoded(path) == 15
    assert [frame.start for frame in frames] == [number / RATE for number in range(15)]
    assert (frames[0].picture.rgb == read(source)[25].picture.rgb).all()


def test_sound_hidden_by_an_edit_list_stays_hidden(tmp_path):
    source = make_clip(tmp_path / "a.mp4", encoding={"bf": "0"}, rate=RATE, frames=40, sound="aac")

    with open_clip(remux(source, tmp_path / "b.mp4", shift(-1))) as reader:
        items = list(reader)

    heard = [item.packet.pts * item.packet.time_base - item.offset for item in items if isinstance(item, Sound)]
    assert heard[0] > -0.15  # what encoders need
    assert len(heard) == pytest.approx((len(items) - len(heard)) / 25 * 48_000 / 1024, abs=8)


def test_a_clock_never_stands_still():
    clock = Clock(Timeline(Fraction(1, 1000), RATE, Fraction(0)), Beginning("pts", Fraction(0), Fraction(0)))
    stamps = [0, 40, 40, 80, None, 160, 100, 200]

    told = [clock.start(SimpleNamespace(pts=pts, dts=None, time_base=Fraction(1, 1000))) * 1000 for pts in stamps]

    assert told == [0, 40, 60, 80, 120, 160, 180, 200]


def test_sound_behind_the_last_picture_asked_for_is_read(tmp_path):
    # In the file, all sound lies behind all pictures.
    path = make_clip(tmp_path / "a.mkv", rate=RATE, frames=50, sound="flac")

    with open_clip(path, 0.4, 1.2) as reader:
        heard = [item.packet.pts * item.packet.time_base - item.offset for item in reader if isinstance(item, Sound)]

    assert float(heard[0]) == pytest.approx(0, abs=0.1)
    assert float(heard[-1]) == pytest.approx(0.8, abs=0.2)
