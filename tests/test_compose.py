import numpy as np
import pytest
from helpers.material import PHOTOS
from PIL import Image

from fastnst import compose
from fastnst.compose import (
    ColorStatistics,
    cross_fade,
    enlarge,
    fineness,
    into_gamut,
    keep_histogram_colors,
    keep_luma_colors,
    match_colors,
    natural_mix,
    read_mask,
    stroke_scale,
    within_mask,
)
from fastnst.config import MaskOptions
from fastnst.errors import InputError
from fastnst.image import Picture, read_picture


def noise(low=0, high=256, seed=0):
    return np.random.default_rng(seed).integers(low, high, (40, 50, 3), dtype=np.uint8)


def luma(pixels):
    return pixels @ [0.299, 0.587, 0.114]


def statistics(pixels):
    colors = pixels.reshape(-1, 3).astype(float)
    return colors.mean(0), np.cov(colors, rowvar=False)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_cross_fade_at_its_ends_gives_back_the_content_and_the_stylized_picture(strength):
    content, stylized = noise(), noise(seed=1)

    np.testing.assert_array_equal(cross_fade(content, stylized, strength), stylized if strength else content)


def test_cross_fade_rounds_the_weighted_mean():
    content, stylized = np.full((1, 1, 3), (0, 10, 255), np.uint8), np.full((1, 1, 3), (255, 13, 0), np.uint8)

    assert cross_fade(content, stylized, 0.25).ravel().tolist() == [64, 11, 191]  # 63.75, 10.75, 191.25


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_natural_mix_at_its_ends_gives_back_the_content_and_the_painting(strength):
    content, painted = noise(), noise(seed=1)

    np.testing.assert_array_equal(natural_mix(content, painted, strength), painted if strength else content)


def test_natural_mix_of_a_picture_with_itself_is_the_picture():
    np.testing.assert_array_equal(natural_mix(noise(), noise(), 0.4), noise())


def test_natural_mix_of_two_colors_leads_a_cross_fade():
    content, painted = (np.full((40, 50, 3), color, np.uint8) for color in ((10, 100, 250), (90, 100, 50)))

    mixed = natural_mix(content, painted, 0.5)

    share = 0.5**0.6
    np.testing.assert_array_equal(
        np.unique(mixed.reshape(-1, 3), axis=0), [np.rint([10 + 80 * share, 100, 250 - 200 * share])]
    )


def test_natural_mix_drops_texture_that_the_painting_lacks_before_the_contours_of_both():
    texture, flat = noise(64, 192)[..., :1].repeat(3, 2), np.full((40, 50, 3), 128, np.uint8)
    contour = np.full((40, 50, 3), 60, np.uint8)
    contour[:, 25:] = 200

    without_paint = natural_mix(texture, flat, 0.5).astype(float).std() / texture.std()
    with_paint = natural_mix(contour, contour // 2 + 60, 0.5).astype(float)

    assert without_paint == pytest.approx(0.25, abs=0.03)  # half of what a cross-fade leaves
    step = (with_paint[:, 26:29].mean() - with_paint[:, 21:24].mean()) / (0.5 * 140 + 0.5 * 70)
    assert step == pytest.approx(1, abs=0.05)


def test_natural_mix_keeps_more_contrast_of_strokes_than_a_cross_fade():
    strokes, flat = noise(64, 192)[..., :1].repeat(3, 2), np.full((40, 50, 3), 128, np.uint8)

    contrasts = [mix(flat, strokes, 0.7).astype(float).std() for mix in (cross_fade, natural_mix)]

    # 1.2 * 0.7**2 * 0.3 beside 0.7, and a little less for what is fainter than a few gray levels
    assert contrasts[1] / contrasts[0] == pytest.approx(1.23, abs=0.03)


def test_less_strength_is_painted_finer_but_never_twice_as_large():
    scales = [fineness(strength) for strength in (1.0, 0.75, 0.5, 0.25, 0.0)]

    assert scales[0] == 1
    assert scales == sorted(scales)
    assert scales[-1] < 2


# What is computed in bands must not show where they meet.
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: cross_fade(a, b, 0.4),
        lambda a, b: natural_mix(a, b, 0.4),
        keep_luma_colors,
        keep_histogram_colors,
        lambda a, _: enlarge(a, (75, 101)),
        lambda a, b: within_mask(Picture(a), b, b[..., 0]).rgb,
    ],
)
def test_bands_of_rows_give_the_same_pixels_as_the_whole(function, monkeypatch):
    whole = function(noise(), noise(seed=1)).astype(int)

    monkeypatch.setattr(compose, "_BAND", 12 * 50 * 7)
    banded = function(noise(), noise(seed=1))

    assert np.abs(whole - banded).max() <= 1  # rounding of sums in another order
    assert (whole != banded).mean() < 0.001


def test_gamut_keeps_brightness_and_hue_and_what_fits_already():
    colors = np.random.default_rng(0).uniform(-80, 335, (4000, 3)).astype(np.float32)

    fitted = into_gamut(colors)

    assert fitted.min() >= -0.01
    assert fitted.max() <= 255.01
    np.testing.assert_allclose(luma(fitted), np.clip(luma(colors), 0, 255), atol=0.01)
    inside = ((colors >= 0) & (colors <= 255)).all(1)
    np.testing.assert_allclose(fitted[inside], colors[inside], atol=0.01)
    # The same direction from gray, no farther.
    own, fit = colors - luma(colors)[:, None], fitted - luma(fitted)[:, None]
    bright = (luma(colors) > 0) & (luma(colors) < 255)
    assert ((own * fit).sum(1)[bright] >= 0).all()
    np.testing.assert_allclose(np.cross(own, fit)[bright], 0, atol=0.5)


def test_gamut_of_what_is_brighter_than_white_is_white():
    beyond = np.array([[300, 300, 300], [-5, -5, -5], [400, 250, 300]], np.float32)

    np.testing.assert_allclose(into_gamut(beyond), [[255] * 3, [0] * 3, [255] * 3], atol=0.01)


def test_luma_takes_the_brightness_of_the_stylized_for_any_color():
    content, stylized = noise(), noise(seed=1)

    np.testing.assert_allclose(luma(keep_luma_colors(content, stylized)), luma(stylized), atol=0.51)


def test_luma_takes_brightness_from_the_stylized_and_chroma_from_the_content():
    content, stylized = noise(100, 140), noise(90, 150, seed=1)  # so that nothing is clipped

    kept = keep_luma_colors(content, stylized)

    # Rounding moves each channel by a half and their weighted mean by no more.
    np.testing.assert_allclose(luma(kept), luma(stylized), atol=0.51)
    chroma_of_kept, chroma_of_content = kept - luma(kept)[..., None], content - luma(content)[..., None]
    np.testing.assert_allclose(chroma_of_kept, chroma_of_content, atol=1.01)


def test_luma_of_an_unchanged_picture_is_the_picture():
    np.testing.assert_array_equal(keep_luma_colors(noise(), noise()), noise())


def test_histogram_matches_mean_and_covariance_of_the_content():
    mixing = np.array([[0.9, 0.2, 0], [0.1, 0.5, 0.1], [0, 0.3, 0.4]])
    content = (noise() @ mixing * 0.5 + 40).astype(np.uint8)
    stylized = noise(60, 200, seed=1)

    mean, covariance = statistics(keep_histogram_colors(content, stylized))

    expected_mean, expected_covariance = statistics(content)
    np.testing.assert_allclose(mean, expected_mean, atol=0.5)  # rounding
    np.testing.assert_allclose(covariance, expected_covariance, atol=0.02 * expected_covariance.max())


def test_histogram_of_one_color_becomes_the_one_color_of_the_content():
    content = np.full((8, 8, 3), (10, 200, 90), dtype=np.uint8)

    kept = keep_histogram_colors(content, np.full((8, 8, 3), 77, dtype=np.uint8))

    np.testing.assert_array_equal(kept, content)


def test_histogram_of_a_gray_photo_is_gray():
    content = np.repeat(noise()[..., :1], 3, axis=2)

    kept = keep_histogram_colors(content, noise(seed=1)).astype(int)

    assert np.ptp(kept, axis=2).mean() < 3  # the matrices are regularized by 1e-5, a gray level of 0.8


def test_statistics_of_colors_are_the_mean_and_the_covariance():
    found = ColorStatistics.of(noise())

    mean, covariance = statistics(noise())
    np.testing.assert_allclose(found.mean * 255, mean)
    np.testing.assert_allclose(found.covariance * 255**2, covariance, rtol=1e-3)  # over N, not N - 1


def test_colors_of_a_part_are_matched_by_the_statistics_of_the_whole():
    content, stylized = noise(60, 130), noise(80, 200, seed=1)
    own, wanted = ColorStatistics.of(stylized), ColorStatistics.of(content)

    part = match_colors(stylized[10:20], own, wanted)

    np.testing.assert_array_equal(part, keep_histogram_colors(content, stylized)[10:20])


@pytest.mark.parametrize("keep", [keep_luma_colors, keep_histogram_colors])
@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (77, 77, 77)])
def test_colors_of_pictures_of_one_color_are_finite_colors(keep, color):
    one = np.full((16, 16, 3), color, np.uint8)

    np.testing.assert_array_equal(keep(one, one), one)
    np.testing.assert_allclose(keep(one, noise()[:16, :16]).mean((0, 1)), color, atol=130)
    np.testing.assert_allclose(keep_histogram_colors(one, noise()[:16, :16]).mean((0, 1)), color, atol=3)


def test_strokes_are_painted_at_their_size_in_proportion():
    assert stroke_scale((60, 101), 1 / 2) == (30, 50)
    assert stroke_scale((60, 101), 2) == (120, 202)
    assert stroke_scale((60, 101), 1) == (60, 101)


def test_strokes_that_leave_nothing_to_paint_are_an_input_error_with_the_sizes():
    with pytest.raises(
        InputError, match=r"101x40 pixels would be painted at 34x13 .* at least 16x16 .* smaller --stroke"
    ):
        stroke_scale((40, 101), 1 / 3)


def test_enlarged_edge_is_steeper_than_that_of_an_interpolation_and_never_rings():
    edge = np.full((20, 30, 3), (40, 90, 20), np.uint8)
    edge[:, 15:] = (180, 200, 230)

    large = enlarge(edge, (60, 90)).astype(int)

    smooth = np.asarray(Image.fromarray(edge).resize((90, 60), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.diff(luma(large)[30])).max() > 1.5 * np.abs(np.diff(luma(smooth)[30])).max()
    bicubic = luma(np.asarray(Image.fromarray(edge).resize((90, 60), Image.Resampling.BICUBIC)))
    assert bicubic.min() - 0.6 <= luma(large).min()
    assert luma(large).max() <= bicubic.max() + 0.6
    np.testing.assert_array_equal(large[:, :30], np.broadcast_to((40, 90, 20), (60, 30, 3)))


def test_enlarged_picture_of_one_color_is_that_color():
    assert (enlarge(np.full((16, 20, 3), (9, 200, 77), np.uint8), (40, 50)) == (9, 200, 77)).all()


def finest(pixels):
    """The share of the finest waves in the energy of the gradients."""
    plane = luma(pixels)
    fine = plane - (plane + np.roll(plane, 1, 0) + np.roll(plane, 1, 1) + np.roll(plane, (1, 1), (0, 1))) / 4
    rows, columns = np.gradient(plane)
    return np.square(fine).mean() / (np.square(rows) + np.square(columns)).mean()


@pytest.mark.parametrize("scale", [1.5, 2, 3])
def test_enlarged_picture_is_about_as_sharp_as_one_of_that_size(scale):
    sharp = read_picture(PHOTOS / "castle.jpg", max_size=480).rgb
    height, width = sharp.shape[:2]
    small = np.asarray(Image.fromarray(sharp).resize((round(width / scale), round(height / scale))))

    enlarged = finest(enlarge(small, (height, width)))

    bicubic = finest(np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)))
    assert bicubic < 0.9 * enlarged
    assert 0.4 < enlarged / finest(sharp) < 1.3


def save_mask(path, shape=(40, 50), where=(slice(10, 30), slice(20, 40))):
    mask = np.zeros(shape, np.uint8)
    mask[where] = 255
    Image.fromarray(mask).save(path)
    return path


def test_a_mask_without_feather_is_what_is_in_the_file(tmp_path):
    mask = read_mask(MaskOptions(mask=save_mask(tmp_path / "mask.png"), feather=0), (40, 50))

    assert mask.sum() == 20 * 20 * 255
    assert (mask[10:30, 20:40] == 255).all()


def test_the_edge_of_a_mask_is_as_soft_as_asked(tmp_path):
    save_mask(tmp_path / "mask.png", where=(slice(0, 40), slice(25, 50)))

    soft = read_mask(MaskOptions(mask=tmp_path / "mask.png", feather=4), (40, 50))[20].astype(float)

    # A blurred edge rises over about twice its deviation, from a sixth to five sixths.
    rise = np.count_nonzero((soft > 255 * 0.16) & (soft < 255 * 0.84))
    assert 6 <= rise <= 10
    assert soft[24] + soft[25] == pytest.approx(255, abs=6)


def test_a_mask_of_the_same_proportions_is_scaled_and_its_feather_is_not(tmp_path):
    save_mask(tmp_path / "small.png", (40, 50), (slice(0, 40), slice(25, 50)))
    save_mask(tmp_path / "large.png", (400, 500), (slice(0, 400), slice(250, 500)))
    save_mask(tmp_path / "same.png", (200, 250), (slice(0, 200), slice(125, 250)))

    small, large, same = (
        read_mask(MaskOptions(mask=tmp_path / f"{name}.png", feather=6), (200, 250)).astype(int)
        for name in ("small", "large", "same")
    )

    for scaled in (small, large):
        assert scaled.shape == (200, 250)
        assert np.abs(scaled - same).max() < 12


@pytest.mark.parametrize(
    ("mask", "picture", "fits"),
    [
        ((40, 50), (400, 500), True),
        ((400, 500), (40, 50), True),
        ((667, 1000), (1333, 2000), True),  # both rounded from 2:3
        ((1333, 2000), (667, 1000), True),
        ((41, 50), (400, 500), False),
        ((50, 40), (40, 50), False),
        ((400, 490), (400, 500), False),
    ],
)
def test_proportions_of_a_mask_fit_within_rounding(mask, picture, fits, tmp_path):
    options = MaskOptions(mask=save_mask(tmp_path / "mask.png", mask))

    if fits:
        assert read_mask(options, picture).shape == picture
    else:
        with pytest.raises(InputError, match="of the same size or proportions"):
            read_mask(options, picture)


def test_an_inverted_mask_paints_the_black_and_transparency_is_a_mask_too(tmp_path):
    plain = read_mask(MaskOptions(mask=save_mask(tmp_path / "mask.png"), feather=0), (40, 50))
    Image.merge("LA", [Image.new("L", (50, 40), 9), Image.fromarray(plain)]).save(tmp_path / "clear.png")

    inverted = read_mask(MaskOptions(mask=tmp_path / "mask.png", invert_mask=True, feather=0), (40, 50))
    clear = read_mask(MaskOptions(mask=tmp_path / "clear.png", feather=0), (40, 50))

    np.testing.assert_array_equal(inverted, 255 - plain)
    np.testing.assert_array_equal(clear, plain)


def test_a_mask_of_another_size_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="has 50x40 pixels but the picture 50x41; give one of the same size"):
        read_mask(MaskOptions(mask=save_mask(tmp_path / "mask.png")), (41, 50))


def test_an_empty_mask_is_an_input_error_with_its_remedy(tmp_path):
    black, white = save_mask(tmp_path / "black.png", where=(slice(0), slice(0))), tmp_path / "white.png"
    save_mask(white, where=(slice(None), slice(None)))

    with pytest.raises(InputError, match="leaves nothing to paint; make the shape white, or add --invert-mask"):
        read_mask(MaskOptions(mask=black), (40, 50))
    with pytest.raises(InputError, match="leaves nothing to paint; leave out --invert-mask"):
        read_mask(MaskOptions(mask=white, invert_mask=True), (40, 50))


def test_around_a_mask_are_a_color_other_pixels_or_nothing():
    painted, content = Picture(noise()), Picture(noise(seed=1))
    mask = np.zeros((40, 50), np.uint8)
    mask[:, 25:], mask[:, 30:] = 128, 255

    paper, photo, clear = (within_mask(painted, around, mask) for around in ("#102030", content.rgb, "transparent"))

    for picture in (paper, photo, clear):
        np.testing.assert_array_equal(picture.rgb[:, 30:], painted.rgb[:, 30:])
    assert (paper.rgb[:, :25] == (16, 32, 48)).all()
    np.testing.assert_array_equal(photo.rgb[:, :25], content.rgb[:, :25])
    between = content.rgb[:, 25:30] * (127 / 255) + painted.rgb[:, 25:30] * (128 / 255)
    np.testing.assert_allclose(photo.rgb[:, 25:30], between, atol=0.51)
    np.testing.assert_array_equal(clear.alpha, mask)
    assert (clear.rgb[:, :25] == 255).all()
    assert paper.alpha is None
