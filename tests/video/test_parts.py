import io
import pickle
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from helpers.clips import av, decoded, difference, make_animation, make_clip, panned, read, remux
from helpers.material import PHOTOS
from PIL import Image

from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import InputError, StorageError
from fastnst.folder import Job
from fastnst.image import Picture
from fastnst.stylize import Stylizer
from fastnst.video.frames import Frame, Stretch
from fastnst.video.lossless import LosslessReader, LosslessWriter, PartError
from fastnst.video.movie import encodable
from fastnst.video.parts import Part, join_parts, paint_part, plan_parts
from fastnst.video.stylize import StylizedClip, stylize_clip

NEGATIVE = Stylizer(lambda images: 1 - images)
OPTIONS = StylizeOptions()
WHOLE = ClipOptions()
RATE = Fraction(25)
SIZE = (128, 96)  # of other widths than multiples of 128, less up to 15, x264 does not always make the same
# A key frame after every 8 frames, 0.32 s.
KEYS = {"g": "8", "keyint_min": "8", "sc_threshold": "0", "preset": "veryfast"}
UNEVEN = [sum([20, 33, 70, 41, 40][i % 5] for i in range(number)) for number in range(24)]


def clip_of(path: Path, **more: Any) -> Path:
    more["encoding"] = {**KEYS, "bf": "2", **more.get("encoding", {})}
    return make_clip(path, **{"size": SIZE, "frames": 24, "rate": RATE, **more})


def shifted(seconds: float, kinds: str = "video audio") -> Any:
    def change(packet: Any, _: int) -> Any:
        if packet.stream.type in kinds:
            packet.pts += round(seconds / packet.time_base)
            packet.dts += round(seconds / packet.time_base)
        return packet

    return change


def in_one_go(source: Path, suffix: str, clip: ClipOptions = WHOLE, options: StylizeOptions = OPTIONS) -> StylizedClip:
    return stylize_clip(NEGATIVE, Job(source, source.with_name(f"one{suffix}")), options, clip)


def in_parts(
    source: Path, suffix: str, clip: ClipOptions = WHOLE, options: StylizeOptions = OPTIONS, seconds: float = 0.3
) -> tuple[StylizedClip, list[Part]]:
    parts = plan_parts(source, seconds, clip)
    paths = [source.with_name(f"{part.number}.part") for part in parts]
    for part, path in reversed([*zip(parts, paths, strict=True)]):
        paint_part(NEGATIVE, source, part, path, suffix, options, clip)
    return join_parts(source, paths, source.with_name(f"joined{suffix}"), clip), parts


def packets(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [
            (packet.stream.index, packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
            for packet in container.demux()
        ]


def streams(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [
            (stream.type, stream.start_time, stream.time_base, stream.duration, stream.codec_context.extradata)
            for stream in container.streams
        ]


@dataclass
class Case:
    """A clip, what is done to its packets on the way into another file, and how it is painted."""

    name: str = "a.mp4"
    clip: dict[str, Any] = field(default_factory=dict)
    moved: tuple[str, Any] | None = None
    times: ClipOptions = WHOLE
    options: StylizeOptions = OPTIONS


AAC = {"sound": "aac"}
CASES = {
    "B-frames and AAC": Case(clip={**AAC, "encoding": {"bf": "3"}}),
    "open groups of pictures": Case(clip={"encoding": {"x264-params": "open-gop=1:b-adapt=0"}}),
    "each frame as long as it likes": Case("a.mkv", {"times": UNEVEN, "sound": "libopus"}),
    "each frame as long as it likes, in MP4": Case(clip={"times": UNEVEN, "sound": "libmp3lame"}),
    "MP3": Case(clip={"sound": "libmp3lame", "rate": Fraction(30_000, 1001)}),
    "samples": Case("a.mov", {"sound": "pcm_s16le"}),
    "samples in AVI": Case("a.avi", {"sound": "pcm_s16le", "encoding": {"bf": "0"}}),
    "begins late": Case(clip=AAC, moved=("b.mp4", shifted(2))),
    "begins late in Matroska": Case(clip=AAC, moved=("b.mkv", shifted(2))),
    "an edit list hides the beginning": Case(clip=AAC, moved=("b.mp4", shifted(-0.2))),
    "sound begins later": Case(clip=AAC, moved=("b.mp4", shifted(0.6, "audio"))),
    "sound begins before": Case(clip=AAC, moved=("b.mp4", shifted(0.6, "video"))),
    "MPEG-TS": Case("a.ts", {"codec": "mpeg2video", "sound": "mp2"}),
    "VP9": Case("a.webm", {"codec": "libvpx-vp9", "sound": "libopus", "encoding": {"cpu-used": "8"}}),
    "turned": Case(clip={"turn": (90, False), "size": (128, 128)}),
    "some of it": Case(clip=AAC, times=ClipOptions(start=0.1, end=0.87)),
    "some of it, from a key frame": Case(clip=AAC, times=ClipOptions(start=0.32)),
    "small, in its own colors": Case(
        clip={"size": (160, 120)}, options=StylizeOptions(max_size=128, preserve_color="luma")
    ),
    "odd sizes, several frames at once": Case(
        clip={"size": (127, 95), "pixels": "yuv444p"}, times=ClipOptions(batch_size=3)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_clip_in_parts_becomes_the_same_file_as_in_one_go(tmp_path, case):
    source = clip_of(tmp_path / case.name, **case.clip)
    if case.moved:
        source = remux(source, tmp_path / case.moved[0], case.moved[1])

    one = in_one_go(source, ".mp4", case.times, case.options)
    joined, parts = in_parts(source, ".mp4", case.times, case.options)

    assert len(parts) >= 2
    assert (joined.frames, joined.problem) == (one.frames, one.problem)
    assert joined.path.read_bytes() == one.path.read_bytes()


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".webm"])
def test_every_kind_of_clip_is_joined(tmp_path, suffix):
    source = clip_of(tmp_path / "a.mp4", sound="aac")

    one = in_one_go(source, suffix)
    joined, parts = in_parts(source, suffix)

    assert [part.frames for part in parts] == [8, 8, 8]
    assert packets(joined.path) == packets(one.path)
    assert streams(joined.path) == streams(one.path)


def test_masks_lie_where_they_do_in_one_go(tmp_path):
    source = clip_of(tmp_path / "a.mp4")
    Image.fromarray(np.where(np.arange(128) < 64, 255, 0).astype(np.uint8)[None].repeat(96, 0)).save(tmp_path / "m.png")
    options = StylizeOptions(mask=tmp_path / "m.png", background="photo", strength=0.5)

    one = in_one_go(source, ".mp4", options=options)
    joined, _ = in_parts(source, ".mp4", options=options)

    assert joined.path.read_bytes() == one.path.read_bytes()


def test_a_clip_that_changes_its_size_has_that_of_its_beginning(tmp_path):
    first = clip_of(tmp_path / "a.ts", frames=16)
    second = remux(clip_of(tmp_path / "b.ts", size=(160, 112), frames=16), tmp_path / "c.ts", shifted(0.64))
    first.write_bytes(first.read_bytes() + second.read_bytes())

    one = in_one_go(first, ".mp4")
    joined, parts = in_parts(first, ".mp4")

    assert len(parts) == 4
    assert {frame.picture.size for frame in read(joined.path)} == {(96, 128)}
    assert joined.path.read_bytes() == one.path.read_bytes()


@pytest.mark.parametrize(("name", "kept"), [("a.mkv", 0.9), ("a.mp4", 0.6)])
def test_a_clip_that_was_cut_off_is_joined_as_far_as_it_goes(tmp_path, name, kept):
    source = clip_of(tmp_path / name, sound="aac", frames=48, options={"movflags": "faststart"} if kept < 0.9 else {})
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * kept)])

    one = in_one_go(source, ".mp4")
    joined, parts = in_parts(source, ".mp4")

    assert len(parts) >= 3
    assert "was cut off" in (one.problem or "")
    assert (joined.frames, joined.problem) == (one.frames, one.problem)
    assert joined.path.read_bytes() == one.path.read_bytes()


def test_a_part_without_a_frame_that_can_be_decoded_is_left_out(tmp_path):
    source = clip_of(tmp_path / "a.webm", codec="libvpx-vp9", frames=40, encoding={"cpu-used": "8"})
    data = source.read_bytes()
    for stream, _, _, _, _, content in packets(source)[16:24]:
        assert (stream, data.count(content)) == (0, 1)
        data = data.replace(content, bytes(len(content)))
    source.write_bytes(data)

    one = in_one_go(source, ".mp4")
    joined, parts = in_parts(source, ".mp4")

    assert [part.frames for part in parts] == [8] * 5
    assert decoded(joined.path) == joined.frames == one.frames == 32
    assert "is damaged" in (joined.problem or "")


def test_parts_that_have_no_frame_at_all_are_no_clip(tmp_path):
    source = clip_of(tmp_path / "a.mp4")

    with pytest.raises(InputError, match=r"a\.mp4 has no frame that can be decoded"):
        join_parts(source, [], tmp_path / "b.mp4", WHOLE)

    assert not (tmp_path / "b.mp4").exists()


# Where clips are cut.


def test_parts_begin_with_key_frames_and_are_about_as_long_as_asked_for(tmp_path):
    source = clip_of(tmp_path / "a.mp4", frames=80)

    def frames(seconds: float, **times: float) -> list[int]:
        return [part.frames for part in plan_parts(source, seconds, ClipOptions(**times))]

    assert frames(0.01) == [8] * 10
    assert frames(0.5) == [16] * 5
    assert frames(1) == [32, 32, 16]
    assert frames(1.4) == [40, 40]
    assert frames(2.5) == []  # what would be left is too little for a part of its own
    assert frames(60) == []
    assert frames(0.5, start=0.1, end=2) == [13, 16, 18]


def still_times(packet: Any, _: int) -> Any:
    packet.pts = packet.dts = 0
    return packet


@pytest.mark.parametrize("why", ["one key frame", "GIF", "WebP", "B-frames in AVI", "no times", "joined recordings"])
def test_what_cannot_be_cut_stays_whole(tmp_path, why):
    match why:
        case "one key frame":
            source = clip_of(tmp_path / "a.mp4", encoding={"g": "250"})
        case "GIF" | "WebP":
            source = make_animation(tmp_path / f"a.{why.lower()}", [100] * 9)
        case "B-frames in AVI":
            source = clip_of(tmp_path / "a.avi")
        case "no times":
            source = remux(clip_of(tmp_path / "a.mkv", encoding={"bf": "0"}), tmp_path / "b.mkv", still_times)
        case _:
            source = clip_of(tmp_path / "a.ts", frames=50)
            source.write_bytes(source.read_bytes() * 2)

    assert plan_parts(source, 0.3, WHOLE) == []


# What smoothing remembers.


def test_parts_go_on_where_smoothing_was(tmp_path, checkpoint):
    stylizer = Stylizer.open(checkpoint)
    with Image.open(PHOTOS / "sea3.jpg") as photo:
        other = np.asarray(photo.convert("RGB").resize((64, 48)))
    frames = panned(64, 48, 20) + [np.roll(other, number, 1) for number in range(12)]  # two scenes
    source = clip_of(tmp_path / "a.mp4", frames=frames)
    clip = ClipOptions(smooth=0.5)
    parts = plan_parts(source, 0.3, clip)

    def painted(part: Part) -> list[np.ndarray]:
        paint_part(stylizer, source, part, tmp_path / "part", ".mp4", OPTIONS, clip)
        return [frame.pixels.to_ndarray().astype(int)[:48] for frame in LosslessReader(tmp_path / "part")]

    whole = painted(Part(0, Stretch(None, None), 32, (48, 64)))
    apart = [frame for part in parts for frame in painted(part)]
    anew = painted(Part(2, parts[2].stretch, 8, (48, 64)))

    assert [part.frames for part in parts] == [8] * 4
    assert difference(anew[0], whole[16]) > 0.5  # what is to be avoided
    gaps = [difference(a, b) for a, b in zip(whole, apart, strict=True)]
    assert max(gaps) < 0.1
    assert max(gaps[20:]) == 0  # of a scene whose beginning is seen, everything is known


# How painted parts are kept.


def frames_of(size: tuple[int, int]) -> list[Frame]:
    return [
        Frame(Picture(pixels), Fraction(number, 25), Fraction(1, 25), Fraction(4, 3))
        for number, pixels in enumerate(panned(*size, 4))
    ]


def kept(path: Path, frames: list[Frame], suffix: str, problem: str | None = None) -> Path:
    with path.open("wb") as file:
        writer = LosslessWriter(file, suffix, Fraction(1, 12_800))
        for frame in frames:
            writer.write(frame)
        writer.finish(problem, 1.5)
    return path


@pytest.mark.parametrize(("size", "suffix"), [((64, 48), ".mp4"), ((63, 47), ".mp4"), ((63, 47), ".webm")])
def test_painted_frames_are_kept_without_loss(tmp_path, size, suffix):
    frames = frames_of(size)

    reader = LosslessReader(kept(tmp_path / "a", frames, suffix, "something"))

    for found, frame in zip(reader, frames, strict=True):
        wanted = encodable(frame, suffix, Fraction(1, 12_800))
        assert (found.start, found.length, found.aspect) == (wanted.start, wanted.length, wanted.aspect)
        assert found.pixels.format.name == wanted.pixels.format.name
        for a, b in zip(found.pixels.planes, wanted.pixels.planes, strict=True):
            rows = [np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size) for plane in (a, b)]
            assert (rows[0][:, : a.width] == rows[1][:, : b.width]).all()
    assert (reader.problem, reader.seconds) == ("something", 1.5)


@pytest.mark.parametrize("lost", [1, 40, 3000, 5000])
def test_a_part_that_is_not_whole_is_told(tmp_path, lost):
    path = kept(tmp_path / "a", frames_of((64, 48)), ".mp4")
    path.write_bytes(path.read_bytes()[:-lost])

    with pytest.raises(PartError, match="is not whole; run the same again"):
        list(LosslessReader(path))


def test_what_is_told_of_a_part_travels(tmp_path):
    error = pickle.loads(pickle.dumps(PartError(tmp_path / "a", "is not whole")))

    assert str(error) == str(PartError(tmp_path / "a", "is not whole"))
    assert (error.path, error.code) == (tmp_path / "a", "storage")


def test_a_damaged_part_is_told(tmp_path):
    path = kept(tmp_path / "a", frames_of((64, 48)), ".mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(PartError, match="is not whole; run the same again"):
        list(LosslessReader(path))


def test_nothing_is_left_of_a_part_that_is_interrupted(tmp_path):
    source = clip_of(tmp_path / "a.mp4")
    calls = iter(range(100))

    def paint(images: np.ndarray) -> np.ndarray:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return images

    with pytest.raises(KeyboardInterrupt):
        paint_part(Stylizer(paint), source, plan_parts(source, 0.3, WHOLE)[1], tmp_path / "p", ".mp4", OPTIONS, WHOLE)

    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


# Clips that are no local files.


class Refusing:
    """A clip of which nothing is to be had any more from some byte on."""

    def __init__(self, path: Path, most: int) -> None:
        self.path, self.most = path, most
        self.refused = False

    def __str__(self) -> str:
        return "s3://bucket/a.mp4"

    def open(self) -> BinaryIO:
        source = self

        class File(io.FileIO):
            def readinto(self, buffer: Any) -> Any:
                if self.tell() + len(buffer) > source.most:
                    source.refused = True
                    raise StorageError("s3://bucket/a.mp4 does not answer")
                return super().readinto(buffer)

        return io.BufferedReader(File(self.path))

    def check(self) -> None:
        if self.refused:
            raise StorageError("s3://bucket/a.mp4 does not answer")


@pytest.mark.parametrize("share", [0, 0.5, 0.95])
def test_what_a_store_refuses_is_no_end_of_a_clip(tmp_path, share):
    path = clip_of(tmp_path / "a.mp4", sound="aac", frames=80, options={"movflags": "faststart"})
    part = plan_parts(path, 0.3, WHOLE)[-1]
    paint_part(NEGATIVE, path, part, tmp_path / "whole", ".mp4", OPTIONS, WHOLE)

    def refusing() -> Refusing:
        return Refusing(path, int(share * path.stat().st_size))

    with pytest.raises(StorageError, match="does not answer"):
        plan_parts(refusing(), 0.3, WHOLE)
    with pytest.raises(StorageError, match="does not answer"):
        paint_part(NEGATIVE, refusing(), part, tmp_path / "part", ".mp4", OPTIONS, WHOLE)
    with pytest.raises(StorageError, match="does not answer"):
        join_parts(refusing(), [tmp_path / "whole"], tmp_path / "b.mp4", WHOLE)

    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.mp4", "whole"]
