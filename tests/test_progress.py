import re

import pytest

from fastnst.progress import PLAIN_EVERY, Pace, Progress, clock


class Clock:
    """Seconds that pass when told so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def left_after(done, durations):
    """Seconds the pace after so many pieces foretells for the rest, and those it then takes."""
    time = Clock()
    pace = Pace(time)
    for duration in durations[:done]:
        time.now += duration
        rate = pace.tick()
    return (len(durations) - done) / rate, sum(durations[done:])


def steady(count=2000):
    return [1.0] * count


def slow_start(count=2000):
    return [60.0, 8.0, 3.0, 2.0, 1.5, *steady(count - 5)]


def with_saves(every, cost):
    return [second + cost * (step > 0 and step % every == 0) for step, second in enumerate(slow_start())]


def noisy():
    return [second * (0.85 + 0.3 * (step * 7919 % 101) / 101) for step, second in enumerate(slow_start())]


@pytest.mark.parametrize("done", [20, 21, 33, 50, 100, 199, 200, 201, 500, 1500])
@pytest.mark.parametrize(
    "durations",
    [
        steady(),
        slow_start(),
        with_saves(200, 3.0),
        with_saves(50, 2.0),
        with_saves(5, 1.0),
        with_saves(1, 4.0),
        noisy(),
    ],
    ids=["steady", "slow start", "default saves", "saves", "frequent saves", "saves each step", "noise"],
)
def test_time_left_is_foretold_within_a_tenth_from_20_steps_on(durations, done):
    foretold, taken = left_after(done, durations)

    assert foretold == pytest.approx(taken, rel=0.1)


def test_pace_follows_a_change_of_speed_within_100_pieces():
    foretold, taken = left_after(600, [1.0] * 500 + [3.0] * 500)

    assert foretold == pytest.approx(taken)


def test_time_that_is_skipped_belongs_to_no_piece():
    time = Clock()
    pace = Pace(time)
    for _ in range(20):
        time.now += 7.0
        pace.skip()
        time.now += 0.5
        rate = pace.tick()

    assert rate == pytest.approx(2.0)


def test_pieces_that_come_at_once_make_no_pace_of_their_own():
    time = Clock()
    pace = Pace(time)
    time.now += 6.0
    for _ in range(3):
        rate = pace.tick()

    assert rate == pytest.approx(0.5)


def test_plain_lines_tell_count_note_rate_and_time_left(capsys, monkeypatch):
    with Progress("training", 500, "step") as progress:
        progress.spoken -= PLAIN_EVERY  # the last line is that old
        progress.at(100, "total 0.5", rate=2.0)
        progress.advance("said too soon", rate=2.0)

    assert capsys.readouterr().err == "training step 100/500, total 0.5, 2.00 steps/s, 3:20 left\n"


def test_the_last_piece_is_always_told_unless_quiet(capsys):
    for quiet in (False, True):
        with Progress("painting", 2, "picture", quiet=quiet) as progress:
            progress.advance()
            progress.advance()

    line = capsys.readouterr().err
    assert re.fullmatch(r"painting picture 2/2, [\d.]+ pictures/s, 0:00 left\n", line)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (200, "3:20"), (3600, "1:00:00")])
def test_clock_writes_minutes_and_after_an_hour_hours(seconds, text):
    assert clock(seconds) == text
