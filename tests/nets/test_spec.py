"""Folded layers against the operations they stand for, and the heights that tiles are cut by."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastnst.errors import UsageError
from fastnst.nets.spec import PRESETS, Layer, NetConfig, layers
from fastnst.nets.torch_net import TransformerNet

OTHERS = NetConfig(
    channels=(4, 6, 8), blocks=1, upsample="transposed", padding="same", even_out=False, center=0, last_norm=True
)


def run(layer, x, weight):
    """The layer as its docstring says it is computed, in torch."""
    before, behind = layer.pads
    modes = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}
    y = F.conv2d(
        F.pad(x, [before, behind] * 2, mode=modes[layer.border]),
        torch.from_numpy(layer.subpixel_kernel(weight.numpy())),
        stride=layer.stride,
    )
    y = y if layer.upsample is None else F.pixel_shuffle(y, 2)
    return y[..., 1:-1, 1:-1] if layer.shifted else y


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("height", [16, 17, 22, 31])
@pytest.mark.parametrize("config", [*PRESETS.values(), OTHERS], ids=[*PRESETS, "others"])
def test_layers_have_the_shapes_of_the_network(config, height):
    net = TransformerNet(config)
    shapes = {}
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):

            def note(_, given, made, name=name):
                shapes[name] = given[0].shape, made.shape

            module.register_forward_hook(note)
    with torch.inference_mode():
        net(torch.rand(1, 3, height, 40))

    found = list(layers(config))

    assert [layer.name for layer in found] == list(shapes)
    for layer in found:
        given, made = shapes[layer.name]
        assert (layer.inputs, layer.outputs) == (given[1], made[1])
        assert [layer.output_side(side) for side in given[2:]] == list(made[2:])
        assert net.state_dict()[layer.weight].shape == (layer.outputs, layer.inputs, layer.learned, layer.learned)


def test_nearest_upsampling_and_a_convolution_are_one_layer():
    layer = Layer("up", 2, 3, 3, upsample="nearest")
    x, weight = random(1, 2, 7, 9), random(3, 2, 3, 3)

    expected = F.conv2d(F.pad(F.interpolate(x, scale_factor=2), [1] * 4, mode="reflect"), weight)

    assert layer.applied == 2
    torch.testing.assert_close(run(layer, x, weight), expected)


def test_a_transposed_convolution_is_one_layer():
    layer = Layer("up", 2, 3, 3, upsample="transposed")
    x, weight = random(1, 2, 7, 9), random(3, 2, 3, 3)

    expected = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2, padding=1, output_padding=1)

    torch.testing.assert_close(run(layer, x, weight), expected)


def test_tensorflow_crops_a_transposed_convolution_at_the_end():
    layer = Layer("up", 2, 3, 3, upsample="transposed", same=True)
    x, weight = random(1, 2, 7, 9), random(3, 2, 3, 3)

    expected = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)[..., :-1, :-1]

    torch.testing.assert_close(run(layer, x, weight), expected)


def test_tensorflow_pads_an_even_size_at_the_end_alone():
    layer = Layer("down", 2, 3, 3, stride=2, same=True)
    x, weight = random(1, 2, 8, 6), random(3, 2, 3, 3)

    torch.testing.assert_close(run(layer, x, weight), F.conv2d(F.pad(x, [0, 1, 0, 1]), weight, stride=2))


@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_folded_kernels_keep_their_sum(kernel):
    layer = Layer("up", 2, 3, kernel, upsample="bilinear")
    weight = np.random.default_rng(0).random((3, 2, kernel, kernel), np.float32)

    folded = layer.subpixel_kernel(weight).reshape(3, 4, 2, -1).sum(-1)

    np.testing.assert_allclose(folded, np.broadcast_to(weight.sum((2, 3))[:, None], folded.shape), rtol=1e-5)


def test_sizes_that_are_no_multiple_pass_a_network_with_zeros_around_its_layers():
    net = TransformerNet(OTHERS).eval()

    with torch.inference_mode():
        assert net(torch.rand(1, 3, 21, 30)).shape == (1, 3, 21, 30)


def test_zeros_and_a_first_stride_of_two_do_not_go_together():
    with pytest.raises(UsageError, match="stride 1"):
        NetConfig(stride=2, padding="same")
