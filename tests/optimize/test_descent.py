import pytest
import torch
from torch import Tensor

from fastnst.optimize.descent import AdamState, descend_adam, descend_lbfgs

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


def test_adam_is_the_adam_of_torch_with_pixels_clipped():
    target, pixels = picture(1) * 3 - 1, picture(0)
    start = pixels.clone()
    pixels.requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        bowl(target)(pixels).backward()
        optimizer.step()
        pixels.data.clamp_(0, 1)

    iterates = list(descend_adam(bowl(target), start, 20, 0.05))

    assert [iterate.iteration for iterate in iterates] == list(range(21))
    assert iterates[-1].evaluations == 21
    torch.testing.assert_close(iterates[-1].picture, pixels.detach(), rtol=0, atol=0)


def test_adam_goes_on_from_its_state_as_if_never_stopped():
    target, state = picture(1), list[AdamState]()
    *_, whole = descend_adam(bowl(target), picture(0), 12, 0.05)

    *_, half = descend_adam(bowl(target), picture(0), 6, 0.05, state)
    *_, rest = descend_adam(bowl(target), half.picture, 6, 0.05, state)

    torch.testing.assert_close(rest.picture, whole.picture, rtol=0, atol=0)
    assert state[-1].step == 12


def test_adam_moments_of_a_plain_picture_are_plain_at_any_size():
    state = AdamState(3, torch.full((1, 3, 4, 6), 0.25), torch.full((1, 3, 4, 6), 0.5)).resized(9, 7)

    torch.testing.assert_close(state.mean, torch.full((1, 3, 9, 7), 0.25))
    torch.testing.assert_close(state.square, torch.full((1, 3, 9, 7), 0.5))
