"""Small videos and animations, written and read with PyAV and Pillow alone."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastnst.video.frames import Frame
from fastnst.video.read import open_clip
from helpers.material import PHOTOS

av = pytest.importorskip("av", reason="PyAV reads and writes video")


NTSC = Fraction(30_000, 1001)


def panned(width: int, height: int, count: int) -> list[np.ndarray]:
    """A window that moves over a photo."""
    with Image.open(PHOTOS / "owl.jpg") as photo:
        wide = np.asarray(photo.convert("RGB").resize((width + 2 * count, height)))
    return [np.ascontiguousarray(wide[:, 2 * i : 2 * i + width]) for i in range(count)]


def make_clip(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    frames: Sequence[np.ndarray] | int = 8,
    rate: Fraction = NTSC,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str | None = None,
    turn: tuple[int, bool] | None = None,
    times: Sequence[int] | None = None,
    tags: dict[str, int] | None = None,
    format: str | None = None,
    options: dict[str, str] | None = None,
    encoding: dict[str, str] | None = None,
    heard: tuple[int, str, float] = (48_000, "mono", 0),
) -> Path:
    """Write a clip: with a tone, frames at times in milliseconds, a rotation and a flip, color tags, if asked for.

    The tone has a rate, a layout of channels, and seconds before it begins.
    """
    pictures = panned(*size, frames) if isinstance(frames, int) else list(frames)
    with av.open(str(path), "w", format=format, container_options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "12", **(encoding or {})})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], pixels
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.codec_context.flags |= 0x100  # AV_CODEC_FLAG_FRAME_DURATION
            stream.codec_context.options = {**stream.codec_context.options, "bf": "0"}
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        samples_a_second, layout, late = heard
        track = container.add_stream(sound, rate=samples_a_second, layout=layout) if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if tags:
                frame = frame.reformat(
                    format=pixels,
                    dst_colorspace={1: 1, 5: 5, 6: 5}[tags["colorspace"]],
                    src_color_range=2,
                    dst_color_range=tags["color_range"],
                )
            if times:
                last = 2 * times[-1] - times[-2]
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
                frame.duration = [*times, last][number + 1] - times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track:
            length = round(samples_a_second * len(pictures) / rate)
            tone = (np.sin(np.arange(length) * 2 * np.pi * 440 / samples_a_second) * 0.27).astype(np.float32)
            channels = np.stack([tone] * track.codec_context.layout.nb_channels)
            samples = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
            samples.sample_rate, samples.pts = samples_a_second, round(late * samples_a_second)
            container.mux(track.encode(samples))
            container.mux(track.encode())
    return path


def remux(source: Path, target: Path, change: Callable[[Any, int], Any] = lambda packet, _: packet) -> Path:
    """The same packets in another container; each, with its number in its stream, may be changed, or None for none."""
    numbers: dict[int, Iterator[int]] = {}
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        streams = {stream.index: after.add_stream_from_template(stream) for stream in before.streams}
        for packet in before.demux():
            index = packet.stream_index
            if not packet.size or change(packet, next(numbers.setdefault(index, count()))) is None:
                continue
            packet.stream = streams[index]
            after.mux(packet)
    return target


def decoded(path: Path) -> int:
    """How many frames a plain decode gives."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def make_animation(
    path: Path, durations: Sequence[int] = (50, 120, 90), loop: int | None = 0, clear: bool = False
) -> Path:
    """Colored frames; the left half transparent if asked for."""
    frames = []
    for color in [(220, 30, 30), (30, 200, 40), (20, 40, 230)] * 3:
        pixels = np.full((24, 32, 4), (*color, 255), np.uint8)
        if clear:
            pixels[:, :16] = 0
        frames.append(Image.fromarray(pixels) if clear else Image.fromarray(pixels[..., :3].copy()))
    frames = frames[: len(durations)]
    options = {} if loop is None else {"loop": loop}
    more = {"disposal": 2} if path.suffix == ".gif" else {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(durations), **options, **more)
    return path


def read(path: Path, **times: float) -> list[Frame]:
    with open_clip(path, **times) as reader:
        return [item for item in reader if isinstance(item, Frame)]


def starts(path: Path) -> list[Fraction]:
    return [frame.start for frame in read(path)]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())
