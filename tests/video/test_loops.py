import struct

import pytest
from helpers.clips import make_animation
from PIL import Image

from fastnst.video.animations import AnimationReader
from fastnst.video.stylize import open_writer

# How often an animation is repeated, and what each format has for that: GIF repeats, the others plays.
COUNTS = [(0, 0, 0), (1, 1, 2), (3, 3, 4), (65_534, 65_534, 65_535)]
WRITTEN = [".gif", ".png", ".webp"]


def repeats(path) -> int | None:
    with AnimationReader(path) as reader:
        return reader.format.loop


def copy(source, target):
    with AnimationReader(source) as reader, target.open("wb") as file:
        writer = open_writer(file, target.suffix, reader.format, 90)
        for frame in reader:
            writer.write(frame)
        writer.close()
    return target


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize(("loop", "repeated", "plays"), COUNTS)
def test_every_format_says_how_often_it_repeats(suffix, loop, repeated, plays, tmp_path):
    path = make_animation(tmp_path / f"a{suffix}", loop=repeated if suffix == ".gif" else plays)

    assert repeats(path) == loop


@pytest.mark.parametrize("source", WRITTEN)
@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("loop", [None, 0, 1, 3])
def test_an_animation_repeats_as_often_in_every_other_format(source, target, loop, tmp_path):
    plays = {None: 1, 0: 0}.get(loop, (loop or 0) + 1)
    made = make_animation(tmp_path / f"a{source}", loop=loop if source == ".gif" else plays)

    copied = copy(made, tmp_path / f"b{target}")

    with Image.open(copied) as after:
        assert after.info.get("loop") == (loop if target == ".gif" else plays)


def test_more_plays_than_a_format_counts_are_as_many_as_it_does(tmp_path):
    made = make_animation(tmp_path / "a.png", loop=1_000_000)

    assert repeats(copy(made, tmp_path / "b.gif")) == 65_535
    assert repeats(copy(made, tmp_path / "b.webp")) == 65_534


def avif(path, flags: int, times: float | None):
    """An animated AVIF whose edit list has these flags, and whose track lasts so many times as long as its media."""
    make_animation(path)
    data = bytearray(path.read_bytes())
    edits = data.index(b"elst")
    wide = data[edits + 4] == 1
    data[edits + 7] = flags
    length = struct.unpack_from(">Q" if wide else ">I", data, edits + 12)[0]
    head = data.index(b"tkhd")
    wide = data[head + 4] == 1
    lasts = (1 << (64 if wide else 32)) - 1 if times is None else round(length * times)
    struct.pack_into(">Q" if wide else ">I", data, head + (32 if wide else 24), lasts)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("flags", "times", "loop"),
    [(1, None, 0), (1, 1, None), (1, 2, 1), (1, 5, 4), (1, 2.5, 2), (0, 1, None), (0, None, None)],
)
def test_an_avif_repeats_as_long_as_its_track_lasts(flags, times, loop, tmp_path):
    assert repeats(avif(tmp_path / "a.avif", flags, times)) == loop


def test_an_animated_avif_becomes_a_gif_that_goes_on(tmp_path):
    made = make_animation(tmp_path / "a.avif")

    with Image.open(copy(made, tmp_path / "b.gif")) as after:
        assert (after.n_frames, after.info["loop"]) == (3, 0)


def test_an_avif_without_an_edit_list_goes_on(tmp_path):
    path = make_animation(tmp_path / "a.avif")
    path.write_bytes(path.read_bytes().replace(b"edts", b"free"))

    assert repeats(path) == 0
