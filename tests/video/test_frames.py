from fractions import Fraction

import numpy as np
import pytest

from fastnst.image import Picture
from fastnst.video.frames import Frame, Timeline

PICTURE = Picture(np.zeros((16, 16, 3), np.uint8))
THIRD = Fraction(1, 3)


def test_ticks_of_a_steady_rate_add_up():
    frames = [Frame(PICTURE, number * THIRD, THIRD) for number in range(6)]

    ticks = [frame.ticks(Fraction(1, 100)) for frame in frames]

    assert ticks == [(0, 33), (33, 34), (67, 33), (100, 33), (133, 34), (167, 33)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, (2, 4)),
        (1, None, (1, 4)),
        (3, None, (0, 3)),
        (3, 4, (0, 1)),
        (0, 3, (2, 1)),
        (6, None, None),
        (0, 2, None),
    ],
)
def test_a_frame_is_cut_to_what_is_asked_for(start, end, expected):
    frame = Frame(PICTURE, Fraction(2), Fraction(4), Fraction(4, 3))

    part = frame.within(Fraction(start), None if end is None else Fraction(end))

    assert (None if part is None else (part.start, part.length)) == expected
    assert part is None or (part.picture, part.aspect) == (PICTURE, Fraction(4, 3))


def test_milliseconds_of_a_steady_rate_are_the_true_times():
    rate = Fraction(30_000, 1001)
    times = Timeline(Fraction(1, 1000), rate, Fraction(0))

    starts = [times.start(round(number / rate * 1000), None) for number in range(100)]

    assert starts == [number / rate for number in range(100)]
    assert times.length(33) == 1 / rate
    assert all((start / times.time_base).denominator == 1 for start in starts)


def test_other_times_stay_as_they_are():
    times = Timeline(Fraction(1, 1000), Fraction(25), Fraction(1, 2))

    assert times.start(513, None) == Fraction(13, 1000)
    assert times.length(90) == Fraction(90, 1000)
    assert times.length(None) == Fraction(1, 25)
    exact = Timeline(Fraction(1, 12_800), Fraction(25), Fraction(0))
    assert (exact.rounded, exact.time_base, exact.start(513, None)) == (False, exact.unit, 513 * exact.unit)
    assert exact.start(5, Fraction(1, 10)) == Fraction(1, 2)
