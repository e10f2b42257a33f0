from threading import Barrier, current_thread

import numpy as np
import pytest
import torch

from fastnst.train.lanes import Lanes, lane_count, one_thread
from fastnst.train.run import TrainingRun


@pytest.mark.parametrize(("threads", "each"), [(2, 1), (3, 1), (4, 2), (9, 4)])
def test_results_come_in_order_and_lanes_share_the_threads(threads, each):
    torch.set_num_threads(threads)

    def work(number):
        return number, torch.get_num_threads()

    lanes = Lanes()
    for _ in range(2):
        assert list(lanes.map(work, range(5), 2)) == [(number, each) for number in range(5)]
        assert torch.get_num_threads() == threads


def test_threads_stay_until_an_error_the_end_or_another_number():
    torch.set_num_threads(4)
    lanes = Lanes()

    def threads(count):
        meeting = Barrier(count)

        def work(number):
            meeting.wait(60)
            return current_thread()

        return set(lanes.map(work, range(count), count))

    first = threads(2)
    assert threads(2) == first
    second = threads(3)
    assert len(second) == 3
    assert not any(thread.is_alive() for thread in first)
    with pytest.raises(ZeroDivisionError):
        list(lanes.map(lambda number: 1 / number, range(3), 3))
    assert torch.get_num_threads() == 4
    assert not any(thread.is_alive() for thread in second)
    third = threads(3)
    lanes.close()
    assert not any(thread.is_alive() for thread in third)


def test_an_error_in_a_lane_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(Lanes().map(lambda number: 1 / number, [1, 0, 2], 2))


def test_one_thread_is_for_a_processor_and_for_the_time_being():
    torch.set_num_threads(3)

    with one_thread(torch.device("cuda")):
        assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError), one_thread(torch.device("cpu")):
        1 / (torch.get_num_threads() - 1)
    assert torch.get_num_threads() == 3


def test_weights_move_in_one_thread(configure, output):
    torch.set_num_threads(2)
    run = TrainingRun(configure(output), torch.device("cpu"))
    seen = []
    run.optimizer.register_step_pre_hook(lambda *_: seen.append(torch.get_num_threads()))

    run.step(0, np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))

    assert seen == [1]
    assert torch.get_num_threads() == 2


def test_a_processor_has_a_lane_for_each_thread_and_no_more_than_photographs():
    torch.set_num_threads(3)

    assert [lane_count(torch.device("cpu"), count) for count in (1, 2, 4)] == [1, 2, 3]
    assert lane_count(torch.device("cuda"), 4) == 1


@pytest.mark.parametrize("options", [{}, {"temporal_weight": 5}, {"micro_batch": 2}, {"batch_size": 5}])
def test_lanes_give_the_losses_and_gradients_of_the_batch_and_the_same_each_time(configure, output, options):
    config = configure(output, **{"batch_size": 4, **options})
    contrast = np.array([10, 80, 160, 250, 40])[: config.batch_size, None, None, None]
    pixels = (np.random.default_rng(0).random((config.batch_size, 32, 32, 3)) * contrast).astype(np.uint8)

    def first_step(threads):
        torch.set_num_threads(threads)
        run = TrainingRun(config, torch.device("cpu"))
        values = [value for value in run.step(0, pixels) if value is not None]
        return values, torch.cat([parameter.grad.flatten() for parameter in run.net.parameters()])

    values, whole = first_step(1)
    found, parts = first_step(2)
    again, same = first_step(2)

    assert found == pytest.approx(values, rel=1e-5)
    assert float((parts - whole).norm() / whole.norm()) < 2e-3  # rounding, that instance norm makes more of
    assert found == again
    assert torch.equal(parts, same)
