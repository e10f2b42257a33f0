import math

import pytest
from helpers.pages import Page

from fastnst.logs import StepReport
from fastnst.train.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, log_ticks, loss_chart, ticks


def step(number, total, **terms):
    return StepReport(
        number,
        4 * (number + 1),
        **{"content": total, "style": 0.0, "tv": 0.0, **terms},
        total=total,
        lr=1,
        images_per_second=10,
    )


def test_ticks_are_round_numbers_from_zero_to_the_last_step():
    assert ticks(1) == [0, 1]
    assert ticks(59) == [0, 10, 20, 30, 40, 50]
    assert ticks(2000) == [0, 500, 1000, 1500, 2000]


def test_ticks_of_a_logarithm_are_as_many_as_fit():
    assert log_ticks(0.3, 6) == [0.5, 1, 2, 5]
    assert log_ticks(0.01, 100) == [0.01, 0.1, 1, 10, 100]
    assert log_ticks(1e-10, 1e10) == [1e-10, 1e-7, 1e-4, 0.1, 100, 1e5, 1e8]


def curves(reports):
    """Points of each curve in the chart, as fractions of its area from the left and from the top."""
    found = {}
    for line in Page(loss_chart(reports)).all("polyline"):
        points = [tuple(map(float, point.split(","))) for point in line["points"].split()]
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        found[line["class"].split()[1]] = [((x - LEFT) / across, (y - TOP) / down) for x, y in points]
    return found


def test_chart_is_linear_in_steps_and_logarithmic_in_losses():
    points = curves([step(0, 1.0), step(1, 0.1), step(2, 0.01)])["total"]

    assert [x for x, _ in points] == [0, 0.5, 1]
    # Two decades, and a twentieth of 2.1 above and below.
    assert [y for _, y in points] == pytest.approx([0.105 / 2.21, 0.5, 1 - 0.105 / 2.21], abs=1e-3)


def test_chart_leaves_out_what_has_no_logarithm():
    found = curves([step(0, 1.0, style=0.5), step(1, math.nan, style=math.inf), step(2, 0.5, style=0.0)])

    assert {name: len(points) for name, points in found.items()} == {"total": 2, "content": 2, "style": 1}


def test_a_long_run_is_drawn_in_few_points():
    points = curves([step(number, 1.0 + number % 2) for number in range(24_000)])["total"]

    assert len(points) == 240
    assert {round(y, 2) for _, y in points} == {0.5}  # each the mean of ones and twos


def test_nothing_to_draw_is_no_chart():
    assert loss_chart([]) == ""
