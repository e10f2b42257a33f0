import pytest
import torch
from torch import Tensor

from fastnst.losses import LossForm, LossWeights, PerceptualLoss
from fastnst.vgg import VGGFeatures

CONTENT, STYLE = ("relu1_1", "relu2_1"), ("relu1_2", "relu2_1")


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """A style, and four photos as different in contrast as photos are, with as many stylized ones."""
    torch.manual_seed(0)
    contrast = torch.tensor([0.05, 0.3, 0.6, 1.0])[:, None, None, None]
    content = 0.5 + contrast * (torch.rand(4, 3, 32, 32) - 0.5)
    return torch.rand(1, 3, 32, 32), content, torch.rand(4, 3, 32, 32)


def perceptual_loss(form: LossForm, style: Tensor) -> PerceptualLoss:
    weights = LossWeights.resolve(form, content=1.0)
    return PerceptualLoss(VGGFeatures([*CONTENT, *STYLE]), style, weights, form, CONTENT, STYLE)


@pytest.mark.parametrize("form", ["relative", "paper"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_parts_have_the_losses_and_gradients_of_the_whole(batch, form, size):
    style, content, stylized = batch
    loss = perceptual_loss(form, style)
    one, other = stylized.clone().requires_grad_(), stylized.clone().requires_grad_()

    terms = loss(one, content)
    terms.total.backward()
    pieces = list(zip(other.split(size), content.split(size), strict=True))
    energies = sum(loss.energies(loss.targets(photos)) * (len(photos) / 4) for _, photos in pieces)
    found = torch.zeros(3)
    for part, photos in pieces:
        share = loss(part, loss.targets(photos), energies)
        (share.total * (len(photos) / 4)).backward()
        found += torch.stack(list(share)).detach() * (len(photos) / 4)

    torch.testing.assert_close(found, torch.stack(list(terms)).detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5 * float(one.grad.abs().max()))


def test_energies_of_the_batch_itself_change_nothing_but_rounding(batch):
    style, content, stylized = batch
    loss = perceptual_loss("relative", style)

    given = loss(stylized, content, loss.energies(loss.targets(content)))

    assert [float(term) for term in given] == pytest.approx([float(term) for term in loss(stylized, content)], rel=1e-6)


def test_parts_that_know_nothing_of_the_whole_would_have_another_loss(batch):
    style, content, stylized = batch
    loss = perceptual_loss("relative", style)

    mean = sum(float(loss(stylized[i : i + 1], content[i : i + 1]).content) for i in range(4)) / 4

    assert abs(mean / float(loss(stylized, content).content) - 1) > 0.01
