from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastnst.errors import UsageError
from fastnst.nets.spec import PRESETS, Layer, NetConfig
from fastnst.nets.torch_net import InstanceNorm, TransformerNet, UpConvolution, deband

NARROW = NetConfig(channels=(4, 6, 8), blocks=1)


@pytest.mark.parametrize("size", [(16, 16), (17, 19), (18, 127), (16, 97), (33, 128), (101, 53), (64, 64), (67, 22)])
def test_any_size_comes_back_the_same(size):
    content = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))

    assert TransformerNet(NARROW)(content).shape == content.shape


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_take_odd_sizes(preset):
    assert TransformerNet(PRESETS[preset])(torch.rand(1, 3, 19, 21)).shape == (1, 3, 19, 21)


def test_base_has_the_parameters_of_the_paper_without_redundant_biases():
    convolutions = 9 * 9 * 3 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 10 * 9 * 128 * 128 + 9 * 128 * 64 + 9 * 64 * 32
    norms = 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)
    paint = 9 * 9 * 32 * 3 + 3

    count = sum(parameter.numel() for parameter in TransformerNet(PRESETS["base"]).parameters())

    assert count == convolutions + norms + paint
    # 1,679,235 is the widely used implementation, where 1,600 biases stand before a norm that subtracts them again.
    assert count == 1_679_235 - 1_600


@pytest.mark.parametrize("value", [-50.0, 50.0])
def test_output_goes_a_little_beyond_black_and_white_and_no_further(value):
    net = TransformerNet(NARROW)
    torch.nn.init.constant_(net.paint.bias, value)

    stylized = net(torch.rand(1, 3, 32, 32))

    torch.testing.assert_close(stylized, torch.full_like(stylized, 0.5 + 0.59 * (value / 50)))


def test_random_network_stays_within_its_range():
    stylized = TransformerNet(NARROW)(torch.rand(2, 3, 40, 40) * 10 - 5).detach()

    assert float((stylized - 0.5).abs().max()) <= 0.59 + 1e-6


@pytest.mark.parametrize("margin", [7, 24])
def test_a_margin_is_painted_and_cut_off_but_in_training(margin):
    torch.manual_seed(0)
    net = TransformerNet(replace(NARROW, margin=margin))
    content = torch.rand(1, 3, 40, 33)

    trained, painted = net(content), net.eval()(content)

    plain = TransformerNet(NARROW)
    plain.load_state_dict(net.state_dict())
    around = F.pad(content, [margin] * 4, mode="reflect") if margin < 16 else mirrored_twice(content, 15, margin - 15)
    torch.testing.assert_close(painted, plain(around)[..., margin : margin + 40, margin : margin + 33])
    torch.testing.assert_close(trained, plain(content))


def mirrored_twice(content, first, second):
    """What lies beyond the first mirror is mirrored by a second one, as numpy does it."""
    array = content.numpy()
    for side in (first, second):
        array = np.pad(array, ((0, 0), (0, 0), (side, side), (side, side)), mode="reflect")
    return torch.from_numpy(array)


@pytest.mark.parametrize(("margin", "padding"), [(-1, "reflect"), (129, "reflect"), (8, "same")])
def test_margins_that_a_network_cannot_have(margin, padding):
    with pytest.raises(UsageError, match="margin"):
        NetConfig(margin=margin, padding=padding)


def test_pictures_of_a_batch_do_not_influence_each_other():
    net = TransformerNet(NARROW)
    content = torch.rand(3, 3, 24, 28, generator=torch.Generator().manual_seed(0))

    together = net(content)

    alone = torch.cat([net(picture[None]) for picture in content])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)  # convolutions may sum in another order


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
def test_upconvolution_is_bilinear_upsampling_and_a_convolution(kernel):
    torch.manual_seed(0)
    layer = UpConvolution(Layer("up", 3, 4, kernel, upsample="bilinear", biased=True)).double()
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64)

    edge = kernel  # repeated before upsampling, more than enough
    upsampled = F.interpolate(F.pad(x, [edge] * 4, mode="replicate"), scale_factor=2.0, mode="bilinear")
    expected = F.conv2d(upsampled, layer.weight, layer.bias)
    surplus = 2 * edge - kernel // 2
    expected = expected[..., surplus : surplus + 18, surplus : surplus + 22]
    torch.testing.assert_close(layer(x), expected)


def test_upconvolution_makes_no_stripes_of_a_ramp():
    layer = UpConvolution(Layer("up", 1, 1, 3, upsample="bilinear"))
    ramp = torch.arange(12.0).repeat(12, 1)[None, None]

    steps = layer(ramp)[0, 0, :, 4:-4].diff(dim=1)

    torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps))


def test_steps_of_eight_bits_are_evened_out():
    ramp = torch.linspace(80, 90, 200).expand(1, 3, 32, 200)

    evened = deband(ramp.round() / 255) * 255

    assert float((evened - ramp)[..., 17:-17].abs().max()) < 0.1
    assert float((ramp.round() - ramp).abs().max()) > 0.49


def test_what_can_be_seen_is_hardly_touched():
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))

    assert float((deband(image) - image).abs().max()) <= 2 / 255 + 1e-6
    torch.testing.assert_close(deband(image * 0 + 0.3), image * 0 + 0.3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_and_its_gradients_are_those_of_torch(layout):
    torch.manual_seed(0)
    layer = InstanceNorm(5)
    torch.nn.init.uniform_(layer.weight, 0.5, 2)
    torch.nn.init.normal_(layer.bias)
    x = (torch.randn(3, 5, 12, 14) * 4 + 7).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn(3, 5, 12, 14)

    ours = [*torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), upstream), layer(x)]

    def plain(x, weight, bias):
        return F.instance_norm(x.double(), weight=weight.double(), bias=bias.double())

    result = plain(x, layer.weight, layer.bias)
    exact = [*torch.autograd.grad(result, (x, layer.weight, layer.bias), upstream.double()), result]
    for value, known in zip(ours, exact, strict=True):
        torch.testing.assert_close(value.double(), known.double(), rtol=1e-5, atol=2e-5)


def test_seed_decides_the_initial_weights():
    def weights(seed: int) -> list[bytes]:
        torch.manual_seed(seed)
        return [tensor.numpy().tobytes() for tensor in TransformerNet(NARROW).state_dict().values()]

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


def test_every_parameter_gets_a_gradient():
    net = TransformerNet(NARROW)

    net(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()

    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in net.parameters())


def test_config_survives_its_json():
    assert NetConfig(**NARROW.to_json()) == NARROW


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": ()},
        {"channels": (0, 8, 8)},
        {"channels": (8, 8, 8, 8), "stride": 2},
        {"channels": (8, 8, 8, 8, 8)},
        {"stride": 3},
        {"blocks": -1},
        {"kernels": (4, 9)},
        {"kernels": (9, 17)},
        {"kernels": (9,)},
        {"gain": 0},
    ],
)
def test_impossible_network_is_a_usage_error(wrong):
    with pytest.raises(UsageError, match="needs positive widths"):
        NetConfig(**wrong)
