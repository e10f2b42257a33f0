import socket
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import av, make_animation, make_clip, panned, read

from fastnst.errors import InputError
from fastnst.image import Picture
from fastnst.video.frames import ClipFormat, Frame, Sound
from fastnst.video.read import open_clip
from fastnst.video.write import open_writer


@pytest.mark.parametrize("turn", [(90, False), (180, False), (-90, False), (0, True), (90, True), (180, True)])
def test_frames_are_turned_upright(tmp_path, turn):
    upright = read(make_clip(tmp_path / "a.mp4", frames=1))[0].picture.rgb
    degrees, mirrored = turn

    (frame,) = read(make_clip(tmp_path / "b.mp4", frames=1, turn=turn))

    # A rotation is counter-clockwise, and the mirror comes after it.
    expected = np.rot90(upright, degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    np.testing.assert_array_equal(frame.picture.rgb, expected)


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


def test_a_clip_without_its_index_is_an_input_error(tmp_path):
    path = make_clip(tmp_path / "a.mp4", frames=30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(InputError, match="is damaged and cannot be opened"):
        open_clip(path)


def test_sound_alone_or_no_frame_is_an_input_error(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        track = container.add_stream("aac", rate=48_000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48_000
        container.mux(track.encode(samples))
        container.mux(track.encode())

    with pytest.raises(InputError, match=r"a\.mp4 has no pictures, only audio"):
        open_clip(tmp_path / "a.mp4")


def test_a_decoder_that_fails_is_an_input_error_with_its_message(tmp_path):
    path = make_clip(tmp_path / "a.mkv", frames=3)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x1f\x43\xb6\x75")  # the first cluster
    data[begin + 40 : -10] = bytes(len(data) - begin - 50)
    path.write_bytes(bytes(data))

    with pytest.raises(InputError, match=r"a\.mkv has no frame that can be decoded"):
        read(path)


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


@pytest.mark.parametrize("name", ["-i", "$(x).mp4", "a;b", "http:", "%d.png", "concat:a|b", "pipe:0", "a\nb.mp4"])
def test_a_name_is_nothing_but_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    made = make_clip(tmp_path / "clip.mp4")

    made.rename(tmp_path / name)

    assert len(read(Path(name))) == 8


def test_a_gif_frame_without_a_duration_is_shown_like_in_a_browser(tmp_path):
    assert [frame.length for frame in read(make_animation(tmp_path / "a.gif", durations=(0, 0)))] == [
        Fraction(1, 10)
    ] * 2


def test_an_animation_that_was_cut_off_is_read_up_to_there(tmp_path):
    path = make_animation(tmp_path / "a.webp", durations=(100,) * 9)
    photo = panned(200, 150, 9)
    with path.open("wb") as file:
        writer = open_writer(file, ".gif", ClipFormat(), 90)
        for number, picture in enumerate(photo):
            writer.write(Frame(Picture(picture), Fraction(number, 10), Fraction(1, 10)))
        writer.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with open_clip(path) as reader:
        count = len(list(reader))

    assert 1 <= count <= 5
    assert reader.problem is not None or count < 9
