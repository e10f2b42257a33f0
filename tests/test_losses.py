import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastnst.errors import InputError, UsageError
from fastnst.image import Picture, to_array
from fastnst.losses import (
    DEFAULT_WEIGHTS,
    LossWeights,
    PerceptualLoss,
    gram_matrix,
    grid_energy,
    open_loss,
    roughness,
    total_variation,
    total_variation_power,
)
from fastnst.vgg import BUNDLED, VGGFeatures

CONTENT = ("relu2_2",)
STYLE = ("relu1_2", "relu2_2")
EVEN = LossWeights(content=1, style=1, tv=1)


def picture(seed: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def perceptual_loss(style: Tensor, weights: LossWeights = EVEN, form: str = "relative", **options: object):
    features = VGGFeatures(STYLE, options.pop("vgg", "bundled")).to(style.dtype)
    return PerceptualLoss(features, style, weights, form, CONTENT, STYLE, **options)


def reference_gram(features: Tensor) -> Tensor:
    return torch.einsum("nchw,ndhw->ncd", features, features) / features[0].numel()


def test_gram_matrix_of_constant_features_is_one_over_channels():
    torch.testing.assert_close(gram_matrix(torch.ones(2, 4, 3, 5)), torch.full((2, 4, 4), 1 / 4))


def test_gram_matrix_of_a_small_case_worked_out_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # channels (1, 2) and (3, -1)

    expected = torch.tensor([[[5.0, 1.0], [1.0, 10.0]]]) / 4  # over C*H*W
    torch.testing.assert_close(gram_matrix(features), expected)


def test_gram_matrix_survives_float16_features():
    gram = gram_matrix(torch.full((1, 1, 256, 256), 2.0, dtype=torch.float16))

    assert gram.item() == 4.0
    assert gram.dtype == torch.float32


def test_gram_matrix_is_float32_under_autocast():
    features = torch.rand(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        gram = gram_matrix(features)

    torch.testing.assert_close(gram, reference_gram(features.double()).float())


def test_gram_matrix_of_any_memory_layout_is_the_same():
    features = torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(gram_matrix(features.to(memory_format=torch.channels_last)), gram_matrix(features))


def test_gram_gradient_passes_gradcheck():
    features = torch.randn(2, 3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(gram_matrix, features.requires_grad_())


def test_bfloat16_gram_gradient_is_close_to_the_float32_one():
    random = torch.Generator().manual_seed(0)
    features = torch.randn(1, 16, 12, 12, generator=random).bfloat16()
    upstream = torch.randn(1, 16, 16, generator=random)

    def gradient(values: Tensor) -> Tensor:
        leaf = values.requires_grad_()
        return torch.autograd.grad(gram_matrix(leaf), leaf, upstream)[0].float()

    precise, rounded = gradient(features.float()), gradient(features)
    error = float((precise - rounded).norm() / precise.norm())
    assert error < 0.01  # bfloat16 keeps eight bits: 0.004 a number


def test_float16_gram_gradient_does_not_vanish():
    features = torch.ones(1, 4, 128, 128, dtype=torch.float16, requires_grad=True)

    gram_matrix(features).sum().backward()

    # d/df of sum(G) is 2 * 4 / (C*H*W) = 1.2e-4 everywhere, near the smallest normal float16 of 6e-5.
    torch.testing.assert_close(features.grad, torch.full_like(features, 8 / 65536), rtol=2e-3, atol=0)


def test_total_variation_of_a_checkerboard_counts_every_edge_once():
    board = (torch.arange(4)[:, None] + torch.arange(6)[None]) % 2
    images = board.float().expand(2, 3, 4, 6)

    edges = 3 * (3 * 6 + 4 * 5)  # channels * (vertical + horizontal neighbors), each 1 squared
    assert total_variation(images).item() == edges / 2


def test_total_variation_of_a_ramp_is_its_slope_squared():
    ramp = (0.1 * torch.arange(5.0)).expand(1, 3, 4, 5)

    torch.testing.assert_close(total_variation(ramp), torch.tensor(3 * 4 * 4 * 0.01 / 2))


def test_roughness_does_not_depend_on_the_size():
    small, large = (0.1 * torch.arange(n).float().expand(1, 3, n, n) for n in (5, 50))

    torch.testing.assert_close(roughness(small), torch.tensor(0.01))
    torch.testing.assert_close(roughness(large), torch.tensor(0.01))


@pytest.mark.parametrize("form", ["relative", "paper"])
def test_content_term_of_the_content_itself_is_zero(form):
    content = picture(1)

    assert perceptual_loss(picture(0), form=form)(content, content).content.item() == 0


@pytest.mark.parametrize("form", ["relative", "paper"])
def test_style_term_of_the_painting_itself_is_zero(form):
    style = picture(0)

    assert perceptual_loss(style, form=form)(style, picture(1)).style.item() == 0


def test_targets_stand_for_their_content():
    loss, content, stylized = perceptual_loss(picture(0)), picture(1), picture(2)

    assert loss(stylized, loss.targets(content)) == loss(stylized, content)


def test_relative_smoothness_of_the_painting_itself_is_one():
    style = picture(0)

    torch.testing.assert_close(perceptual_loss(style)(style, picture(1)).tv, torch.tensor(1.0))


def test_relative_content_term_of_vanished_features_is_one():
    loss = perceptual_loss(picture(0))
    target = torch.rand(1, 4, 5, 5)

    torch.testing.assert_close(loss._distance(torch.zeros_like(target), target), torch.tensor(1.0))


@pytest.mark.parametrize(("form", "scaled"), [("relative", 1), ("paper", 49)])
def test_distance_of_scaled_features_is_the_same_in_the_relative_form_only(form, scaled):
    loss = perceptual_loss(picture(0), form=form)
    given, target = picture(1), picture(2)

    torch.testing.assert_close(loss._distance(7 * given, 7 * target), scaled * loss._distance(given, target))


def test_relative_terms_are_the_same_for_a_loss_network_scaled_by_a_constant(tmp_path):
    weights = {key: tensor.float() for key, tensor in load_file(BUNDLED).items() if key in _shallow_keys()}
    for factor in (1, 3):
        # Scaling a convolution scales everything after it, because ReLU and pooling are homogeneous.
        weights["features.0.weight"] *= factor
        biases = {key: factor * tensor for key, tensor in weights.items() if key.endswith("bias")}
        save_file({**weights, **biases}, tmp_path / f"{factor}.safetensors")
    stylized, content = picture(1), picture(2)

    one, three = (perceptual_loss(picture(0), vgg=tmp_path / f"{n}.safetensors")(stylized, content) for n in (1, 3))

    torch.testing.assert_close(tuple(three), tuple(one), rtol=1e-3, atol=0)


def _shallow_keys() -> set[str]:
    return {f"features.{index}.{kind}" for index in (0, 2, 5, 7) for kind in ("weight", "bias")}


def test_paper_form_equals_a_reference_formula_in_float64():
    style, stylized, content = picture(0, 40, 24).double(), picture(1).double(), picture(2).double()
    weights = DEFAULT_WEIGHTS["paper"]
    of = VGGFeatures(STYLE).double()

    terms = perceptual_loss(style, weights, "paper")(stylized, content)

    painted, photo, painting = of(stylized), of(content), of(style)
    expected_content = sum(((painted[n] - photo[n]) ** 2).mean() for n in CONTENT)
    expected_style = 5 * sum(((reference_gram(painted[n]) - reference_gram(painting[n])) ** 2).mean() for n in STYLE)
    pixels = 255 * stylized
    expected_tv = 1e-6 * 0.5 * (pixels.diff(dim=-1).square().sum() + pixels.diff(dim=-2).square().sum())
    # Content and smoothness are computed in float32 whatever comes in.
    torch.testing.assert_close(terms.content.double(), expected_content, rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.style.double(), expected_style, rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.tv.double(), expected_tv, rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.total.double(), expected_content + expected_style + expected_tv, rtol=1e-5, atol=0)


def test_relative_form_equals_a_reference_formula_in_float64():
    style, stylized, content = picture(0, 40, 24).double(), picture(1).double(), picture(2).double()
    of = VGGFeatures(STYLE).double()

    terms = perceptual_loss(style, LossWeights(content=2, style=3, tv=0.5))(stylized, content)

    def fraction(given: Tensor, target: Tensor) -> Tensor:
        return ((given - target) ** 2).sum() / (target**2).sum()

    def neighbors(image: Tensor) -> Tensor:
        return image.diff(dim=-1).square().mean() + image.diff(dim=-2).square().mean()

    painted, photo, painting = of(stylized), of(content), of(style)
    grams = [fraction(reference_gram(painted[n]), reference_gram(painting[n])) for n in STYLE]
    torch.testing.assert_close(
        terms.content.double(), 2 * fraction(painted["relu2_2"], photo["relu2_2"]), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(terms.style.double(), 3 * sum(grams) / len(grams), rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.tv.double(), 0.5 * neighbors(stylized) / neighbors(style), rtol=1e-5, atol=0)


def test_gatys_form_equals_the_equations_of_the_paper_in_float64():
    style, stylized, content = picture(0).double(), picture(1).double(), picture(2).double()
    of = VGGFeatures(STYLE).double()

    terms = perceptual_loss(style, LossWeights(content=1, style=10, tv=0), "gatys")(stylized, content)

    painted, photo, painting = (
        {n: f[0].flatten(1) for n, f in of(image).items()} for image in (stylized, content, style)
    )
    energies = []
    for name in STYLE:
        channels, pixels = painted[name].shape
        gram, target = painted[name] @ painted[name].T, painting[name] @ painting[name].T  # equation 3
        energies.append(((gram - target) ** 2).sum() / (4 * channels**2 * pixels**2))  # equation 4
    expected_content = sum(((painted[n] - photo[n]) ** 2).sum() / 2 for n in CONTENT)  # equation 1
    torch.testing.assert_close(terms.content.double(), expected_content, rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.style.double(), 10 * sum(energies) / 2, rtol=1e-5, atol=0)  # w_l = 1 / layers


def test_gatys_form_of_a_small_case_worked_out_by_hand():
    loss = perceptual_loss(picture(0), form="gatys")
    features, other = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]]), torch.zeros(1, 2, 1, 2)

    assert loss._distance(features, other) == (1 + 4 + 9 + 1) / 2
    # Gram matrix 5, 1, 1, 10; N = 2 channels, M = 2 pixels.
    assert loss._distance(gram_matrix(features), gram_matrix(other)) == (25 + 1 + 1 + 100) / (4 * 2**2 * 2**2)


def test_weights_of_layers_weigh_a_mean_in_the_relative_form_and_a_sum_in_that_of_the_paper():
    style, stylized, content = picture(0), picture(1), picture(2)

    def style_term(form: str, layers: object) -> Tensor:
        loss = PerceptualLoss(VGGFeatures(STYLE), style, EVEN, form, CONTENT, layers)
        return loss(stylized, content).style

    for form, total in (("relative", 4), ("gatys", 4), ("paper", 1)):
        first, second = (style_term(form, [name]) for name in STYLE)
        weighted = style_term(form, {"relu1_2": 1.0, "relu2_2": 3.0})
        torch.testing.assert_close(weighted, (first + 3 * second) / total, rtol=1e-5, atol=0)


@pytest.mark.parametrize("layers", [{"relu1_2": 0.0}, {"relu1_2": -1.0, "relu2_2": 2.0}, {"relu1_2": math.nan}])
def test_weights_of_layers_that_cannot_be_meant_are_a_usage_error(layers):
    with pytest.raises(UsageError, match="weights of layers must be zero or more, and one above zero"):
        PerceptualLoss(VGGFeatures(STYLE), picture(0), EVEN, "relative", CONTENT, layers)


@pytest.mark.parametrize("form", ["relative", "paper"])
def test_without_layers_a_loss_has_those_of_its_form(form):
    style, stylized, content = picture(0), picture(1), picture(2)
    network = VGGFeatures(["relu1_2", "relu2_2", "relu3_3", "relu4_3"])
    weights = {"relu1_2": 4, "relu2_2": 4, "relu3_3": 1}
    layers = weights if form == "relative" else list(network.layers)

    default = PerceptualLoss(network, style, EVEN, form)(stylized, content)

    named = PerceptualLoss(network, style, EVEN, form, ["relu3_3"], layers)(stylized, content)
    assert default.total == named.total


def test_no_style_layers_leave_the_content_alone_and_no_content_layers_the_style():
    style, stylized, content = picture(0), picture(1), picture(2)
    both = perceptual_loss(style)(stylized, content)

    only_content = PerceptualLoss(VGGFeatures(CONTENT), style, EVEN, "relative", CONTENT, ())(stylized, content)
    only_style = PerceptualLoss(VGGFeatures(STYLE), style, EVEN, "relative", (), STYLE)(stylized, content)

    assert (only_content.style, only_style.content) == (0, 0)
    torch.testing.assert_close(only_content.content, both.content)
    torch.testing.assert_close(only_style.style, both.style)


def test_blended_styles_have_the_shared_mean_of_their_gram_matrices():
    styles = [picture(0), picture(1, 40, 24)]
    loss = PerceptualLoss(VGGFeatures(STYLE), styles, EVEN, "relative", CONTENT, STYLE, blend=[1, 3])

    alone = [perceptual_loss(style) for style in styles]
    for name in STYLE:
        first, second = (getattr(one, f"gram_{name}") for one in alone)
        torch.testing.assert_close(getattr(loss, f"gram_{name}"), first / 4 + 3 * second / 4)


@pytest.mark.parametrize("blend", [[1], [0, 0], [1, -1], [1, math.inf], [1, 1, 1]])
def test_shares_that_do_not_fit_the_styles_are_a_usage_error(blend):
    with pytest.raises(UsageError, match="2 styles need as many shares"):
        PerceptualLoss(VGGFeatures(STYLE), [picture(0), picture(1)], EVEN, "relative", CONTENT, STYLE, blend)


def test_power_variation_of_a_ramp_and_of_an_edge_worked_out_by_hand():
    ramp = (torch.arange(4.0) / 10).expand(1, 3, 5, 4)  # dx = 0.1 at 3 x 4 pixels, dy = 0

    torch.testing.assert_close(total_variation_power(ramp), torch.tensor(3 * 4 * 3 * 0.1**2.5))
    torch.testing.assert_close(roughness(ramp, "power"), torch.tensor(0.1**2.5))


def test_power_variation_spares_slopes_more_than_edges():
    slope, edge = torch.linspace(0, 1, 11).expand(1, 3, 11, 11), (torch.arange(11) > 5).float().expand(1, 3, 11, 11)

    def preference(variation) -> float:
        return float(variation(edge) / variation(slope))

    assert preference(total_variation_power) > 2 * preference(total_variation)


@pytest.mark.parametrize("form", ["relative", "paper", "gatys"])
def test_batch_is_the_mean_of_its_pictures(form):
    loss = perceptual_loss(picture(0), DEFAULT_WEIGHTS[form], form)
    stylized = torch.cat([picture(1), picture(2)])
    content = torch.cat([picture(3), picture(3)])  # the same twice, because the relative scale is that of the batch

    together = loss(stylized, content).total

    alone = [loss(one[None], other[None]).total for one, other in zip(stylized, content, strict=True)]
    torch.testing.assert_close(together, sum(alone) / 2, rtol=1e-4, atol=0)


@pytest.mark.parametrize("tv_form", ["squared", "power"])
@pytest.mark.parametrize("form", ["relative", "paper", "gatys"])
def test_gradient_of_the_total_agrees_with_finite_differences(form, tv_form):
    weights = LossWeights(content=1, style=1, tv=DEFAULT_WEIGHTS[form].tv or 1e-6)
    loss = perceptual_loss(picture(0).double(), weights, form, tv_form=tv_form)
    stylized, content = picture(1).double().requires_grad_(), picture(2).double()

    gradient = torch.autograd.grad(loss(stylized, content).total, stylized)[0]

    direction = gradient / gradient.norm()
    step = 1e-3 * direction
    with torch.no_grad():
        slope = (loss(stylized + step, content).total - loss(stylized - step, content).total) / 2e-3
    torch.testing.assert_close(slope.double(), gradient.norm(), rtol=1e-3, atol=0)  # kinks of ReLU


@pytest.mark.parametrize("name", ["content", "style", "tv"])
@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_weight_that_is_negative_or_not_finite_is_a_usage_error(name, value):
    weights = LossWeights(**{"content": 1, "style": 1, "tv": 1, name: value})

    with pytest.raises(UsageError, match=f"{name} weight must be zero or more"):
        perceptual_loss(picture(0), weights)


def wave(rows: float, columns: float, side: int = 96) -> Tensor:
    """A wave of amplitude 0.1 that repeats so often a pixel in each direction, as (1, 3, side, side)."""
    at = torch.arange(side)
    phase = 2 * math.pi * (rows * at[:, None] + columns * at) + 1
    return (0.5 + 0.1 * phase.cos()).expand(1, 3, -1, -1)


@pytest.mark.parametrize(("rows", "columns"), [(0, 1 / 4), (1 / 4, 0), (1 / 4, 1 / 4), (-1 / 4, 1 / 4)])
def test_grid_energy_of_a_wave_of_four_pixels_is_its_squared_amplitude(rows, columns):
    torch.testing.assert_close(grid_energy(wave(rows, columns)), torch.tensor(0.01), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 1 / 3), (1 / 6, 0), (1 / 8, 1 / 4), (0, 1 / 2)])
def test_grid_energy_of_other_waves_is_nothing(rows, columns):
    assert grid_energy(wave(rows, columns)) < 0.01 / 1000


def test_grid_energy_of_noise_is_a_hundredth_of_its_variance():
    noise = torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(0))

    # Expected: for each direction 4 / (sum of the window's weights)^2 * sum of their squares = 4 * (3 / 2 / 32)^2.
    torch.testing.assert_close(grid_energy(noise), torch.tensor(16 * (1.5 / 32) ** 2), rtol=0.1, atol=0)


def test_grid_penalty_is_relative_to_the_painting_and_absent_with_the_weights_of_the_paper():
    style, stylized = picture(0), wave(0, 1 / 4)

    expected = 10 * 0.01 / roughness(style)
    torch.testing.assert_close(perceptual_loss(style).grid(stylized), expected, rtol=1e-4, atol=0)
    assert perceptual_loss(style, form="paper").grid(stylized) == 0


def test_weights_that_are_not_given_are_those_of_the_form():
    assert LossWeights.resolve("paper", style=7, tv=0) == LossWeights(content=1, style=7, tv=0)
    assert LossWeights.resolve("gatys") == DEFAULT_WEIGHTS["gatys"]


def test_the_factory_gives_the_loss_of_its_parts():
    generator = np.random.default_rng(0)
    styles = [Picture(generator.integers(0, 256, (32, 40, 3), dtype=np.uint8)) for _ in range(2)]
    stylized, content = picture(0), picture(1)
    options = {"blend": [1, 2], "tv_form": "power"}

    opened = open_loss(styles, EVEN, torch.device("cpu"), "paper", CONTENT, STYLE, pooling="average", **options)

    features = VGGFeatures([*CONTENT, *STYLE], pooling="average")
    pixels = [torch.from_numpy(to_array(style.rgb)) for style in styles]
    by_hand = PerceptualLoss(features, pixels, EVEN, "paper", CONTENT, STYLE, **options)
    torch.testing.assert_close(list(opened(stylized, content)), list(by_hand(stylized, content)))
    again = open_loss(styles, EVEN, torch.device("cpu"), "paper", CONTENT, STYLE, vgg=opened.features, **options)
    assert again.features is opened.features
    assert list(again(stylized, content)) == list(opened(stylized, content))


@pytest.mark.parametrize("layers", [("relu1_2", "relu4_3"), {"relu4_3": 2.0}])
def test_a_style_that_is_too_narrow_for_a_layer_is_named_with_the_size_that_matters(layers):
    style = Picture(np.zeros((5, 96, 3), np.uint8))

    with pytest.raises(InputError, match=r"narrow\.png is 96x5 pixels .* relu4_3 needs at least 8x8; .*--style-size"):
        open_loss([style], LossWeights(1, 1, 0), torch.device("cpu"), style_layers=layers, files=[Path("narrow.png")])


def test_in_training_a_picture_has_a_share_in_the_gram_matrix_that_is_compared():
    style, stylized, content = picture(0), torch.cat([picture(1), picture(3)]), torch.cat([picture(2), picture(4)])
    loss = perceptual_loss(style)
    others = {name: gram_matrix(features) for name, features in loss.features(picture(5)).items()}
    share = 0.3

    found = loss.objective(stylized, content, None, others, share)

    features, wanted = loss.features(stylized), loss.features(style)
    expected = []
    for name in STYLE:
        mixed = share * reference_gram(features[name]) + (1 - share) * others[name]
        target = reference_gram(wanted[name])
        expected.append((mixed - target).square().mean() / target.square().mean())
    terms = loss(stylized, content)
    value = terms.content + terms.tv + torch.stack(expected).mean() / share
    torch.testing.assert_close(found.value, value, rtol=1e-4, atol=0)
    assert found.terms == terms
    for name in STYLE:
        torch.testing.assert_close(found.grams[name], reference_gram(features[name]).mean(0, keepdim=True))


def test_a_picture_that_makes_up_for_others_costs_no_style_in_training():
    """Of two pictures whose Gram matrices are the style's in the mean, neither is asked to change."""
    style = picture(0, 64, 64)
    loss, share = perceptual_loss(style, LossWeights(0, 1, 0)), 0.5
    stylized = picture(1, 64, 64) / 2
    own = {name: gram_matrix(features) for name, features in loss.features(stylized).items()}
    needed = {name: (getattr(loss, f"gram_{name}") - share * gram) / (1 - share) for name, gram in own.items()}

    value = loss.objective(stylized, style, recent=needed, share=share).value

    assert float(loss(stylized, style).style) > 0.01
    assert float(value) < 1e-10


def test_without_others_the_objective_is_the_total():
    loss = perceptual_loss(picture(0))

    found = loss.objective(picture(1), picture(2))

    assert found.value == found.terms.total
