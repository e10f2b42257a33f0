import copy

import pytest
import torch
from torch import nn

from fastnst.train.optimizer import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(4, 9), (24, 75), (48, 432), (96, 24), (3, 1944), (1, 5)])
def test_orthogonalized_matrices_have_singular_values_near_one_and_the_same_directions(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)

    found = orthogonalized(matrix)

    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    assert float(torch.linalg.svdvals(found).min()) > 0.65
    assert float(torch.linalg.svdvals(found).max()) < 1.25
    product = left.mT @ found @ right.mT  # diagonal where the directions are those of the matrix
    assert float((product - product.diag().diag()).abs().max()) < 1e-3
    assert len(values) == min(shape)


def test_kernels_move_as_those_of_torchs_muon_for_matrices():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(16, 3, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    ours = Muon([kernel], lr=0.02)
    theirs = torch.optim.Muon([matrix], lr=0.02, weight_decay=0, momentum=0.95, nesterov=True, ns_steps=5)

    for _ in range(5):
        gradient = torch.randn(16, 3, 3, 3)
        kernel.grad, matrix.grad = gradient.clone(), gradient.flatten(1).clone()
        ours.step()
        theirs.step()

    moved = kernel.detach().flatten(1)
    assert float((moved - matrix.detach()).norm() / moved.norm()) < 2e-3  # theirs iterates in bfloat16


def test_other_weights_move_as_adam_moves_them_at_a_tenth_of_the_rate():
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    muon, adam = Muon([ours], lr=0.02), torch.optim.Adam([theirs], lr=0.002, betas=(0.9, 0.99))

    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()

    torch.testing.assert_close(ours, theirs)


def test_weights_without_a_gradient_stay():
    weight = nn.Parameter(torch.ones(2, 2, 1, 1))

    Muon([weight], lr=0.1).step()

    assert torch.equal(weight, torch.ones(2, 2, 1, 1))


def test_a_state_that_was_saved_goes_on_alike():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 2, 3, 3)), nn.Parameter(torch.randn(4))]
    others = [nn.Parameter(weight.detach().clone()) for weight in weights]
    optimizer, again = Muon(weights, lr=0.02), Muon(others, lr=0.02)
    gradients = [[torch.randn_like(weight) for weight in weights] for _ in range(4)]

    def steps(some, given, of):
        for step in some:
            for weight, gradient in zip(of, step, strict=True):
                weight.grad = gradient
            given.step()

    steps(gradients[:2], optimizer, weights)
    for weight, other in zip(weights, others, strict=True):
        other.data.copy_(weight)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(gradients[2:], optimizer, weights)
    steps(gradients[2:], again, others)

    assert all(torch.equal(weight, other) for weight, other in zip(weights, others, strict=True))
