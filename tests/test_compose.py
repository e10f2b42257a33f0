import numpy as np
import pytest

from fastnst.compose import blend, keep_histogram_colors, keep_luma_colors


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
