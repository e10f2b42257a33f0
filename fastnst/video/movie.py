"""Videos written frame by frame by PyAV, with their sound."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from fastnst.errors import OutputError
from fastnst.image import Picture, Pixels
from fastnst.video.frames import BT709, FULL, LIMITED, SCALING, ClipFormat, Frame, Sound
from fastnst.video.read import reason
from fastnst.video.sound import Track, plan_sounds

log = logging.getLogger(__name__)

# By suffix: FFmpeg's name, encoder of the pictures with its options, of sound that cannot be copied.
# Without B-frames: MP4 counts its length in the order of decoding, which is another when frames last differently long.
_H264 = ("libx264", {"crf": "18", "preset": "medium", "bf": "0"})
_VP9 = ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"})
VIDEOS: dict[str, tuple[str, tuple[str, dict[str, str]], str]] = {
    ".mp4": ("mp4", _H264, "aac"),
    ".mov": ("mov", _H264, "aac"),
    ".mkv": ("matroska", _H264, "aac"),
    ".webm": ("webm", _VP9, "libopus"),
}


@dataclass(frozen=True)
class Encodable:
    """A frame as an encoder takes it: a VideoFrame of PyAV in YUV, when it begins and how long it is shown, in ticks.

    `aspect` is the width of a pixel over its height.
    """

    pixels: Any
    start: int
    length: int
    aspect: Fraction


def encodable(frame: Frame, suffix: str, unit: Fraction) -> Encodable:
    """A frame for the encoder of a kind in VIDEOS, its times in units of so many seconds."""
    import av

    height, width = frame.picture.size
    odd = height % 2 or width % 2
    pixels = av.VideoFrame.from_ndarray(_on_white(frame.picture), format="rgb24").reformat(
        format="yuv444p" if odd and VIDEOS[suffix][1] is _H264 else "yuv420p",
        src_colorspace=BT709,
        dst_colorspace=BT709,
        src_color_range=FULL,
        dst_color_range=LIMITED,
        interpolation=SCALING,
    )
    return Encodable(pixels, *frame.ticks(unit), frame.aspect)


class VideoWriter:
    """H.264 in MP4, QuickTime or Matroska, VP9 in WebM; sound is copied where the container can hold it.

    H.264 with one color for 2x2 pixels, which everything plays, has even sides; odd sizes have a color for each pixel.
    VP9 has any size.
    """

    def __init__(self, file: BinaryIO, suffix: str, clip: ClipFormat) -> None:
        import av

        self.format, self.encoder, self.sound_encoder = VIDEOS[suffix]
        self.suffix, self.clip = suffix, clip
        self.plans = plan_sounds(clip.sounds, self.format, self.sound_encoder)
        # Else what an encoder puts before the beginning would begin a clip in Matroska, and its pictures would be late.
        options = {"avoid_negative_ts": "disabled"}
        self.container = av.open(file, "w", format=self.format, container_options=options)
        self.stream: Any = None
        self.waiting: list[Sound] = []  # for the first frame, without which there is no header
        self.tracks: dict[int, Track] = {}
        self.last: int | None = None  # time of the frame before

    def _start(self, first: Encodable) -> None:
        name, options = self.encoder
        rate = (self.clip.rate or Fraction(25)).limit_denominator(1_000_000)
        self.stream = self.container.add_stream(name, rate=rate, options=dict(options))
        self.stream.width, self.stream.height = first.pixels.width, first.pixels.height
        self.stream.pix_fmt = first.pixels.format.name
        context = self.stream.codec_context
        context.time_base = self.clip.time_base
        context.flags |= 0x100  # AV_CODEC_FLAG_FRAME_DURATION: how long the last frame lasts
        context.sample_aspect_ratio = first.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = LIMITED, 1, 1, 1
        self.tracks = {plan.source.index: Track(self.container, plan) for plan in self.plans}

    def write(self, frame: Frame) -> None:
        """One more frame, all of one size; OutputError if it cannot be encoded."""
        with self._encoding():
            self._encode(encodable(frame, self.suffix, self.clip.time_base))

    def encode(self, frame: Encodable) -> None:
        """The same for a frame that is ready for this writer's encoder."""
        with self._encoding():
            self._encode(frame)

    def sound(self, sound: Sound) -> None:
        """One more packet of sound; OutputError if it cannot be kept."""
        with self._encoding():
            self._sound(sound)

    def close(self) -> None:
        with self._encoding():
            if self.stream is not None:
                self.container.mux(self.stream.encode())
                for track in self.tracks.values():
                    self.container.mux(track.rest())
            self.container.close()

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        import av

        try:
            yield
        except OSError:
            raise  # of the file
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"a clip of this size and sound cannot be written ({reason(error)})") from error

    def _encode(self, frame: Encodable) -> None:
        if self.stream is None:
            self._start(frame)
            waiting, self.waiting = self.waiting, []
            for sound in waiting:
                self._sound(sound)
        pixels = frame.pixels
        pixels.pict_type = 0  # none: the encoder decides, also of what was a key frame of another
        pixels.time_base, pixels.duration = self.clip.time_base, frame.length
        pixels.pts = self.last = frame.start if self.last is None else max(frame.start, self.last + self._least())
        pixels.colorspace, pixels.color_range = 1, LIMITED
        pixels.color_primaries, pixels.color_trc = 1, 1
        self.container.mux(self.stream.encode(pixels))

    def _sound(self, sound: Sound) -> None:
        import av

        if self.stream is None:
            self.waiting.append(sound)
            return
        index = sound.packet.stream.index
        if index not in self.tracks:
            return
        try:
            self.container.mux(self.tracks[index].take(sound))
        except OSError:
            raise  # of the file
        except (av.FFmpegError, ValueError) as error:
            del self.tracks[index]
            log.warning("sound could not be kept (%s); the rest of it is left out", reason(error))

    def _least(self) -> int:
        """The time between two frames that a container can tell apart: Matroska has milliseconds."""
        finest = Fraction(1, 1000) if self.format in ("matroska", "webm") else self.clip.time_base
        return math.ceil(finest / self.clip.time_base)


def _on_white(picture: Picture) -> Pixels:
    if picture.alpha is None:
        return np.ascontiguousarray(picture.rgb)
    image = Image.alpha_composite(Image.new("RGBA", picture.size[::-1], "white"), picture.to_pil())
    return np.asarray(image.convert("RGB"))
