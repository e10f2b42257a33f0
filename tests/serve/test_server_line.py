import asyncio
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastnst.engine import Stop
from fastnst.serve.line import Lane, Line
from fastnst.serve.problems import BusyError, DrainingError

PLACES = 3

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # not in the checkout


class Requests(RuleBasedStateMachine):
    """Requests that come, are painted, fail, leave and are drained, in any order, on a line and a lane."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.line, self.lane = Line(queue=PLACES - 1), Lane()
        self.going = {}  # task -> what lets its painting end, and how
        self.drained = False

    def step(self):
        """Let the tasks go on until nothing changes."""
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))

    async def request(self, gate, fails):
        def paint(stop: Stop):
            with stop.ending(gate.set):
                gate.wait()
            if fails:
                raise ValueError("a picture that cannot be painted")

        with self.line.place():
            await self.lane.run(paint)

    @rule(fails=st.booleans())
    def submit(self, fails):
        gate = threading.Event()
        task = self.loop.create_task(self.request(gate, fails))
        self.step()
        if self.drained or len(self.going) == PLACES:
            assert type(task.exception()) is (DrainingError if self.drained else BusyError)
        else:
            assert not task.done()
            self.going[task] = gate

    @precondition(lambda self: self.going)
    @rule(number=st.integers(0, PLACES))
    def finish(self, number):
        """The first in the line ends only when it is its turn; whoever is behind it only after it."""
        task = list(self.going)[number % len(self.going)]
        for before in list(self.going):
            self.going.pop(before).set()
            self.loop.run_until_complete(asyncio.wait([before]))
            assert before.exception() is None or type(before.exception()) is ValueError
            if before is task:
                break

    @precondition(lambda self: self.going)
    @rule(number=st.integers(0, PLACES))
    def leave(self, number):
        task = list(self.going)[number % len(self.going)]
        del self.going[task]
        task.cancel()
        self.step()
        assert task.cancelled()

    @rule()
    def drain(self):
        self.line.drain()
        self.drained = True

    @invariant()
    def a_place_is_taken_for_each(self):
        assert self.line.taken == len(self.going)
        assert 1 <= self.line.retry_after <= 60

    def teardown(self):
        for task in self.going:
            task.cancel()
        self.step()
        assert self.line.taken == 0
        self.loop.run_until_complete(asyncio.wait_for(self.line.empty(), 1))
        self.lane.close()
        self.lane._thread.shutdown()  # whatever was painted has been stopped, or this would not end
        assert self.lane.busy == 0
        self.loop.close()


Requests.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None, database=None)
TestRequests = Requests.TestCase


@settings(deadline=None, database=None)
@given(st.lists(st.floats(0, 1000), max_size=30))
def test_when_to_try_again_is_some_seconds_whatever_paintings_took(durations):
    now = 0.0
    line = Line(queue=0, clock=lambda: now)
    for seconds in durations:
        with line.place():
            now += seconds

    assert 1 <= line.retry_after <= 60


def test_pictures_are_painted_in_the_order_in_which_they_come():
    async def run():
        lane, order = Lane(), []
        await asyncio.gather(*(lane.run(lambda _, n=n: order.append(n)) for n in range(10)))
        lane.close()
        return order

    assert asyncio.run(run()) == list(range(10))


def test_a_lane_that_is_closed_stops_what_runs():
    async def run():
        lane = Lane()
        stopped = threading.Event()

        def paint(stop):
            with stop.ending(stopped.set):
                assert stopped.wait(30)

        painting = asyncio.create_task(lane.run(paint))
        await asyncio.sleep(0)
        lane.close()
        await painting

    asyncio.run(run())


def test_a_line_says_when_it_is_full():
    line = Line(queue=1)
    with line.place(), line.place(), pytest.raises(BusyError) as caught, line.place():
        pass
    assert caught.value.headers == {"Retry-After": "1"}
