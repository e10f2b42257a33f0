import pytest
import torch
from torch import Tensor

from fastnst.descent import descend_lbfgs

SHAPE = (1, 3, 4, 4)
STEEPNESS = torch.logspace(0, 3, 48).view(SHAPE)


def picture(seed: int) -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowl(target: Tensor):
    """A quadratic with its minimum at the target, a thousand times steeper along some pixels than along others."""
    return lambda pixels: (STEEPNESS * (pixels - target) ** 2).sum()


def test_the_start_comes_first_then_one_picture_an_iteration():
    start = picture(0)

    iterates = list(descend_lbfgs(bowl(picture(1)), start, 5))

    assert [iterate.iteration for iterate in iterates] == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(iterates[0].picture, start)
    assert all(iterate.loss == float(bowl(picture(1))(iterate.picture)) for iterate in iterates)


def test_inside_the_range_it_is_the_lbfgs_of_torch():
    target = 0.25 + picture(1) / 2
    pixels = target + (picture(0) - 0.5) / 10
    start = pixels.clone()
    pixels.requires_grad_()
    optimizer = torch.optim.LBFGS([pixels], max_iter=6, max_eval=99, line_search_fn="strong_wolfe", history_size=100)

    def closure():
        optimizer.zero_grad()
        loss = bowl(target)(pixels)
        loss.backward()
        return loss

    optimizer.step(closure)
    *_, last = descend_lbfgs(bowl(target), start, 6)

    torch.testing.assert_close(last.picture, pixels.detach(), rtol=0, atol=1e-6)


def test_the_minimum_of_a_bowl_outside_the_range_is_at_its_border():
    target = picture(1) * 3 - 1  # -1..2

    *_, last = descend_lbfgs(bowl(target), picture(0), 60)

    torch.testing.assert_close(last.picture, target.clamp(0, 1), rtol=0, atol=1e-4)


def test_the_loss_never_rises_and_pixels_stay_in_range():
    iterates = list(descend_lbfgs(bowl(picture(1) * 3 - 1), picture(0), 30))

    losses = [iterate.loss for iterate in iterates]
    assert losses == sorted(losses, reverse=True)
    assert all(iterate.picture.min() >= 0 and iterate.picture.max() <= 1 for iterate in iterates)


def test_evaluations_are_counted_and_none_is_done_twice():
    asked = []

    def objective(pixels):
        asked.append(pixels.detach().clone())
        return bowl(picture(1) * 3 - 1)(pixels)

    for iterate in descend_lbfgs(objective, picture(0), 10):
        assert iterate.evaluations == len(asked)
    assert not any(torch.equal(a, b) for index, a in enumerate(asked) for b in asked[:index])


@pytest.mark.parametrize("start", [picture(1), torch.zeros(SHAPE, dtype=torch.float64)])
def test_it_ends_where_no_step_helps(start):
    target = torch.where(start > 0, start, -torch.ones(SHAPE))

    assert [iterate.iteration for iterate in descend_lbfgs(bowl(target), start, 10)] == [0]
