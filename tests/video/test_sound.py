from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import av, make_clip, remux, starts

from fastnst.config import ClipOptions, StylizeOptions
from fastnst.folder import Job
from fastnst.stylize import Stylizer
from fastnst.video.stylize import stylize_clip

SAME = Stylizer(lambda images: images)
RATE = Fraction(25)


def paint(source: Path, target: Path, clip: ClipOptions | None = None) -> Path:
    stylize_clip(SAME, Job(source, target), StylizeOptions(), clip or ClipOptions())
    return target


def heard(path: Path, number: int = 0) -> tuple[str, str, int, np.ndarray, float]:
    """Codec, layout, rate and samples of the first channel of a stream of sound, and when it begins."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        frames = list(container.decode(stream))
        first = frames[0].pts * frames[0].time_base
        planes = [frame.to_ndarray() for frame in frames]
        count = frames[0].layout.nb_channels
        samples = [
            plane[0] if frame.format.is_planar else plane[0, ::count]
            for frame, plane in zip(frames, planes, strict=True)
        ]
        context = stream.codec_context
        return (
            context.name,
            frames[0].layout.name,
            context.sample_rate,
            np.concatenate(samples).astype(float),
            float(first),
        )


def tone(samples: np.ndarray, rate: int) -> float:
    """The loudest frequency, Hz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4] - samples.mean()
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * rate / len(middle))


# How sound is, in which container, and what becomes of it by suffix: codec, layout and rate.
SOUNDS = [
    (
        "a.avi",
        "pcm_s16le",
        44_100,
        "stereo",
        {".mp4": ("aac", "stereo", 44_100), ".mkv": ("pcm_s16le", "2 channels", 44_100)},
    ),
    ("a.avi", "pcm_s16le", 11_024, "mono", {".webm": ("opus", "mono", 48_000)}),
    ("a.avi", "pcm_u8", 7000, "mono", {".mp4": ("aac", "mono", 7350)}),
    ("a.mkv", "pcm_s16le", 48_000, "5.1", {".mp4": ("aac", "5.1", 48_000), ".webm": ("opus", "5.1", 48_000)}),
    ("a.mkv", "pcm_s16le", 44_100, "quad", {".webm": ("opus", "stereo", 48_000)}),
    ("a.mkv", "flac", 44_100, "quad", {".mkv": ("flac", "quad", 44_100), ".webm": ("opus", "quad", 48_000)}),
    ("a.mkv", "pcm_f32le", 44_100, "stereo", {".mp4": ("aac", "stereo", 44_100)}),
    ("a.mkv", "pcm_f64le", 192_000, "mono", {".mp4": ("aac", "mono", 96_000)}),
    ("a.avi", "pcm_s24le", 192_000, "stereo", {".webm": ("opus", "stereo", 48_000)}),
    ("a.mkv", "libopus", 48_000, "stereo", {".mov": ("aac", "stereo", 48_000), ".mkv": ("opus", "stereo", 48_000)}),
    ("a.mkv", "flac", 44_100, "stereo", {".mov": ("aac", "stereo", 44_100), ".mp4": ("flac", "stereo", 44_100)}),
    ("a.mkv", "eac3", 48_000, "5.1(side)", {".webm": ("opus", "5.1", 48_000), ".mp4": ("eac3", "5.1(side)", 48_000)}),
    ("a.avi", "libmp3lame", 44_100, "stereo", {".mp4": ("mp3float", "stereo", 44_100)}),
    ("a.ts", "aac", 44_100, "stereo", {".mp4": ("aac", "stereo", 44_100), ".mkv": ("aac", "stereo", 44_100)}),
    ("a.mpg", "mp2", 44_100, "stereo", {".webm": ("opus", "stereo", 48_000)}),
    ("a.avi", "adpcm_ms", 22_050, "stereo", {".mp4": ("aac", "stereo", 22_050)}),
    ("a.mov", "pcm_mulaw", 8000, "mono", {".mp4": ("aac", "mono", 8000), ".mov": ("pcm_mulaw", "mono", 8000)}),
    ("a.mov", "alac", 48_000, "stereo", {".mp4": ("alac", "stereo", 48_000)}),
]


@pytest.mark.parametrize(("name", "codec", "rate", "layout", "expected"), SOUNDS)
def test_sound_is_kept_in_every_container(tmp_path, name, codec, rate, layout, expected):
    pictures = "mpeg2video" if name == "a.mpg" else "libx264"
    source = make_clip(
        tmp_path / name, size=(32, 32), rate=RATE, frames=20, codec=pictures, sound=codec, heard=(rate, layout, 0)
    )
    length = len(heard(source)[3]) / rate

    for suffix in {".mp4": 0, ".webm": 0, **expected}:
        target = paint(source, tmp_path / f"b{suffix}")

        name, places, samples_a_second, samples, begins = heard(target)
        if suffix in expected:
            assert (name, places, samples_a_second) == expected[suffix]
        assert tone(samples, samples_a_second) == pytest.approx(440, abs=8)
        assert len(samples) / samples_a_second == pytest.approx(length, abs=0.16)  # an encoder's last frame is filled
        assert begins == pytest.approx(0, abs=0.006)  # E-AC-3 begins so late
        assert len(starts(target)) == 20


def shifted(seconds: float):
    def change(packet, _):
        if packet.stream.type == "audio":
            packet.pts += round(seconds / packet.time_base)
            packet.dts += round(seconds / packet.time_base)
        return packet

    return change


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_sound_that_begins_later_than_pictures_does_so(tmp_path, suffix, codec):
    source = remux(make_clip(tmp_path / "a.mp4", rate=RATE, frames=20, sound=codec), tmp_path / "b.mp4", shifted(0.6))

    target = paint(source, tmp_path / f"c{suffix}")

    assert heard(target)[4] == pytest.approx(0.6, abs=0.03)
    assert starts(target) == [number / RATE for number in range(20)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_pictures_begin_with_their_sound(tmp_path, suffix):
    # AAC begins with samples that are not heard, which only MP4 can hide.
    source = make_clip(tmp_path / "a.mp4", rate=RATE, frames=20, sound="aac")

    target = paint(source, tmp_path / f"b{suffix}")

    with av.open(str(target)) as container:
        assert container.streams.video[0].start_time == 0
    assert starts(target) == [number / RATE for number in range(20)]
    with av.open(str(target)) as container:
        loud = [np.abs(frame.to_ndarray()).max() > 0.1 for frame in container.decode(audio=0) if frame.time >= 0]
    assert loud[1]


def test_gaps_in_sound_stay_when_it_is_encoded_again(tmp_path):
    def leave_out(packet, number):
        hidden = packet.stream.type == "audio" and 0.8 <= packet.pts * packet.time_base < 1.6
        return None if hidden else packet

    source = make_clip(tmp_path / "a.mp4", rate=RATE, frames=60, sound="flac", heard=(44_100, "mono", 0))
    target = paint(remux(source, tmp_path / "b.mkv", leave_out), tmp_path / "c.webm")

    _, _, rate, samples, _ = heard(target)
    loud = np.abs(samples) > np.abs(samples).max() / 20
    assert loud[int(0.1 * rate) : int(0.7 * rate)].mean() > 0.8
    assert loud[int(1.0 * rate) : int(1.5 * rate)].mean() < 0.05
    assert loud[int(1.8 * rate) : int(2.3 * rate)].mean() > 0.8


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_every_stream_of_sound_is_kept_with_its_language(tmp_path, suffix):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        pictures = container.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        tracks = [container.add_stream(codec, rate=48_000, layout="mono") for codec in ("flac", "aac", "libopus")]
        for track, language in zip(tracks, ("deu", "eng", "fra"), strict=True):
            track.metadata["language"] = language
        for _ in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode())
        for number, track in enumerate(tracks, start=1):
            wave = np.sin(np.arange(48_000) * 2 * np.pi * 400 * number / 48_000).astype(np.float32) / 4
            samples = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 48_000, 0
            container.mux([*track.encode(samples), *track.encode()])

    target = paint(tmp_path / "a.mkv", tmp_path / f"b{suffix}")

    with av.open(str(target)) as container:
        assert [stream.metadata["language"] for stream in container.streams.audio] == ["deu", "eng", "fra"]
    for number in range(3):
        _, _, rate, samples, _ = heard(target, number)
        assert tone(samples, rate) == pytest.approx(400 * (number + 1), abs=8)


@pytest.mark.parametrize("seconds", [0.3, 3])
def test_sound_that_is_shorter_or_longer_than_pictures_keeps_its_length(tmp_path, seconds):
    def cut(packet, _):
        kept = packet.stream.type == "audio" or packet.pts * packet.time_base < 1
        return (
            packet
            if kept and packet.pts * packet.time_base < (seconds if packet.stream.type == "audio" else 9)
            else None
        )

    whole = make_clip(tmp_path / "a.mp4", rate=RATE, frames=75, sound="aac", encoding={"bf": "0"})
    source = remux(whole, tmp_path / "b.mkv", cut)

    target = paint(source, tmp_path / "c.mp4")

    assert len(starts(target)) == 25
    assert len(heard(target)[3]) / 48_000 == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("codec", ["eac3", "aac", "flac"])
def test_where_no_sound_is_the_clip_is_written_all_the_same(tmp_path, codec):
    def cut(packet, _):
        return None if packet.stream.type == "audio" and packet.pts * packet.time_base > 0.5 else packet

    whole = make_clip(tmp_path / "a.mkv", rate=RATE, frames=50, sound=codec, encoding={"bf": "0"})

    target = paint(remux(whole, tmp_path / "b.mkv", cut), tmp_path / "c.mp4", ClipOptions(start=1, end=1.8))

    assert len(starts(target)) == 20


def test_sound_that_cannot_be_kept_is_left_out_with_a_warning_before_any_work(tmp_path, caplog):
    source = make_clip(tmp_path / "a.avi", rate=RATE, frames=10, sound="pcm_s16le")
    source.write_bytes(source.read_bytes().replace(b"\x01\x00\x01\x00\x80\xbb\0\0", b"\x61\x27\x01\x00\x80\xbb\0\0"))
    said: list[str] = []

    def style(images: np.ndarray) -> np.ndarray:
        said.append(caplog.text)
        return images

    stylize_clip(Stylizer(style), Job(source, tmp_path / "b.mp4"), StylizeOptions())

    assert "cannot be kept in this kind of clip; it is left out" in said[0]
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert not container.streams.audio
        assert container.streams.video[0].frames == 10
