"""Sound of clips: copied where a container takes it, else encoded again; which of them is known before any painting."""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

from fastnst.video.frames import Sound, SoundStream

log = logging.getLogger(__name__)

# What encoders are likely to have for a number of channels, and what that of a file means which does not say.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BITS = 80_000  # a second and channel
_GAP = 10  # seconds that are filled with silence; for longer there is no sound


@dataclass(frozen=True)
class Encoding:
    """How sound is encoded: FFmpeg's name, samples a second, and the layout of channels."""

    codec: str
    rate: int
    layout: str


@dataclass(frozen=True)
class Plan:
    """What becomes of a stream of sound in another file: encoded so, or copied."""

    source: Any
    encoding: Encoding | None


def plan_sounds(sounds: Iterable[SoundStream], format: str, encoder: str) -> list[Plan]:
    """What becomes of each stream in a container of FFmpeg's name; what cannot be kept is left out with a warning.

    Tried with the first packets of each, so that nothing fails after the work.
    """
    plans = []
    for number, sound in enumerate(sounds, start=1):
        plan = next((plan for plan in _candidates(sound.stream, encoder) if _fits(plan, sound, format)), None)
        if plan is not None:
            plans.append(plan)
        elif sound.first or not _is_empty(sound.stream):
            log.warning(
                "stream %d of sound (%s) cannot be kept in this kind of clip; it is left out", number, _name(sound)
            )
    return plans


def _is_empty(stream: Any) -> bool:
    return not stream.duration and not stream.frames


def _name(sound: SoundStream) -> str:
    context = sound.stream.codec_context
    return "of an unknown format" if context is None else f"{context.name}, {context.sample_rate} Hz"


def _candidates(stream: Any, encoder: str) -> Iterator[Plan]:
    """Ways to keep a stream, the best first."""
    import av

    context = stream.codec_context
    if context is None or not context.sample_rate or not context.layout.nb_channels:
        return
    yield Plan(stream, None)
    rates = av.Codec(encoder, "w").audio_rates or [context.sample_rate]
    rate = min((rate for rate in rates if rate >= context.sample_rate), default=max(rates))
    for layout in dict.fromkeys([context.layout.name, _LAYOUTS.get(context.layout.nb_channels), "stereo", "mono"]):
        if layout is not None and not _is_unknown(layout):
            yield Plan(stream, Encoding(encoder, rate, layout))


def _fits(plan: Plan, sound: SoundStream, format: str) -> bool:
    """Whether the first packets of a stream can be written so."""
    import av

    try:
        buffer = BytesIO()
        container = av.open(buffer, "w", format=format)
        if plan.encoding is None and not _is_copied(sound.stream.codec_context.name, container):
            return False
        track = Track(container, plan)
        container.start_encoding()
        offset = min((packet.pts * packet.time_base for packet in sound.first if packet.pts is not None), default=0)
        for packet in sound.first:
            container.mux(track.take(Sound(_copy(packet), Fraction(offset))))
        container.mux(track.rest())
        container.close()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        sound.stream.codec_context.flush_buffers()
    return plan.encoding is None or not sound.first or _can_be_heard(buffer)


def _is_copied(codec: str, container: Any) -> bool:
    """Whether a container takes a stream as it is; MP4 can hold plain samples since lately, which few players know."""
    return codec in container.supported_codecs and not (container.format.name == "mp4" and codec.startswith("pcm_"))


def _can_be_heard(file: BytesIO) -> bool:
    """Whether sound that was encoded can be decoded, and its channels have places."""
    import av

    file.seek(0)
    try:
        with av.open(file, "r") as container:
            return any(not _is_unknown(frame.layout.name) for frame in container.decode(audio=0))
    except (av.FFmpegError, ValueError, IndexError):
        return False


def _copy(packet: Any) -> Any:
    """A packet that may be changed and written, without what is beside its data."""
    import av

    copy = av.Packet(bytes(packet))
    copy.time_base, copy.pts, copy.dts, copy.duration = packet.time_base, packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    return copy


class Track:
    """One stream of sound that is being written into an open container."""

    def __init__(self, container: Any, plan: Plan) -> None:
        self.decoder, self.encoding = plan.source.codec_context, plan.encoding
        if plan.encoding is None:
            self.stream = container.add_stream_from_template(plan.source)
        else:
            codec, rate, layout = plan.encoding.codec, plan.encoding.rate, plan.encoding.layout
            self.stream = container.add_stream(codec, rate=rate, layout=layout)
            self.stream.bit_rate = _BITS * self.stream.codec_context.layout.nb_channels
        if language := plan.source.metadata.get("language"):
            self.stream.metadata["language"] = language
        self.last: int | None = None  # time of decoding of a copied packet
        self.converter: _Converter | None = None
        self.position: int | None = None  # of the next encoded sample

    def take(self, sound: Sound) -> list[Any]:
        """Packets to be written for one that was read."""
        if self.encoding is None:
            return self._copied(sound)
        return [made for frame in self._decoded(sound.packet) for made in self._encoded(frame, sound.offset)]

    def rest(self) -> list[Any]:
        """What is still to be written at the end."""
        if self.encoding is None or self.position is None:
            return []
        made = [made for frame in self._drained() for made in self.stream.encode(frame)]
        return [*made, *self.stream.encode(None)]

    def _copied(self, sound: Sound) -> list[Any]:
        packet = sound.packet
        shift = round(sound.offset / packet.time_base)
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or packet.pts is None:
            return []
        stamp, shown = stamp - shift, packet.pts - shift
        if self.last is not None and stamp <= self.last:
            stamp = self.last + math.ceil(1 / (packet.time_base * self.decoder.sample_rate))
        self.last = stamp
        packet.pts, packet.dts = max(shown, stamp), stamp
        packet.stream = self.stream
        return [packet]

    def _decoded(self, packet: Any) -> list[Any]:
        """Samples of a packet; none if it is damaged."""
        import av

        try:
            return [_laid_out(frame) for frame in self.decoder.decode(packet)]
        except (av.FFmpegError, ValueError):
            return []

    def _encoded(self, frame: Any, offset: Fraction) -> Iterator[Any]:
        rate = self.stream.codec_context.sample_rate
        if frame.pts is None or frame.time_base is None:
            at = None if self.converter is None else self.converter.end
        else:
            at = frame.pts * frame.time_base - offset
        at = at or Fraction(0)
        if at < 0 and at + Fraction(frame.samples, frame.sample_rate) <= 0:
            return
        if self.converter is None or not self.converter.goes_on(frame, at):
            for old in self._drained():
                yield from self.stream.encode(old)
            self.converter = _Converter(frame, self.stream.codec_context)
            self.position = max(round(at * rate), self.position or 0)
        for new in self.converter.push(frame, at):
            yield from self.stream.encode(self._placed(new))

    def _drained(self) -> Iterator[Any]:
        for frame in () if self.converter is None else self.converter.push(None, Fraction(0)):
            yield self._placed(frame)

    def _placed(self, frame: Any) -> Any:
        position = self.position or 0
        frame.pts, frame.time_base = position, Fraction(1, self.stream.codec_context.sample_rate)
        self.position = position + frame.samples
        return frame


class _Converter:
    """Samples of one kind in another rate, layout and format, gaps filled with silence."""

    def __init__(self, frame: Any, context: Any) -> None:
        from av.filter import Graph

        self.kind = _kind(frame)
        self.end = Fraction(0)  # of what was pushed, seconds
        self.begun = False
        self.unit = Fraction(1, frame.sample_rate)
        self.graph = Graph()
        name, layout, rate = self.kind
        source = self.graph.add(
            "abuffer", sample_rate=str(rate), sample_fmt=name, channel_layout=layout, time_base=str(self.unit)
        )
        resampled = self.graph.add("aresample", **{"async": "1", "min_hard_comp": "0.1"})
        wanted = self.graph.add(
            "aformat",
            sample_rates=str(context.sample_rate),
            sample_fmts=context.format.name,
            channel_layouts=context.layout.name,
        )
        sink = self.graph.add("abuffersink")
        source.link_to(resampled)
        resampled.link_to(wanted)
        wanted.link_to(sink)
        self.graph.configure()

    def goes_on(self, frame: Any, at: Fraction) -> bool:
        """Whether a frame at a time in seconds follows what was pushed before, or after a short gap."""
        return _kind(frame) == self.kind and (not self.begun or abs(at - self.end) <= _GAP)

    def push(self, frame: Any, at: Fraction) -> Iterator[Any]:
        """Frames that one more, which begins at a time in seconds, or the end, completes."""
        import av

        if frame is not None:
            self.begun = True
            frame.pts, frame.time_base = round(at / self.unit), self.unit
            self.end = at + frame.samples * self.unit
        self.graph.push(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield self.graph.pull()


def _kind(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _is_unknown(layout: str) -> bool:
    return re.fullmatch(r"\d+ channels", layout) is not None


def _laid_out(frame: Any) -> Any:
    """A frame whose channels have places: those usual for their number, or the first two of very many."""
    import av

    if not _is_unknown(frame.layout.name):
        return frame
    count = frame.layout.nb_channels
    samples = frame.to_ndarray()
    planes = samples if frame.format.is_planar else samples.reshape(-1, count).T
    kept = planes[: count if count in _LAYOUTS else 2]
    packed = kept if frame.format.is_planar else kept.T.reshape(1, -1)
    made = av.AudioFrame.from_ndarray(packed.copy(), frame.format.name, _LAYOUTS[len(kept)])
    made.sample_rate, made.pts, made.time_base = frame.sample_rate, frame.pts, frame.time_base
    return made
