import threading
import time
from itertools import count

import pytest

from fastnst.ahead import each_ahead, prepare_ahead, read_ahead


def slow_where_even(number):
    time.sleep(0.02 * (number % 2 == 0))
    return 10 * number


def fail_at(number):
    if number == 3:
        raise ValueError("three")
    return number


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")}


def test_results_come_in_order_whatever_each_takes():
    assert list(each_ahead(slow_where_even, range(9), 3, 4)) == [10 * number for number in range(9)]


def test_batches_stay_together_and_may_differ_in_size():
    batches = [[0, 1, 2], [], [3], [4, 5]]

    assert list(prepare_ahead(slow_where_even, batches, 2)) == [[0, 10, 20], [], [30], [40, 50]]


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_no_more_than_the_limit_is_begun(limit):
    begun = []

    for done, _ in enumerate(each_ahead(begun.append, range(20), 2, limit), start=1):
        assert len(begun) <= done + limit

    assert sorted(begun) == list(range(20))


def test_items_are_drawn_in_the_thread_of_the_reader():
    def items():
        for _ in range(5):
            yield threading.current_thread()

    given = list(each_ahead(lambda thread: (thread, threading.current_thread()), items(), 1, 2))

    assert all(drawn is threading.current_thread() is not made for drawn, made in given)


def test_an_error_comes_in_its_turn_and_ends_the_threads():
    results = each_ahead(fail_at, range(9), 3, 4)

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert threads() == set()


def test_an_error_of_the_items_ends_the_threads():
    with pytest.raises(ZeroDivisionError):
        list(each_ahead(slow_where_even, (1 // number for number in (1, 0)), 2, 3))
    assert threads() == set()


@pytest.mark.parametrize(("finish", "expected"), [(False, [0, 1]), (True, [0, 1, 2])])
def test_a_reader_that_stops_has_what_waits_dropped_or_finished(finish, expected):
    made: list[int] = []
    at_work, gate = threading.Event(), threading.Event()

    def work(number):
        if number == 1:
            at_work.set()
            gate.wait(5)
        made.append(number)

    results = each_ahead(work, range(9), 1, 3, finish=finish)
    next(results)
    assert at_work.wait(5)
    threading.Timer(0.1, gate.set).start()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)

    assert made == expected
    assert threads() == set()


def test_items_are_read_by_a_thread_in_order():
    readers = set()

    def items():
        for number in range(7):
            readers.add(threading.current_thread())
            yield number

    assert list(read_ahead(items(), 3)) == list(range(7))
    assert len(readers) == 1
    assert readers != {threading.current_thread()}
    assert threads() == set()


def test_what_is_read_may_be_endless_and_hold_nothing():
    assert list(read_ahead([None, None], 4)) == [None, None]

    endless = read_ahead(count(), 4)

    assert [next(endless) for _ in range(3)] == [0, 1, 2]
    endless.close()
    assert threads() == set()


def test_an_error_while_reading_comes_after_what_was_read():
    def items():
        yield 1
        yield 2
        raise OSError("unreadable")

    read = read_ahead(items(), 5)

    assert [next(read), next(read)] == [1, 2]
    with pytest.raises(OSError, match="unreadable"):
        next(read)
