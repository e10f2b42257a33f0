import numpy as np
import pytest
from PIL import Image, ImageSequence

from fastnst.errors import UsageError
from fastnst.video.animation import write_animation

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
FRAMES = [np.full((31, 45, 3), color, np.uint8) for color in COLORS]


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
