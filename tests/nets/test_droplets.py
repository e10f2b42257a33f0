import pytest
import torch

from fastnst.nets.droplets import BEYOND, HIGHEST, Droplets, droplet_energy, limit, pixel_energy
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
    droplets = Droplets()
    net(content, None, droplets)
    shifts = [block.second.norm.bias for block in net.residual]
    scales = [block.second.norm.weight for block in net.residual]

    of_shifts = torch.cat(torch.autograd.grad(sum(droplets.energies), shifts, retain_graph=True))
    of_scales = torch.cat(torch.autograd.grad(sum(droplets.energies), scales))

    assert of_scales.abs().max() > 1e-4
    assert of_shifts.abs().max() < 1e-6 * of_scales.abs().max()


@pytest.mark.parametrize(
    ("config", "norms"),
    [(PRESETS["base"], 12), (PRESETS["fast"], 9), (PRESETS["tiny"], 7), (NetConfig(channels=(4,), blocks=0), 0)],
)
def test_a_network_gives_that_of_each_norm_behind_its_first_stages(config, norms):
    net = TransformerNet(config)
    content = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    droplets = Droplets()
    inputs = []
    for name, module in net.named_modules():
        if name.endswith("norm") and not name.startswith("down"):
            module.register_forward_hook(lambda _, given, __: inputs.append(given[0].clone()))

    stylized = net(content, None, droplets)

    assert len(droplets.energies) == norms
    torch.testing.assert_close(stylized, net(content), rtol=0, atol=0)
    for energy, features in zip(droplets.energies, inputs, strict=False):
        torch.testing.assert_close(energy, droplet_energy(features))


def test_limited_a_place_keeps_its_direction_and_has_the_highest_energy_allowed_by_what_the_others_are():
    noise = torch.randn(2, 8, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features = 3 * noise + torch.arange(8.0)[:, None, None]
    whole = features.clone()
    features[0, :, 10:12, 20:22] += 500 * torch.linspace(-1, 1, 8)[:, None, None]

    result = limit(features.float()).double()

    elsewhere = torch.ones(2, 32, 32, dtype=torch.bool)
    elsewhere[0, 10:12, 20:22] = False
    assert (pixel_energy(whole)[elsewhere] < BEYOND).all()
    torch.testing.assert_close(result[1], features[1].float().double(), rtol=0, atol=0)
    kept = features[0][:, elsewhere[0]]
    torch.testing.assert_close(result[0][:, elsewhere[0]], kept.float().double(), rtol=0, atol=0)
    mean, variance = kept.mean(1), kept.var(1, correction=0)
    before = (features[0, :, 10, 20] - mean) / variance.sqrt()
    after = (result[0, :, 10, 20] - mean) / variance.sqrt()
    torch.testing.assert_close(after.square().mean(), torch.tensor(HIGHEST, dtype=torch.float64), rtol=1e-4, atol=0)
    torch.testing.assert_close(after / after.norm(), before / before.norm(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_there_are_no_droplets_nothing_is_limited(dtype):
    features = torch.randn(2, 16, 24, 24, generator=torch.Generator().manual_seed(0)).to(dtype)
    flat = torch.full((1, 3, 8, 8), 7.0, dtype=dtype)

    assert torch.equal(limit(features), features)
    assert torch.equal(limit(flat), flat)


def test_the_gradient_of_limited_features_is_as_much_smaller_as_they_are():
    features = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    features[..., 5, 6] += 100
    features.requires_grad_()

    (gradient,) = torch.autograd.grad(limit(features).sum(), features)

    assert gradient[..., 5, 6].unique().numel() == 1
    assert 0 < gradient[0, 0, 5, 6] < 0.1
    gradient[..., 5, 6] = 1
    assert (gradient == 1).all()


def test_limited_a_network_gives_the_energies_of_what_is_not_limited_yet():
    torch.manual_seed(0)
    net = TransformerNet(NetConfig(channels=(4, 8), blocks=1))
    content = torch.rand(1, 3, 48, 64)
    content[..., 20:24, 30:34] = 50
    plain, limited = Droplets(), Droplets(limited=True)

    stylized = net(content, None, plain)
    other = net(content, None, limited)

    torch.testing.assert_close(stylized, net(content), rtol=0, atol=0)
    assert plain.energies[0] > 0.1
    torch.testing.assert_close(limited.energies[0], plain.energies[0])
    assert not torch.allclose(other, stylized, atol=0.01)
