import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst import winograd
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.vgg import VGGFeatures

SIZES = [(1, 4, 4), (1, 13, 24), (2, 23, 31), (3, 16, 8), (1, 2, 1)]


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).norm() / b.detach().norm())


@pytest.mark.parametrize(("number", "height", "width"), SIZES)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_is_torchs_convolution_in_float64_and_so_are_its_gradients(number, height, width, layout):
    exact = drawn(number, 20, height + 2, width + 2), drawn(30, 20, 3, 3), drawn(30)
    single = [value.float().requires_grad_() for value in exact]
    for value in exact:
        value.requires_grad_()

    output = winograd.conv2d(single[0].contiguous(memory_format=layout), *single[1:])
    expected = F.conv2d(*exact)
    gradient = drawn(*expected.shape)

    assert output.shape == expected.shape
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert relative(output, expected) < 4e-6
    found = torch.autograd.grad(output, single, gradient.float())
    for mine, theirs in zip(found, torch.autograd.grad(expected, exact, gradient), strict=True):
        assert mine.shape == theirs.shape
        assert relative(mine, theirs) < 4e-6


def test_a_kernel_of_one_tap_moves_the_picture():
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[0, 0, 0, 2] = 2
    picture = torch.arange(100.0).view(1, 1, 10, 10)

    moved = winograd.conv2d(picture, kernel, torch.tensor([0.5]))

    torch.testing.assert_close(moved, 2 * picture[:, :, :8, 2:] + 0.5, rtol=1e-5, atol=1e-4)


def test_in_chunks_it_is_what_it_is_at_once(monkeypatch):
    x, weight = drawn(2, 8, 30, 22).float().requires_grad_(), drawn(4, 8, 3, 3).float().requires_grad_()

    def found():
        output = winograd.conv2d(x, weight, None)
        return output, *torch.autograd.grad(output.square().sum(), (x, weight))

    whole = found()
    monkeypatch.setattr(winograd, "CACHE", 1)
    for part, all_of_it in zip(found(), whole, strict=True):
        assert relative(part, all_of_it) < 4e-6  # products of other sizes may be summed in another order


def test_kernels_transformed_before_are_used_and_only_wanted_gradients_computed():
    x, weight = drawn(1, 8, 10, 10).float().requires_grad_(), drawn(4, 8, 3, 3).float()

    output = winograd.conv2d(x, weight, None, 3 * winograd.transform(weight))

    assert relative(output, 3 * F.conv2d(x, weight)) < 4e-6
    output.sum().backward()
    assert x.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize(
    ("shape", "kernels", "dtype", "fast"),
    [
        ((1, 64, 34, 34), (64, 64, 3, 3), torch.float32, True),
        ((1, 64, 34, 34), (64, 64, 5, 5), torch.float32, False),
        ((1, 64, 34, 34), (12, 64, 3, 3), torch.float32, False),  # few channels
        ((1, 3, 34, 34), (64, 3, 3, 3), torch.float32, False),
        ((1, 64, 7, 7), (64, 64, 3, 3), torch.float32, False),  # 5x5 pixels are 2x2 tiles of 16
        ((1, 64, 34, 34), (64, 64, 3, 3), torch.float64, False),
        ((1, 64, 34, 34), (64, 64, 3, 3), torch.bfloat16, False),
    ],
)
def test_where_it_is_faster(shape, kernels, dtype, fast):
    x, weight = torch.empty(shape, dtype=dtype), torch.empty(kernels, dtype=dtype)

    assert winograd.applies(x, weight) is fast
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.applies(x, weight)


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_the_loss_network_computes_what_it_does_without(padding, monkeypatch):
    network = VGGFeatures(["relu2_2", "relu4_3"], padding=padding)
    pictures = torch.rand(2, 3, 72, 53, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def found():
        features = network(pictures)
        (gradient,) = torch.autograd.grad(features["relu4_3"].square().mean(), pictures)
        return [*features.values(), gradient]

    fast = found()
    monkeypatch.setattr(winograd, "FEWEST", 1 << 20)
    plain = found()

    for mine, theirs, bar in zip(fast, plain, [1e-5, 1e-5, 5e-3], strict=True):  # where a ReLU opens is a step
        assert 0 < relative(mine, theirs) < bar


def test_the_loss_network_takes_weights_that_change():
    network = VGGFeatures(["relu2_1"])
    pictures = torch.rand(1, 3, 32, 32)
    before = network(pictures)["relu2_1"]
    convolution = [module for module in network.body if isinstance(module, nn.Conv2d)][-1]

    with torch.no_grad():
        convolution.weight.mul_(2)
        convolution.bias.mul_(2)

    torch.testing.assert_close(network(pictures)["relu2_1"], 2 * before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("preset", ["base", "fast"])
def test_a_network_paints_and_learns_what_it_does_without(preset, monkeypatch):
    torch.manual_seed(0)
    net = TransformerNet(PRESETS[preset])
    content = torch.rand(2, 3, 96, 64)

    def found():
        stylized = net(content)
        return [stylized, *torch.autograd.grad(stylized.square().mean(), list(net.parameters()))]

    fast = found()
    monkeypatch.setattr(winograd, "FEWEST", 1 << 20)
    plain = found()

    assert 0 < relative(fast[0], plain[0]) < 1e-4
    flat = [torch.cat([gradient.flatten() for gradient in each[1:]]) for each in (fast, plain)]
    assert 0 < relative(*flat) < 5e-3
