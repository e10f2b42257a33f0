import socket
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import NTSC, av, difference, make_animation, make_clip, panned, read, starts
from helpers.material import PHOTOS
from PIL import Image, ImageSequence

from fastnst.errors import InputError
from fastnst.image import Picture
from fastnst.video.animation import Frame, animation_writer
from fastnst.video.clip import Sound, is_video, open_clip, open_writer


def copy(source: Path, target: Path) -> Path:
    """Written as it is read."""
    with open_clip(source) as reader, target.open("wb") as file:
        writer = open_writer(file, target.suffix, reader, 90)
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


@pytest.mark.parametrize("turn", [(90, False), (180, False), (-90, False), (0, True), (90, True), (180, True)])
def test_frames_are_turned_upright(tmp_path, turn):
    upright = read(make_clip(tmp_path / "a.mp4", frames=1))[0].picture.rgb
    degrees, mirrored = turn

    (frame,) = read(make_clip(tmp_path / "b.mp4", frames=1, turn=turn))

    # A rotation is counter-clockwise, and the mirror comes after it.
    expected = np.rot90(upright, degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    np.testing.assert_array_equal(frame.picture.rgb, expected)


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


def test_start_and_end_cut_pictures_and_sound(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=50, rate=Fraction(25), sound="aac", size=(64, 48))
    whole = read(source)

    with open_clip(source, 0.6, 1.4) as reader:
        items = list(reader)

    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.start for frame in frames] == [Fraction(number, 25) for number in range(20)]
    for frame, expected in zip(frames, whole[15:35], strict=True):
        np.testing.assert_array_equal(frame.picture.rgb, expected.picture.rgb)
    heard = [item.packet.pts * item.packet.time_base - item.offset for item in items if isinstance(item, Sound)]
    assert float(heard[0]) == pytest.approx(0, abs=0.022)
    assert float(heard[-1]) == pytest.approx(0.8, abs=0.04)
    assert heard[0] >= 0


def test_a_cut_between_frames_begins_with_the_one_that_is_shown(tmp_path):
    source = make_clip(tmp_path / "a.mp4", frames=4, times=[0, 1000, 2000, 3000])

    frames = read(source, start=1.25, end=2.5)

    assert [(float(frame.start), float(frame.length)) for frame in frames] == [(0, 0.75), (0.75, 0.5)]
    whole = read(source)
    for frame, expected in zip(frames, whole[1:3], strict=True):
        np.testing.assert_array_equal(frame.picture.rgb, expected.picture.rgb)


def test_a_start_behind_the_end_of_the_clip_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"is 0\.27 s long; --start must be less"):
        open_clip(make_clip(tmp_path / "a.mp4"), 5)
    with pytest.raises(InputError, match="has no frame between --start and --end"):
        read(make_animation(tmp_path / "a.gif"), start=5)


# release test 104
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi", ".webm"])
def test_of_a_clip_that_was_cut_off_the_rest_is_read_and_the_loss_is_told(tmp_path, suffix):
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(suffix, "libx264")
    options = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"} if suffix == ".mp4" else {}
    path = make_clip(tmp_path / f"a{suffix}", frames=90, codec=codec, options=options, rate=Fraction(25))
    if suffix == ".mp4":
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames in (0, 90)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])

    with open_clip(path) as reader:
        count = sum(isinstance(item, Frame) for item in reader)

    assert 20 < count < 85
    if suffix != ".mp4":  # of fragments nobody knows how many there were
        assert "was cut off" in (reader.problem or "") or "is damaged" in (reader.problem or "")


# release test 104
def test_a_clip_without_its_index_is_an_input_error(tmp_path):
    path = make_clip(tmp_path / "a.mp4", frames=30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(InputError, match="is damaged and cannot be opened"):
        open_clip(path)


# release test 104
def test_sound_alone_or_no_frame_is_an_input_error(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        track = container.add_stream("aac", rate=48_000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48_000
        container.mux(track.encode(samples))
        container.mux(track.encode())

    with pytest.raises(InputError, match=r"a\.mp4 has no pictures, only audio"):
        open_clip(tmp_path / "a.mp4")


# release test 101
def test_a_decoder_that_fails_is_an_input_error_with_its_message(tmp_path):
    path = make_clip(tmp_path / "a.mkv", frames=3)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x1f\x43\xb6\x75")  # the first cluster
    data[begin + 40 : -10] = bytes(len(data) - begin - 50)
    path.write_bytes(bytes(data))

    with pytest.raises(InputError, match=r"a\.mkv has no frame that can be decoded"):
        read(path)


# release test 102
@pytest.mark.parametrize("kind", ["hls", "concat", "dash", "hls in mp4", "sdp"])
def test_a_script_named_like_a_video_leads_nowhere(tmp_path, kind):
    (tmp_path / "secret.txt").write_text("secret")
    visits: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        scripts = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile {address}\nfile /etc/passwd\n",
            "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{address}</BaseURL></Period></MPD>',
            "hls in mp4": f"\0\0\0\x18ftypisom\0\0\0\0#EXTM3U\n#EXTINF:5,\n{address}\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        }
        path = tmp_path / "a.mp4"
        path.write_text(scripts[kind])
        server.settimeout(0.3)

        def listen() -> None:
            try:
                visits.append(server.accept())
            except TimeoutError:
                pass

        listener = threading.Thread(target=listen)
        listener.start()
        with pytest.raises(InputError):
            read(path)
        listener.join()

    assert visits == []


def test_a_reference_to_another_file_is_not_followed(tmp_path):
    # A QuickTime data reference may name another file that holds the pictures.
    path = make_clip(tmp_path / "a.mov")
    data = path.read_bytes()
    alias = b"\0\0\0\x0curl \0\0\0\x01"  # "in this file"
    assert data.count(alias) >= 1
    path.write_bytes(data.replace(alias, b"\0\0\0\x0curl \0\0\0\0"))

    try:
        frames = read(path)
    except InputError:
        frames = []

    assert len(frames) in (0, 8)


# release test 103
@pytest.mark.parametrize("name", ["-i", "$(x).mp4", "a;b", "http:", "%d.png", "concat:a|b", "pipe:0", "a\nb.mp4"])
def test_a_name_is_nothing_but_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    made = make_clip(tmp_path / "clip.mp4")

    made.rename(tmp_path / name)

    assert len(read(Path(name))) == 8


def test_kinds_are_told_by_the_first_bytes(tmp_path):
    kinds = {
        "a.mp4": "mov",
        "a.mov": "mov",
        "a.mkv": "matroska",
        "a.webm": "matroska",
        "a.avi": "avi",
    }
    for name, kind in kinds.items():
        codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
        assert is_video(make_clip(tmp_path / name, frames=2, codec=codec).read_bytes()[:16]) == kind
    assert is_video((PHOTOS / "owl.jpg").read_bytes()[:16]) is None
    assert is_video(b"\0\0\0\x1cftypavif\0\0\0\0") is None
    assert is_video(b"") is None


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
        writer = animation_writer(file, suffix, 0, False, 95)
        for number, picture in enumerate(pixels):
            writer.write(Frame(Picture(picture), Fraction(number, 10), Fraction(1, 10)))
        writer.close()

    frames = read(tmp_path / f"a{suffix}")

    for frame, picture in zip(frames, pixels, strict=True):
        assert difference(frame.picture.rgb, picture) < {".gif": 5, ".png": 1e-9, ".webp": 4}[suffix]


def test_a_gif_frame_without_a_duration_is_shown_like_in_a_browser(tmp_path):
    assert [frame.length for frame in read(make_animation(tmp_path / "a.gif", durations=(0, 0)))] == [
        Fraction(1, 10)
    ] * 2


def test_an_animation_that_was_cut_off_is_read_up_to_there(tmp_path):
    path = make_animation(tmp_path / "a.webp", durations=(100,) * 9)
    photo = panned(200, 150, 9)
    with path.open("wb") as file:
        writer = animation_writer(file, ".gif", 0, False, 90)
        for number, picture in enumerate(photo):
            writer.write(Frame(Picture(picture), Fraction(number, 10), Fraction(1, 10)))
        writer.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with open_clip(path) as reader:
        count = len(list(reader))

    assert 1 <= count <= 5
    assert reader.problem is not None or count < 9
