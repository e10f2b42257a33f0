import numpy as np
import pytest
import torch

from fastnst.train.grams import HORIZON, SHARE, RecentGrams, picture_share
from fastnst.train.resume import capture, restore
from fastnst.train.run import TrainingRun


def gram(value: float) -> dict[str, torch.Tensor]:
    return {"relu1_2": torch.full((1, 2, 2), value)}


def test_the_first_pictures_are_the_mean_and_later_ones_move_it_by_their_share():
    recent = RecentGrams()
    assert recent.means == {}

    recent.add(gram(1.0), 4)
    assert torch.equal(recent.means["relu1_2"], gram(1.0)["relu1_2"])

    recent.add(gram(2.0), 4)
    torch.testing.assert_close(recent.means["relu1_2"], gram(1 + 4 / HORIZON)["relu1_2"])

    recent.add(gram(5.0), 10 * HORIZON)
    assert torch.equal(recent.means["relu1_2"], gram(5.0)["relu1_2"])


def test_the_share_of_a_picture_falls_over_the_first_half_of_a_run():
    assert [picture_share(done) for done in (0, 0.25, 0.5, 0.75, 1)] == [1, (1 + SHARE) / 2, SHARE, SHARE, SHARE]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_training_keeps_the_mean_gram_matrices_of_its_batches_and_a_state_has_them(configure, output, pixels):
    run = TrainingRun(configure(output, batch_size=4), torch.device("cpu"))
    run.step(0, pixels)

    other = TrainingRun(configure(output, batch_size=4), torch.device("cpu"))
    restore(other, capture(run, 1))

    assert set(run.grams.means) == set(run.loss.style_layers)
    assert all(torch.equal(other.grams.means[name], mean) for name, mean in run.grams.means.items())
    assert other.step(1, pixels) == run.step(1, pixels)
    assert all(torch.equal(other.grams.means[name], mean) for name, mean in run.grams.means.items())


def test_parts_of_a_batch_give_the_mean_gram_matrices_of_the_whole(configure, output, pixels):
    def first_step(**options):
        run = TrainingRun(configure(output, batch_size=4, **options), torch.device("cpu"))
        run.step(0, pixels)
        return run.grams.means

    whole, parts = first_step(), first_step(micro_batch=1)

    for name, mean in whole.items():
        torch.testing.assert_close(parts[name], mean, rtol=1e-3, atol=1e-4 * float(mean.abs().max()))


def test_the_loss_of_the_paper_asks_every_picture_for_the_whole_style(configure, output, pixels):
    run = TrainingRun(configure(output, batch_size=4, loss="paper"), torch.device("cpu"))
    run.step(0, pixels)

    assert run.grams.means == {}
