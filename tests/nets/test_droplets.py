import pytest
import torch

from fastnst.nets.droplets import droplet_energy
from fastnst.nets.spec import PRESETS, NetConfig
from fastnst.nets.torch_net import TransformerNet


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("side", [1, 2, 4])
def test_one_place_takes_all_but_what_four_times_the_mean_leaves_it(side, scale):
    features = torch.zeros(1, 5, 16, 20)
    features[..., 3 : 3 + side, 7 : 7 + side] = scale
    area = side**2 / (16 * 20)

    energy = droplet_energy(features + 2, epsilon=0)

    # Normalized, the place has the square (1 - area) / area in all channels.
    torch.testing.assert_close(energy, torch.tensor(max((1 - area) - 4 * area, 0)), rtol=1e-4, atol=0)


def test_there_is_none_in_noise_in_a_flat_picture_and_where_a_quarter_differs():
    noise = torch.randn(2, 64, 32, 32, generator=torch.Generator().manual_seed(0))
    quarter = torch.zeros(1, 3, 16, 16)
    quarter[..., :8, :8] = 100

    assert droplet_energy(noise) == 0
    assert droplet_energy(torch.full((1, 3, 8, 8), 7.0)) == 0
    assert droplet_energy(quarter) == 0


def test_it_is_a_mean_over_a_batch_and_the_same_in_half_precision():
    features = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    features[0, :, 3, 3] += 40

    together = droplet_energy(features)

    torch.testing.assert_close(together, (droplet_energy(features[:1]) + droplet_energy(features[1:])) / 2)
    torch.testing.assert_close(droplet_energy(features.bfloat16()), together, rtol=0.02, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(droplet_energy(features), together)


def test_going_down_its_gradient_takes_a_place_away_however_large_it_is():
    features = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    features[..., 3, 3] = 1e4
    features.requires_grad_()

    (gradient,) = torch.autograd.grad(droplet_energy(features), features)

    place = gradient[..., 3, 3]
    assert (place > 0).all()
    torch.testing.assert_close(gradient.sum((2, 3)), torch.zeros(1, 8), rtol=0, atol=1e-6 * float(place.max()))
    elsewhere = gradient.flatten(2).sum(2) - place
    torch.testing.assert_close(elsewhere, -place, rtol=1e-4, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_norm_takes_away_again_gets_no_gradient(preset):
    torch.manual_seed(0)
    net = TransformerNet(PRESETS[preset]).double()
    content = torch.rand(1, 3, 48, 64, dtype=torch.float64)
    content[..., 20:24, 30:34] = 50
    energies: list[torch.Tensor] = []
    net(content, None, energies)
    shifts = [block.second.norm.bias for block in net.residual]
    scales = [block.second.norm.weight for block in net.residual]

    of_shifts = torch.cat(torch.autograd.grad(sum(energies), shifts, retain_graph=True))
    of_scales = torch.cat(torch.autograd.grad(sum(energies), scales))

    assert of_scales.abs().max() > 1e-4
    assert of_shifts.abs().max() < 1e-6 * of_scales.abs().max()


@pytest.mark.parametrize(
    ("config", "norms"),
    [(PRESETS["base"], 12), (PRESETS["fast"], 9), (PRESETS["tiny"], 7), (NetConfig(channels=(4,), blocks=0), 0)],
)
def test_a_network_gives_that_of_each_norm_behind_its_first_stages(config, norms):
    net = TransformerNet(config)
    content = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    energies: list[torch.Tensor] = []
    inputs = []
    for name, module in net.named_modules():
        if name.endswith("norm") and not name.startswith("down"):
            module.register_forward_hook(lambda _, given, __: inputs.append(given[0].clone()))

    stylized = net(content, None, energies)

    assert len(energies) == norms
    torch.testing.assert_close(stylized, net(content), rtol=0, atol=0)
    for energy, features in zip(energies, inputs, strict=False):
        torch.testing.assert_close(energy, droplet_energy(features))
