import numpy as np

from fastnst.finetune.classes import split


def test_split_holds_out_the_rounded_share_of_each_class_and_leaves_two():
    labels = [0] * 10 + [1] * 5 + [2] * 4

    for share, counts in ((0.2, (2, 1, 1)), (0.5, (5, 3, 2)), (0.9, (8, 3, 2)), (0.01, (1, 1, 1))):
        training, held_out = split(labels, share, seed=0)

        assert tuple(np.bincount([labels[index] for index in held_out])) == counts
        assert sorted(training + held_out) == list(range(19))


def test_split_depends_on_the_seed_alone():
    labels = [0, 1] * 10

    assert split(labels, 0.2, seed=0) == split(labels, 0.2, seed=0)
    assert split(labels, 0.2, seed=0)[1] == [3, 8, 12, 19]
    assert len({tuple(split(labels, 0.2, seed)[1]) for seed in range(10)}) > 5
