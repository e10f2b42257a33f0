import numpy as np
import pytest
from helpers.material import PHOTOS
from PIL import Image

from fastnst.errors import UsageError
from fastnst.video.cuts import CutDetector, SmoothedStatistics


def photo(name: str) -> np.ndarray:
    with Image.open(PHOTOS / f"{name}.jpg") as picture:
        return np.asarray(picture.convert("RGB").resize((160, 120)))


def test_cuts_are_found_and_nothing_else(tmp_path):
    noise = np.random.default_rng(0)
    scenes = {name: panned_over(name) for name in ("owl", "castle", "cow", "lemur")}
    frames = [frame for scene in scenes.values() for frame in scene]
    noisy = [np.clip(frame + noise.normal(0, 6, frame.shape), 0, 255).astype(np.uint8) for frame in frames]

    for clip in (frames, noisy):
        detector = CutDetector()
        assert [number for number, frame in enumerate(clip) if detector(frame)] == [10, 20, 30]


def panned_over(name: str) -> list[np.ndarray]:
    wide = np.asarray(Image.fromarray(photo(name)).resize((240, 120)))
    return [wide[:, 8 * step : 8 * step + 160] for step in range(10)]


def test_a_fade_and_a_still_are_no_cuts():
    dark = [(photo("owl") * (1 - step / 20)).astype(np.uint8) for step in range(20)]
    detector = CutDetector()

    assert not any(detector(frame) for frame in [*dark, *[dark[-1]] * 5])


def test_one_scene_after_the_other_is_a_cut_even_after_much_movement():
    detector = CutDetector()
    moving = [np.roll(photo("castle"), 12 * step, axis=1) for step in range(8)]

    found = [detector(frame) for frame in [*moving, photo("owl")]]

    assert found == [False] * 8 + [True]


def test_statistics_are_an_exponential_average_for_each_layer():
    smoothed = SmoothedStatistics(0.75)
    one, two = np.array([4.0, 8.0]), np.array([8.0, 0.0])

    assert [values.tolist() for values in smoothed(0, one, two)] == [[4, 8], [8, 0]]
    assert [values.tolist() for values in smoothed(1, two, one)] == [[8, 0], [4, 8]]
    assert [values.tolist() for values in smoothed(0, two, one)] == [[5, 6], [7, 2]]
    smoothed.reset()
    assert [values.tolist() for values in smoothed(0, two, one)] == [[8, 0], [4, 8]]


def test_of_what_flickers_smoothing_leaves_the_variance_of_an_exponential_average():
    generator, smoothed = np.random.default_rng(0), SmoothedStatistics(0.8)

    means = np.array([smoothed(0, generator.normal(size=1), np.ones(1))[0][0] for _ in range(20_000)])

    assert means[100:].var() == pytest.approx((1 - 0.8) / (1 + 0.8), rel=0.05)


def test_without_smoothing_statistics_are_those_of_the_frame():
    smoothed = SmoothedStatistics(0)
    smoothed(0, np.ones(3), np.ones(3))

    mean, variance = smoothed(0, np.zeros(3), np.full(3, 2.0))

    assert (mean.tolist(), variance.tolist()) == ([0] * 3, [2] * 3)


@pytest.mark.parametrize("smooth", [-0.1, 1, float("nan")])
def test_smoothing_outside_its_range_is_a_usage_error(smooth):
    with pytest.raises(UsageError, match="--smooth is"):
        SmoothedStatistics(smooth)
