import numpy as np
import pytest
from helpers.clips import make_clip, read
from helpers.material import PHOTOS

from fastnst.errors import UnsupportedFormatError
from fastnst.video.containers import HEAD, is_video, transport_packet
from fastnst.video.read import open_clip

KINDS = {
    "a.mp4": ("mov", "libx264"),
    "a.mov": ("mov", "libx264"),
    "a.3gp": ("mov", "libx264"),
    "a.mkv": ("matroska", "libx264"),
    "a.webm": ("matroska", "libvpx-vp9"),
    "a.avi": ("avi", "mpeg4"),
    "a.ts": ("mpegts", "libx264"),
    "a.m2ts": ("mpegts", "libx264"),
    "a.flv": ("flv", "flv"),
    "a.mpg": ("mpeg", "mpeg2video"),
    "a.vob": ("mpeg", "mpeg2video"),
    "a.wmv": ("asf", "wmv2"),
    "a.ogv": ("ogg", "libvpx"),
    "a.mxf": ("mxf", "mpeg2video"),
    "a.nut": ("nut", "libx264"),
    "a.ivf": ("ivf", "libvpx"),
    "a.h264": ("h264", "libx264"),
    "a.m2v": ("mpegvideo", "mpeg2video"),
}


@pytest.mark.parametrize(("name", "kind", "codec"), [(name, *told) for name, told in KINDS.items()])
def test_kinds_are_told_by_the_first_bytes(tmp_path, name, kind, codec):
    path = make_clip(tmp_path / name, frames=4, codec=codec, rate=25)

    path = path.rename(tmp_path / "clip")  # the name says nothing

    assert is_video(path.read_bytes()[:HEAD]) == kind
    assert len(read(path)) == 4


def test_what_is_no_clip_is_none():
    assert is_video((PHOTOS / "owl.jpg").read_bytes()[:HEAD]) is None
    assert is_video(b"\0\0\0\x1cftypavif\0\0\0\0") is None
    assert is_video(b"") is None
    assert is_video(b"G" * HEAD) is None
    assert is_video(b"GIF89a" + bytes(HEAD)) is None
    assert not any(is_video(np.random.default_rng(seed).bytes(HEAD)) for seed in range(100))


def test_a_recording_that_begins_within_a_packet_is_one(tmp_path):
    data = make_clip(tmp_path / "a.ts", frames=30, rate=25).read_bytes()
    (tmp_path / "b.ts").write_bytes(data[100:])

    assert transport_packet(data[100 : 100 + HEAD]) == 188
    assert len(read(tmp_path / "b.ts")) == 30


def test_an_unknown_file_is_told_which_clips_there_are(tmp_path):
    (tmp_path / "a.swf").write_bytes(b"FWS\x05" + bytes(100))

    with pytest.raises(UnsupportedFormatError, match=r"a\.swf is neither a clip nor a picture .* MPEG-TS"):
        open_clip(tmp_path / "a.swf")
