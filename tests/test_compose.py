import numpy as np
import pytest
from PIL import Image

from fastnst.compose import blend, keep_histogram_colors, keep_luma_colors, read_mask, within_mask
from fastnst.config import MaskOptions
from fastnst.errors import InputError
from fastnst.image import Picture


def noise(low=0, high=256, seed=0):
    return np.random.default_rng(seed).integers(low, high, (40, 50, 3), dtype=np.uint8)


def luma(pixels):
    return pixels @ [0.299, 0.587, 0.114]


def statistics(pixels):
    colors = pixels.reshape(-1, 3).astype(float)
    return colors.mean(0), np.cov(colors, rowvar=False)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_blend_at_its_ends_gives_back_the_content_and_the_stylized_picture(strength):
    content, stylized = noise(), noise(seed=1)

    np.testing.assert_array_equal(blend(content, stylized, strength), stylized if strength else content)


def test_blend_rounds_the_weighted_mean():
    content, stylized = np.full((1, 1, 3), (0, 10, 255), np.uint8), np.full((1, 1, 3), (255, 13, 0), np.uint8)

    assert blend(content, stylized, 0.25).ravel().tolist() == [64, 11, 191]  # 63.75, 10.75, 191.25


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


def test_histogram_of_a_grey_photo_is_grey():
    content = np.repeat(noise()[..., :1], 3, axis=2)

    kept = keep_histogram_colors(content, noise(seed=1)).astype(int)

    assert np.ptp(kept, axis=2).mean() < 3  # the matrices are regularized by 1e-5, a grey level of 0.8


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


def test_around_a_mask_is_a_color_the_photo_or_nothing():
    painted, content = Picture(noise()), Picture(noise(seed=1))
    mask = np.zeros((40, 50), np.uint8)
    mask[:, 25:], mask[:, 30:] = 128, 255

    paper, photo, clear = (within_mask(painted, content, mask, name) for name in ("#102030", "photo", "transparent"))

    for picture in (paper, photo, clear):
        np.testing.assert_array_equal(picture.rgb[:, 30:], painted.rgb[:, 30:])
    assert (paper.rgb[:, :25] == (16, 32, 48)).all()
    np.testing.assert_array_equal(photo.rgb[:, :25], content.rgb[:, :25])
    between = content.rgb[:, 25:30] * (127 / 255) + painted.rgb[:, 25:30] * (128 / 255)
    np.testing.assert_allclose(photo.rgb[:, 25:30], between, atol=0.51)
    np.testing.assert_array_equal(clear.alpha, mask)
    assert (clear.rgb[:, :25] == 255).all()
    assert paper.alpha is None
