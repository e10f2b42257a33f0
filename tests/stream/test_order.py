import numpy as np
import pytest

from fastnst.stream.order import CHUNKS, Order

LENGTH = 1000  # bytes of a photo


def order_of(tars: list[int], window: int = 50, seed: int = 0, photos: list[int] | None = None) -> Order:
    """The order of so many photos in each tar, all of one length; windows of about so many photos."""
    numbers = np.repeat(np.arange(len(tars)), tars)
    starts = np.concatenate([np.arange(count) * LENGTH for count in tars])
    trained = np.arange(sum(tars)) if photos is None else np.array(photos)
    return Order(trained, numbers, starts, np.full(sum(tars), LENGTH), window * LENGTH, seed)


def epoch_of(order: Order, epoch: int = 0) -> list[int]:
    count = len(order.photos)
    return [order.at(epoch * count + place) for place in range(count)]


@pytest.mark.parametrize("tars", [[1], [7], [100, 0, 3, 40], [1] * 60, [500]])
@pytest.mark.parametrize("window", [1, 50, 10_000])
def test_each_epoch_has_every_photo_once(tars, window):
    order = order_of(tars, window)

    assert [sorted(epoch_of(order, epoch)) for epoch in (0, 1, 5)] == [list(range(sum(tars)))] * 3


def test_epochs_and_seeds_have_orders_of_their_own():
    epochs = [epoch_of(order_of([100, 50], seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]

    assert all(one != other for index, one in enumerate(epochs) for other in epochs[:index])


def test_a_position_has_its_photo_whatever_was_asked_before():
    forward = order_of([100, 0, 50, 70])
    backward = order_of([100, 0, 50, 70])
    places = np.random.default_rng(0).permutation(660).tolist()

    found = {place: backward.at(place) for place in places}

    assert [found[place] for place in range(660)] == [forward.at(place) for place in range(660)]


def test_photos_that_are_held_out_never_come():
    trained = [number for number in range(150) if number % 10]

    assert sorted(epoch_of(order_of([100, 50], photos=trained))) == trained


def test_windows_follow_one_another_and_hold_about_as_much_as_they_may():
    order = order_of([1000, 1, 700], window=64)  # chunks of 2 photos
    windows, position = [], 0
    while position < 2 * 1701:
        windows.append(order.window_at(position))
        assert windows[-1].first == position
        position = windows[-1].stop

    sizes = [len(window.photos) for window in windows]
    assert position == 2 * 1701
    assert max(sizes) <= 64 + 2
    assert np.mean(sizes) > 60


def test_one_tar_in_the_order_of_its_classes_is_shuffled_all_over():
    count, window = 20_000, 1280
    order = order_of([count], window)  # chunks of 40 photos, 32 of them in a window
    photos = np.array(epoch_of(order))
    first = photos[:window]

    # Of 32 chunks out of 500 the mean lies within 4 standard errors of the middle, 0.289 * 20,000 / sqrt(32) each.
    assert abs(first.mean() - count / 2) < 4 * 0.289 * count / np.sqrt(CHUNKS)
    # Photos next to each other are from one chunk as often as chance has it: 39 of the 1279 others.
    assert np.mean(np.diff(photos // 40) == 0) == pytest.approx(39 / 1279, abs=0.01)
    # And within the window all places are equally likely: the first half has as many of each chunk as the second.
    assert abs(np.corrcoef(np.arange(window), first % 40)[0, 1]) < 4 / np.sqrt(window)
    assert abs(np.corrcoef(np.arange(count), photos)[0, 1]) < 4 / np.sqrt(count / 40)


def test_what_fits_into_one_window_is_shuffled_without_limits():
    counts = np.zeros((10, 10))
    for seed in range(2000):
        counts[np.arange(10), epoch_of(order_of([6, 4], 100, seed))] += 1

    # Each photo stands at each place 200 times, with a standard deviation of sqrt(2000 * 0.1 * 0.9) = 13.
    assert np.abs(counts - 200).max() < 5 * 13.4
