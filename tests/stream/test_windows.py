import threading

import numpy as np
import pytest

from fastnst.errors import InputError, StorageError
from fastnst.stream.order import Order
from fastnst.stream.windows import Windows

COUNT, LENGTH = 600, 1000
TAR = bytes(np.random.default_rng(0).integers(0, 256, COUNT * LENGTH, dtype=np.uint8))


class Store:
    """A tar of 600 photos of 1000 bytes, which counts what is read of it."""

    def __init__(self, data: bytes = TAR) -> None:
        self.data, self.requests, self.lock = data, 0, threading.Lock()
        self.read_bytes = 0

    def read(self, place: str, start: int, length: int) -> bytes:
        with self.lock:
            self.requests += 1
            self.read_bytes += length
        return self.data[start : start + length]

    def windows(self, start: int, stop: int, every: int = 1, window: int = 128 * LENGTH) -> Windows:
        starts = np.arange(COUNT) * LENGTH
        order = Order(np.arange(COUNT), np.zeros(COUNT, int), starts, np.full(COUNT, LENGTH), window, 0)
        self.order = order
        return Windows(
            order,
            lambda photo: ("a.tar", photo * LENGTH, LENGTH),
            self.read,
            start,
            stop,
            lambda position: position % every == 0,
        )

    def photo_at(self, position: int) -> bytes:
        photo = self.order.at(position)
        return TAR[photo * LENGTH : (photo + 1) * LENGTH]


def test_every_position_gets_its_photo_in_few_requests_of_what_is_needed():
    store = Store()
    with store.windows(0, 2 * COUNT) as windows:
        assert all(windows.take(position) == store.photo_at(position) for position in range(2 * COUNT))

    assert store.read_bytes == 2 * COUNT * LENGTH
    assert store.requests == 2 * store.order.chunks == 2 * COUNT // 4


def test_a_run_that_is_resumed_reads_nothing_of_what_was():
    store = Store()
    with store.windows(1000, 1100) as windows:
        assert windows.take(1050) == store.photo_at(1050)
        assert windows.take(1000) == store.photo_at(1000)

    assert store.read_bytes <= 100 * (LENGTH + 3 * LENGTH)  # no gaps beyond a chunk of four


def test_of_several_processes_each_keeps_only_its_own_photos():
    store = Store()
    with store.windows(0, COUNT, every=4, window=1 << 30) as windows:
        windows.take(0)

        assert set(windows.begun) == set(range(4, COUNT, 4))


def test_no_more_than_two_windows_and_what_is_left_of_another_are_in_memory():
    store = Store()
    most = 0
    with store.windows(0, 3 * COUNT, window=100 * LENGTH) as windows:
        for position in range(3 * COUNT):
            windows.take(position)
            most = max(most, len(windows.begun))

    assert most <= 2 * (100 + 4)


def test_a_tar_that_is_gone_or_shorter_than_it_was_stops_the_run_and_is_no_damaged_picture():
    def gone(place: str, start: int, length: int) -> bytes:
        raise InputError(f"{place} is not there; check the name")

    with Store().windows(0, COUNT) as windows:
        windows.read = gone
        with pytest.raises(StorageError, match=r"a\.tar is not there; .* to be read"):
            windows.take(0)
    with Store(TAR[:1000]).windows(0, COUNT) as windows, pytest.raises(StorageError, match="became shorter"):
        list(map(windows.take, range(COUNT)))
