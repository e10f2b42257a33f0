"""When frames are shown, whatever the times in their file: those may be missing, twice the same, or jump."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any, Literal

from fastnst.video.frames import SoundStream, Timeline

_LOOKED_AT = 48  # frames that tell whether times can be relied on; H.264 reorders up to 16
_PACKETS = 8  # of sound, that tell what it is
_BACK, _AHEAD = Fraction(1), Fraction(10)  # seconds that no reordering and no pause explains
_FEW = Fraction(1, 4)  # of the times may be wrong before all of them count for nothing
_NEAR = 2  # seconds from the start within which sound is looked for
_MOST = 20_000  # packets that are looked through

Stamps = Literal["pts", "dts", "none"]
_Stamped = tuple[int | None, int | None, Fraction]  # times of showing and decoding a frame, in units of seconds


@dataclass(frozen=True)
class Beginning:
    """What the first packets and frames of a video say of all of it.

    `stamps` is which times of frames grow, `delay` by how much those are later than frames are shown, and `shown` the
    file's time of the first frame, both in seconds.
    """

    stamps: Stamps = "none"
    delay: Fraction = Fraction(0)
    shown: Fraction | None = None


def look_at(container: Any, stream: Any, trusted: bool) -> tuple[Beginning, tuple[SoundStream, ...]]:
    """Decode the first frames of an open video, and keep the first packets of its sound.

    The presentation times of its format are `trusted`, if they grow.
    """
    frames: list[_Stamped] = []
    first: Fraction | None = None
    heard: dict[int, list[Any]] = {sound.index: [] for sound in container.streams.audio}
    for packet in _readable(container):
        _keep(heard, packet)
        # Not its own stream_index, which is 0 in the empty packet that ends any stream.
        if packet.stream.index != stream.index:
            continue
        stamp = packet.pts if packet.dts is None else packet.dts
        first = stamp * packet.time_base if first is None and stamp is not None else first
        frames += [(frame.pts, frame.dts, frame.time_base or stream.time_base) for frame in _decoded(stream, packet)]
        if len(frames) >= _LOOKED_AT:
            break
    return _told_by(frames, first, trusted), _sounds(container, heard)


def first_sound(container: Any, stream: Any, start: Fraction) -> tuple[Fraction | None, tuple[SoundStream, ...]]:
    """Where to seek for a key frame that is shown before a time of the file, if not at its beginning; and the sound.

    That is the streams of sound of an open video, each with its first packets from that time on.
    """
    heard: dict[int, list[Any]] = {sound.index: [] for sound in container.streams.audio}
    goal = _key_frame(container, stream, start)
    for packet in _readable(container):
        if packet.pts is None or packet.pts * packet.time_base < start:
            continue
        _keep(heard, packet)
        if packet.pts * packet.time_base > start + _NEAR:
            break
    return goal, _sounds(container, heard)


def _key_frame(container: Any, stream: Any, start: Fraction) -> Fraction | None:
    """Where to seek for a key frame before a time of the file; None is its beginning.

    Not every format has an index, and some are searched by times of decoding, which are earlier.
    """
    back, rate = Fraction(1), stream.average_rate or stream.guessed_rate or 25
    first = Fraction(container.start_time or 0, 1_000_000)
    latest = start - 16 / Fraction(rate)  # H.264 decodes up to 16 frames before they are shown
    while (goal := latest - back + 1) > first:
        seek(container, goal)
        key = next((packet for packet in _readable(container) if _is_key(packet, stream)), None)
        if key is not None and max(key.pts or 0, key.dts or 0) * key.time_base <= start:
            return goal
        back *= 2
    seek(container, first)
    return None


def _is_key(packet: Any, stream: Any) -> bool:
    return bool(packet.stream.index == stream.index and packet.is_keyframe and packet.size)


def seek(container: Any, start: Fraction) -> None:
    """Go to a time of a file, if it allows."""
    import av

    with suppress(av.FFmpegError, ValueError):
        container.seek(int(start * 1_000_000))


def packets_of(container: Any) -> Iterator[Any]:
    """All packets of an open file, in its order."""
    with suppress(IndexError):  # of PyAV, at the end of a file in which streams have turned up
        yield from container.demux()


def _readable(container: Any) -> Iterator[Any]:
    """The first packets of a file."""
    import av

    with suppress(av.FFmpegError, ValueError):
        yield from islice(packets_of(container), _MOST)


def _decoded(stream: Any, packet: Any) -> list[Any]:
    import av

    try:
        return list(stream.decode(packet))
    except (av.FFmpegError, ValueError):
        return []


def _keep(heard: dict[int, list[Any]], packet: Any) -> None:
    if packet.size and len(packets := heard.get(packet.stream.index, [])) < _PACKETS:
        packets.append(packet)


def _sounds(container: Any, heard: dict[int, list[Any]]) -> tuple[SoundStream, ...]:
    return tuple(SoundStream(sound, tuple(heard[sound.index])) for sound in container.streams.audio)


def _told_by(frames: list[_Stamped], first: Fraction | None, trusted: bool) -> Beginning:
    if not frames:
        return Beginning()
    shown, decoded, unit = frames[0]
    faults = _faults([pts for pts, _, _ in frames])
    if trusted and shown is not None and not faults:
        return Beginning("pts", Fraction(0), shown * unit)
    decodings = [dts for _, dts, _ in frames]
    while decodings and decodings[-1] is None:  # what a decoder still held at the end has none
        decodings.pop()
    if decoded is not None and first is not None and not _faults(decodings):
        return Beginning("dts", decoded * unit - first, first)
    if trusted and shown is not None and faults <= len(frames) * _FEW:
        return Beginning("pts", Fraction(0), shown * unit)
    return Beginning("none", Fraction(0), first)


def _faults(stamps: list[int | None]) -> int:
    """How many times are missing or not later than all before them."""
    faults, last = 0, None
    for stamp in stamps:
        if stamp is None or (last is not None and stamp <= last):
            faults += 1
        else:
            last = stamp
    return faults


class Clock:
    """Starts of frames in the order in which they are shown, seconds; each is later than the one before."""

    def __init__(self, timeline: Timeline, beginning: Beginning) -> None:
        self.timeline, self.stamps, self.delay = timeline, beginning.stamps, beginning.delay
        self.first = Fraction(0) if beginning.shown is None else beginning.shown - timeline.origin
        self.last: Fraction | None = None

    def start(self, frame: Any) -> Fraction:
        """When the next decoded frame is shown."""
        at = self._told(frame)
        if at is None:
            at = self.first if self.last is None else self.last + 1 / self.timeline.rate
        elif self.last is not None and at <= self.last:
            # Twice the same time, or an earlier one: half as long as others until the times catch up.
            at = self.last + max(1 / (2 * self.timeline.rate), self.timeline.time_base)
        self.last = at
        return at

    def _told(self, frame: Any) -> Fraction | None:
        stamp = {"pts": frame.pts, "dts": frame.dts, "none": None}[self.stamps]
        if stamp is None:
            return None
        unit = frame.time_base or self.timeline.unit
        return self.timeline.start(stamp - round(self.delay / unit), unit)


class Splices:
    """Packets of recordings that were joined, whose times go on where the one before ended.

    What jumps in one stream jumps in the others by the same.
    """

    def __init__(self, ahead: bool) -> None:
        self.ahead = ahead  # whether a jump ahead is one too, and not a pause
        self.shift = Fraction(0)  # of the latest recording
        self.shifts: dict[int, Fraction] = {}
        self.ends: dict[int, Fraction] = {}

    def __call__(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The same packets; sound without a time follows what was before it."""
        for packet in packets:
            index, unit = packet.stream.index, packet.time_base
            if None not in (packet.pts, packet.dts) and abs(packet.pts - packet.dts) * unit > _AHEAD:
                packet.pts = None  # damaged: nothing is decoded so long before it is shown
            stamp = packet.pts if packet.dts is None else packet.dts
            if packet.size and unit:
                if stamp is None and packet.stream.type == "audio" and index in self.ends:
                    stamp = packet.pts = round(self.ends[index] / unit)
                elif stamp is not None:
                    stamp = self._join(packet, index, stamp, unit)
                if stamp is not None:
                    self.ends[index] = (stamp + (packet.duration or 0)) * unit
            yield packet

    def _join(self, packet: Any, index: int, stamp: int, unit: Fraction) -> int:
        at, end = stamp * unit, self.ends.get(index)
        if end is not None and not self._follows(at + self.shifts.get(index, Fraction(0)), end):
            if not self._follows(at + self.shift, end):
                self.shift = end - at
            self.shifts[index] = self.shift
        ticks = round(self.shifts.get(index, Fraction(0)) / unit)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return stamp + ticks

    def _follows(self, at: Fraction, end: Fraction) -> bool:
        return at - end >= -_BACK and (not self.ahead or at - end <= _AHEAD)
