"""What clips are made of, for those who read and those who write them: frames, sound, times, and codes of colors.

Times are exact fractions of a second from the beginning of a clip; files have whole numbers of units of their own.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastnst.image import Picture

# FFmpeg's codes of what pixels of a video mean.
BT709, BT601, LIMITED, FULL = 1, 5, 1, 2
SCALING = 0x2 | 0x2000 | 0x40000  # SWS_BILINEAR, SWS_FULL_CHR_H_INT and SWS_ACCURATE_RND: color as it is


@dataclass(frozen=True)
class Frame:
    """One picture of a clip, when it is shown and for how long, in seconds from the beginning of the clip.

    `aspect` is the width of a pixel over its height.
    """

    picture: Picture
    start: Fraction
    length: Fraction
    aspect: Fraction = Fraction(1)

    @property
    def end(self) -> Fraction:
        """When it is no longer shown."""
        return self.start + self.length

    def ticks(self, unit: Fraction) -> tuple[int, int]:
        """Start and length as whole numbers of a unit in seconds; what is rounded does not add up over frames."""
        start = round(self.start / unit)
        return start, round(self.end / unit) - start

    def within(self, start: Fraction, end: Fraction | None) -> "Frame | None":
        """The part that is shown between two times, the first of which becomes zero; None if nothing is."""
        first, last = max(self.start, start), self.end if end is None else min(self.end, end)
        return Frame(self.picture, first - start, last - first, self.aspect) if last > first else None


@dataclass(frozen=True, slots=True)
class Stretch:
    """The frames of a clip that begin from one time on and before another; None is its beginning, or its end.

    Times are seconds from the beginning of the file's clip, whatever start was asked for.
    """

    start: Fraction | None
    end: Fraction | None


@dataclass(frozen=True)
class SoundStream:
    """A stream of sound as PyAV has it, and the first of its packets, of a file opened for that alone."""

    stream: Any
    first: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Sound:
    """A packet of sound as it was read, and by how many seconds the clip begins later than its file."""

    packet: Any
    offset: Fraction


@dataclass(frozen=True)
class ClipFormat:
    """What a reader knows of a clip before its frames, and a writer keeps."""

    rate: Fraction | None = None  # frames a second; None where each says its own length
    time_base: Fraction = Fraction(1, 1000)  # seconds, of which all times are multiples
    loop: int | None = 0  # how often an animation of it repeats: 0 is forever, None not at all
    transparent: bool = False
    sounds: tuple[SoundStream, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """Times of pictures in the file of a video, as seconds from its beginning."""

    unit: Fraction  # seconds
    rate: Fraction  # frames a second
    origin: Fraction  # the file's time of the beginning, seconds

    @property
    def rounded(self) -> bool:
        """Whether its units, to which files round, allow to tell the true times of a steady rate."""
        return self._fine != self.unit and self._fine >= Fraction(1, 1_000_000)

    @property
    def time_base(self) -> Fraction:
        """Of what all starts are about multiples, seconds; a millisecond at most, so that none is rounded away."""
        exact = self._fine if self.rounded else self.unit
        return exact / math.ceil(exact * 1000)

    @property
    def _fine(self) -> Fraction:
        return Fraction(1, math.lcm(self.unit.denominator, self.rate.numerator))

    def start(self, stamp: int, unit: Fraction | None) -> Fraction:
        """When a picture is shown first; its unit, if any, is nearer to the truth than that of all."""
        at = Fraction(stamp) * (unit or self.unit) - self.origin
        steady = round(at * self.rate) / self.rate
        return steady if self.rounded and abs(steady - at) <= self.unit else at

    def length(self, duration: int | None) -> Fraction:
        """How long a picture is shown; if its file does not say, as long as at a steady rate."""
        length = Fraction(duration or 0) * self.unit
        if self.rounded and abs(length - 1 / self.rate) <= self.unit:
            length = 1 / self.rate
        return length or 1 / self.rate
