from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.material import PHOTOS
from helpers.photos import noise, noise_file
from PIL import Image

from fastnst import stylize
from fastnst.config import StylizeOptions
from fastnst.engine import Stop
from fastnst.errors import FastnstError, InputError, StoppedError, UsageError
from fastnst.image import Picture, read_picture, resize
from fastnst.stylize import Hooks, Stylizer, inside_and_outside

OPTIONS = StylizeOptions()


def negative(images):
    return 1 - images


def test_stylize_takes_whatever_is_a_picture(tmp_path):
    rgb, path = noise(), noise_file(tmp_path / "a.png")

    for source in (path, path.read_bytes(), Image.fromarray(rgb), rgb / 255, Picture(rgb)):
        np.testing.assert_array_equal(np.asarray(Stylizer(negative).stylize(source)), 255 - rgb)


def test_options_of_another_kind_are_a_usage_error():
    with pytest.raises(UsageError, match="options are a dict but must be StylizeOptions"):
        Stylizer(negative).stylize(noise(), {"strength": 0.5})


@pytest.mark.parametrize(
    ("pictures", "reason"),
    [
        ([noise()], r"an array of uint8 \(20, 24, 3\) is no Picture"),
        ([], "must have one size, got none"),
        ([Picture(noise()), Picture(noise(30, 24))], "must have one size, got 24x20, 24x30"),
    ],
)
def test_pictures_at_once_are_decoded_and_of_one_size(pictures, reason):
    with pytest.raises(UsageError, match=reason):
        Stylizer(negative).stylize_pictures(pictures)


def test_too_small_an_image_is_an_input_error():
    with pytest.raises(InputError, match="24x15 pixels but at least 16x16"):
        Stylizer(negative).stylize(Image.fromarray(noise(15)))


def test_transparency_comes_back_unchanged():
    image = Image.fromarray(noise()).convert("RGBA")
    alpha = noise(seed=1)[..., 0]
    image.putalpha(Image.fromarray(alpha))

    painted = Stylizer(negative).stylize(image)

    np.testing.assert_array_equal(np.asarray(painted.getchannel("A")), alpha)


@pytest.mark.parametrize("size", [(17, 1023), (481, 640), (16, 16), (31, 37), (65, 97)])
def test_painting_has_exactly_the_size_of_the_photo(size, onnx_style):
    painted = Stylizer.open(onnx_style).stylize(noise(*size))

    assert (painted.height, painted.width) == size


def test_max_size_scales_down_before_painting():
    sizes = []

    def engine(images):
        sizes.append(images.shape)
        return images

    painted = Stylizer(engine).stylize(noise(60, 90), StylizeOptions(max_size=45))

    assert sizes == [(1, 3, 30, 45)]
    assert painted.size == (45, 30)


def test_strength_zero_gives_back_the_photo():
    painted = Stylizer(negative).stylize(noise(), StylizeOptions(strength=0))

    np.testing.assert_array_equal(np.asarray(painted), noise())


@pytest.mark.parametrize("preserve_color", ["luma", "histogram"])
def test_colors_are_preserved_before_strength_is_applied(preserve_color):
    def painted(strength):
        options = StylizeOptions(preserve_color=preserve_color, strength=strength, strength_mode="fade")
        return np.asarray(Stylizer(negative).stylize(noise(), options)).astype(int)

    np.testing.assert_allclose(painted(0.5), (noise() + painted(1.0)) / 2, atol=0.5)  # rounding


def test_engine_that_paints_no_numbers_is_an_error():
    with pytest.raises(FastnstError, match="not numbers"):
        Stylizer(lambda images: images * np.float32("nan")).stylize_picture(Picture(noise()))


def test_pictures_beyond_the_limit_are_painted_in_bands_if_asked_for(tmp_path, monkeypatch):
    path = noise_file(tmp_path / "in" / "b.png")
    monkeypatch.setattr(stylize, "LIMITS", replace(stylize.LIMITS, pixels=400))
    style = Stylizer.open("great-wave-tiny")

    with pytest.raises(InputError, match=r"in/b\.png is .* or paint it in bands with --tile 256"):
        style.stylize(path)

    assert style.stylize(path, StylizeOptions(tile=64)).size == (24, 20)


def test_pictures_are_painted_in_bands_when_memory_is_short(monkeypatch, caplog):
    caplog.set_level("INFO")
    style, rgb = Stylizer.open("great-wave-tiny"), noise(90, 70)
    whole = np.asarray(style.stylize(rgb)).astype(int)
    assert "bands" not in caplog.text

    monkeypatch.setattr(stylize, "ALWAYS_WHOLE", 0)
    monkeypatch.setattr(stylize, "free_memory", lambda: 1 << 20)
    painted = np.asarray(style.stylize(rgb))

    assert "70x90 pixels at once would take" in caplog.text
    assert np.abs(painted - whole).max() <= 1


def test_memory_does_not_matter_to_a_style_that_has_no_layers(monkeypatch):
    class Foreign:
        __call__ = staticmethod(negative)

        @property
        def banded(self):
            raise UsageError("not exported by fastnst")

    monkeypatch.setattr(stylize, "ALWAYS_WHOLE", 0)
    monkeypatch.setattr(stylize, "free_memory", lambda: 1)

    np.testing.assert_array_equal(np.asarray(Stylizer(Foreign()).stylize(noise())), 255 - noise())
    with pytest.raises(UsageError, match="not exported"):
        Stylizer(Foreign()).stylize(noise(), StylizeOptions(tile=64))


@pytest.mark.parametrize("options", [{}, {"max_size": 40}, {"strength": 0.5, "preserve_color": "luma"}])
def test_pictures_painted_at_once_are_those_painted_one_by_one(onnx_style, options):
    stylizer = Stylizer.open(onnx_style)
    pictures = [read_picture(PHOTOS / f"{name}.jpg") for name in ("owl", "cow")]
    pictures = [resize(picture, 64, 80) for picture in pictures]

    together = stylizer.stylize_pictures(pictures, StylizeOptions(**options))

    for picture, painted in zip(pictures, together, strict=True):
        alone = stylizer.stylize_picture(picture, StylizeOptions(**options))
        assert np.abs(painted.rgb.astype(int) - alone.rgb).max() <= 1


def test_hooks_hear_of_one_call_only():
    shares, seconds = [], []
    style = Stylizer.open("great-wave-tiny")
    hooks = Hooks(on_progress=shares.append, on_busy=seconds.append)

    style.stylize_picture(Picture(noise(40, 50)), StylizeOptions(tile=64), hooks)

    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert len(seconds) == 1
    assert seconds[0] > 0
    before = len(shares)
    style.stylize(noise(40, 50), StylizeOptions(tile=64))
    assert (len(shares), len(seconds)) == (before, 1)


def test_hooks_change_the_statistics_inside_and_outside_the_mask_each_by_its_own(halves):
    asked = {"inside": set(), "outside": set()}

    def moments(where):
        def hear(norm, mean, variance):
            asked[where].add(norm)
            return mean, variance

        return hear

    style = Stylizer.open("great-wave-tiny", outside="great-wave")
    hooks = Hooks(on_moments=moments("inside"), outside_moments=moments("outside"))

    style.stylize_picture(Picture(noise()), StylizeOptions(mask=halves), hooks)

    assert asked["inside"]
    assert asked["outside"]
    assert asked["inside"] != asked["outside"]


@pytest.mark.parametrize("options", [StylizeOptions(), StylizeOptions(tile=64)])
def test_nothing_begins_once_it_is_stopped(options):
    with pytest.raises(FastnstError, match="stylizing was stopped"):
        Stylizer.open("great-wave-tiny").stylize_picture(Picture(noise()), options, Hooks(stopped=lambda: True))


def test_a_picture_in_bands_is_given_up_once_it_is_stopped():
    shares = []
    hooks = Hooks(on_progress=shares.append, stopped=lambda: bool(shares))

    with pytest.raises(FastnstError, match="stylizing was stopped"):
        Stylizer.open("great-wave-tiny").stylize_picture(Picture(noise(200, 200)), StylizeOptions(tile=64), hooks)

    assert len(shares) == 1


def test_the_engine_of_a_style_is_that_inside_the_mask():
    assert Stylizer(negative, same).engine is negative


def test_styles_are_one_or_two_or_all_of_them_mixed(tmp_path):
    masked = StylizeOptions(mask=tmp_path / "mask.png")

    assert inside_and_outside([], StylizeOptions()) == (None, None)
    assert inside_and_outside(["a"], masked) == (["a"], None)
    assert inside_and_outside(["a", "b"], masked) == (["a"], "b")
    assert inside_and_outside(["a", "b"], StylizeOptions(), [1, 2]) == (["a", "b"], None)
    with pytest.raises(UsageError, match="--mix has 1 shares but there are 2 styles"):
        inside_and_outside(["a", "b"], StylizeOptions(), [1])


def test_same_photo_twice_gives_the_same_pixels(onnx_style):
    first, second = (Stylizer.open(onnx_style).stylize(noise(65, 97)) for _ in range(2))

    assert first.tobytes() == second.tobytes()


def test_a_mask_leaves_paper_around_the_shape(tmp_path):
    mask = np.zeros((20, 24), np.uint8)
    mask[5:15, 6:18] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rgb = noise()

    masked = np.asarray(Stylizer(negative).stylize(rgb, StylizeOptions(mask=tmp_path / "mask.png", feather=0)))

    np.testing.assert_array_equal(masked[5:15, 6:18], 255 - rgb[5:15, 6:18])
    assert (masked[mask == 0] == 255).all()


def test_a_mask_follows_a_picture_that_is_scaled_down(tmp_path):
    mask = Image.new("L", (48, 40))
    mask.paste(255, (12, 10, 36, 30))
    mask.save(tmp_path / "mask.png")
    options = StylizeOptions(mask=tmp_path / "mask.png", max_size=24, feather=0)

    masked = np.asarray(Stylizer(negative).stylize(Image.fromarray(noise(40, 48)), options))

    assert masked.shape == (20, 24, 3)
    assert (masked[:4] == 255).all()
    assert (masked[6:14, 8:16] != 255).any()


@pytest.fixture
def halves(tmp_path):
    """A mask of 20x24 pixels: white above, 40 % in a row, black below."""
    mask = np.zeros((20, 24), np.uint8)
    mask[:9], mask[9] = 255, 102
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def same(images):
    return images


def test_a_second_style_paints_what_is_outside_the_mask(halves):
    rgb = noise()

    painted = np.asarray(Stylizer(negative, same).stylize(rgb, StylizeOptions(mask=halves, feather=0)))

    np.testing.assert_array_equal(painted[:9], 255 - rgb[:9])
    np.testing.assert_array_equal(painted[10:], rgb[10:])
    np.testing.assert_allclose(painted[9], 0.4 * (255 - rgb[9].astype(float)) + 0.6 * rgb[9], atol=0.51)


def test_a_second_style_swaps_with_the_first_where_the_mask_is_inverted(halves):
    def painted(inside, outside, invert):
        options = StylizeOptions(mask=halves, invert_mask=invert)
        return np.asarray(Stylizer(inside, outside).stylize(noise(), options)).astype(int)

    assert np.abs(painted(negative, same, False) - painted(same, negative, True)).max() <= 1


def test_a_second_style_is_opened_like_the_first(onnx_style, checkpoint, halves):
    options = StylizeOptions(mask=halves)

    two = Stylizer.open(onnx_style, outside=checkpoint).stylize(noise(), options)

    one = Stylizer.open(onnx_style).stylize(noise())
    assert np.abs(np.asarray(two).astype(int) - np.asarray(one)).max() <= 1  # both files hold the same network


def test_two_styles_need_a_mask_and_no_background(halves):
    with pytest.raises(UsageError, match="give one with --mask"):
        Stylizer(negative, same).stylize(noise())
    with pytest.raises(UsageError, match="a second style or a --background; leave one out"):
        Stylizer(negative, same).stylize(noise(), StylizeOptions(mask=halves, background="photo"))
    with pytest.raises(UsageError, match=r"3 styles are given .* leave out the rest"):
        inside_and_outside(["a", "b", "c"], StylizeOptions(mask=halves))


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 0.4},
        {"strength": 0.4, "strength_mode": "fade"},
        {"stroke": 1.25},
        {"stroke": 0.5, "preserve_color": "luma"},
        {"preserve_color": "histogram"},
        {"mask": True},
        {"mask": True, "background": "photo", "strength": 0.5},
        {"mask": True, "outside": True},
    ],
)
def test_transparency_is_untouched_by_every_control(options, halves):
    image, alpha = Image.fromarray(noise()), Image.fromarray(noise(seed=1)[..., 0])
    image.putalpha(alpha)
    outside = same if options.pop("outside", False) else None
    options = {**options, "mask": halves} if "mask" in options else options

    painted = Stylizer(negative, outside).stylize(image, StylizeOptions(**options))

    np.testing.assert_array_equal(np.asarray(painted.getchannel("A")), np.asarray(alpha))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (60, 90)),
        ({"stroke": 2}, (30, 45)),
        ({"stroke": 3}, (20, 30)),
        ({"stroke": 0.5}, (120, 180)),
        ({"strength": 0.9}, (66, 99)),
        ({"strength": 0.5}, (75, 112)),
        ({"strength": 0.1}, (75, 112)),
        ({"strength": 0.5, "strength_mode": "fade"}, (60, 90)),
        ({"strength": 0.1, "stroke": 0.5}, (120, 180)),  # four times as many pixels at the most
    ],
)
def test_size_at_which_is_painted_follows_strokes_and_strength(options, size):
    sizes = []

    def engine(images):
        sizes.append(images.shape[2:])
        return images

    painted = Stylizer(engine).stylize(noise(60, 90), StylizeOptions(**options))

    assert sizes == [size]
    assert painted.size == (90, 60)


@pytest.mark.parametrize("mode", ["natural", "fade"])
def test_strength_goes_steadily_from_the_photo_to_the_painting(mode):
    rgb = read_picture(PHOTOS / "castle.jpg", max_size=200).rgb
    stylizer = Stylizer.open("great-wave")
    strengths = (0, 0.01, 0.25, 0.5, 0.75, 0.99, 1)

    painted = [
        np.asarray(stylizer.stylize(rgb, StylizeOptions(strength=strength, strength_mode=mode))).astype(int)
        for strength in strengths
    ]

    from_photo = [np.abs(picture - painted[0]).mean() for picture in painted]
    from_painting = [np.abs(picture - painted[-1]).mean() for picture in painted]
    np.testing.assert_array_equal(painted[0], rgb)
    np.testing.assert_array_equal(painted[-1], np.asarray(stylizer.stylize(rgb)))
    assert from_photo == sorted(from_photo)
    assert from_painting == sorted(from_painting, reverse=True)
    assert from_photo[1] < 0.1 * from_photo[-1]
    # Painted a hundredth larger, strokes lie elsewhere: the natural one is compared by its tones.
    near, far = (painted[-1] - painted[index] for index in (-2, 0))
    if mode == "natural":
        near, far = _tones(near), _tones(far)
    assert np.abs(near).mean() < 0.15 * np.abs(far).mean()


def _tones(picture: np.ndarray) -> np.ndarray:
    """The means of areas of 8 pixels."""
    height, width = (side // 8 * 8 for side in picture.shape[:2])
    return picture[:height, :width].reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3))


def test_a_stop_that_is_set_ends_a_whole_picture():
    stop = Stop()
    stop.set()

    with pytest.raises(StoppedError, match="stopped"):
        Stylizer.open("great-wave-tiny").stylize_picture(Picture(noise()), None, Hooks(stop=stop))


def test_pictures_that_take_more_than_the_memory_they_may_are_painted_in_bands():
    stylizer, shares = Stylizer.open("great-wave-tiny"), []
    whole = stylizer.stylize_picture(Picture(noise()), None, Hooks(on_progress=shares.append, memory=1 << 30))
    assert shares == []

    bands = stylizer.stylize_picture(Picture(noise()), None, Hooks(on_progress=shares.append, memory=1))

    assert shares[-1] == 1
    assert np.abs(bands.rgb.astype(int) - whole.rgb).max() <= 1


def test_a_mask_may_be_a_decoded_picture(tmp_path):
    mask = Picture(np.kron(np.eye(2, dtype=np.uint8)[..., None] * 255, np.ones((10, 12, 3), np.uint8)))
    Image.fromarray(mask.rgb).save(tmp_path / "mask.png")
    stylizer = Stylizer.open("great-wave-tiny")
    options = StylizeOptions(mask=tmp_path / "mask.png", background="photo")
    expected = stylizer.stylize_picture(Picture(noise()), options)

    given = stylizer.stylize_picture(Picture(noise()), replace(options, mask=Path("not read")), mask=mask)

    np.testing.assert_array_equal(given.rgb, expected.rgb)
    with pytest.raises(InputError, match="the mask has 24x20 pixels but the picture 20x24"):
        stylizer.stylize_picture(Picture(noise(24, 20)), options, mask=mask)
