import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.material import PHOTOS
from PIL import Image

from fastnst import stylize
from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError, InputError, OutputError, UsageError
from fastnst.image import Picture, read_picture, resize
from fastnst.stylize import IN_HAND, Job, Stylizer, check_styles, plan, run

OPTIONS = StylizeOptions()


def negative(images):
    return 1 - images


def noise(height=20, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo(path, height=20, width=24):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(height, width)).save(path)
    return path


def planned(inputs, output, **options):
    return [(str(job.source), str(job.target)) for job in plan(inputs, output, StylizeOptions(**options))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.jpg", "in/deep/er/c.webp", "in/d.gif"):
        photo(Path(name))
    Path("in/notes.txt").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "pil", "array"])
def test_stylize_takes_what_a_picture_may_be(kind, tmp_path):
    rgb, path = noise(), photo(tmp_path / "a.png")
    sources = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "pil": Image.fromarray(rgb),
        "array": rgb,
    }

    painted = Stylizer(negative).stylize(sources[kind])

    np.testing.assert_array_equal(np.asarray(painted), 255 - rgb)


def test_stylize_takes_a_gray_array():
    gray = noise()[..., 0]

    np.testing.assert_array_equal(np.asarray(Stylizer(negative).stylize(gray))[..., 2], 255 - gray)


@pytest.mark.parametrize("array", [np.zeros((20, 20, 3)), np.zeros(20, np.uint8), np.zeros((1, 20, 20, 3), np.uint8)])
def test_array_of_another_kind_is_a_usage_error(array):
    with pytest.raises(UsageError, match=r"must be uint8 \(H, W, 3\)"):
        Stylizer(negative).stylize(array)


# release test 13
def test_too_small_an_image_is_an_input_error():
    with pytest.raises(InputError, match="24x15 pixels but at least 16x16"):
        Stylizer(negative).stylize(Image.fromarray(noise(15)))


def test_transparency_comes_back_unchanged():
    image = Image.fromarray(noise()).convert("RGBA")
    alpha = noise(seed=1)[..., 0]
    image.putalpha(Image.fromarray(alpha))

    painted = Stylizer(negative).stylize(image)

    np.testing.assert_array_equal(np.asarray(painted.getchannel("A")), alpha)


# release test 21
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


def test_one_file_goes_to_the_file_that_is_named(folder):
    assert planned(["in/a.jpg"], "x/y.png") == [("in/a.jpg", "x/y.png")]


@pytest.mark.parametrize("output", ["out", "out/", "out.v2/", "painted.png/"])
def test_one_file_goes_into_a_folder_under_its_own_name(output, folder):
    assert planned(["in/a.jpg"], output) == [("in/a.jpg", str(Path(output, "a.jpg")))]


def test_one_file_goes_into_an_existing_folder_whatever_its_name(folder):
    Path("out.png").mkdir()

    assert planned(["in/a.jpg"], "out.png") == [("in/a.jpg", "out.png/a.jpg")]


def test_folder_keeps_its_sub_folders_and_formats(folder):
    assert planned(["in"], "out") == [
        ("in/a.jpg", "out/a.jpg"),
        ("in/b.png", "out/b.png"),
        ("in/d.gif", "out/d.png"),
        ("in/deep/er/c.webp", "out/deep/er/c.webp"),
    ]


def test_format_of_a_folder_can_be_chosen(folder):
    assert [target for _, target in planned(["in"], "out", format="webp")] == [
        "out/a.webp",
        "out/b.webp",
        "out/d.webp",
        "out/deep/er/c.webp",
    ]


def test_output_folder_inside_the_input_is_not_painted_again(folder):
    photo(Path("in/out/a.jpg"))

    assert "in/out/a.jpg" not in dict(planned(["in"], "in/out", skip_existing=True))


def test_globs_are_expanded(folder):
    assert planned(["in/*"], "out") == [
        ("in/a.jpg", "out/a.jpg"),
        ("in/b.png", "out/b.png"),
        ("in/d.gif", "out/d.png"),
    ]
    assert planned(["in/**/*.webp"], "out") == [("in/deep/er/c.webp", "out/c.webp")]


def test_name_with_brackets_that_exists_is_no_glob(folder):
    photo(Path("a[1].png"))

    assert planned(["a[1].png"], "out") == [("a[1].png", "out/a[1].png")]


def test_picture_without_a_suffix_is_found_by_its_content(folder):
    Path("in/a.jpg").rename("in/portrait")

    assert ("in/portrait", "out/portrait.png") in planned(["in"], "out")


@pytest.mark.parametrize("inputs", [["in/*.bmp"], ["empty"]])
def test_nothing_to_paint_is_an_input_error(inputs, folder):
    Path("empty").mkdir()

    with pytest.raises(InputError, match="no pictures in"):
        plan(inputs, "out", OPTIONS)


# release test 41
def test_two_inputs_with_one_output_are_a_usage_error(folder):
    photo(Path("other/a.jpg"))

    with pytest.raises(UsageError, match=r"in/a\.jpg and other/a\.jpg would both become out/a\.jpg"):
        plan(["in/a.jpg", "other/a.jpg"], "out", OPTIONS)


@pytest.mark.parametrize("output", ["-", "one.png"])
def test_several_inputs_cannot_go_to_one_output(output, folder):
    with pytest.raises(UsageError, match="several pictures cannot all go to"):
        plan(["in"], output, OPTIONS)


@pytest.mark.parametrize("output", ["a.bmp", "a.tar.gz", ""])
def test_output_with_a_wrong_suffix_is_a_usage_error(output, folder):
    with pytest.raises(UsageError, match="the name must end in"):
        plan(["in/a.jpg"], output, OPTIONS)


def test_standard_input_cannot_go_into_a_folder(folder):
    with pytest.raises(UsageError, match="standard input cannot go into a folder"):
        plan(["-"], "out", OPTIONS)


# release test 28
def test_one_existing_output_refuses_the_whole_folder(folder):
    photo(Path("out/deep/er/c.webp"))

    with pytest.raises(OutputError, match=r"out/deep/er/c\.webp exists already"):
        plan(["in"], "out", OPTIONS)


def test_skip_existing_leaves_out_what_is_painted(folder):
    photo(Path("out/deep/er/c.webp"))

    assert len(planned(["in"], "out", skip_existing=True)) == 3


def test_plan_makes_nothing(folder):
    plan(["in"], "out/new", OPTIONS)

    assert not Path("out").exists()


# release test 29
def test_run_reports_what_fails_and_paints_the_others(folder):
    Path("in/b.png").write_bytes(b"damaged")

    outcomes = list(run(Stylizer(negative), plan(["in"], "out", OPTIONS), OPTIONS))

    assert [type(outcome.error).__name__ for outcome in outcomes] == [
        "NoneType",
        "UnsupportedFormatError",
        "NoneType",
        "NoneType",
    ]
    assert sorted(path.name for path in Path("out").rglob("*.*")) == ["a.jpg", "c.webp", "d.png"]


# release test 29
def test_run_stops_at_the_first_failure_with_fail_fast(folder):
    Path("in/b.png").write_bytes(b"damaged")
    options = StylizeOptions(fail_fast=True)

    outcomes = list(run(Stylizer(negative), plan(["in"], "out", options), options))

    assert [outcome.error is None for outcome in outcomes] == [True, False]


def test_run_raises_what_concerns_every_output(folder):
    jobs = plan(["in"], "out", OPTIONS)
    Path("out").write_bytes(b"in the way")

    with pytest.raises(OutputError, match="cannot make the folder out"):
        list(run(Stylizer(negative), jobs, OPTIONS))


def test_run_paints_many_pictures_in_order_as_one_by_one(folder):
    for index in range(12):
        Image.fromarray(noise(20 + index, 30)).save(f"in/n{index:02}.png")
    jobs = plan(["in"], "out", OPTIONS)
    style = Stylizer.open("great-wave-tiny")

    outcomes = list(run(style, jobs, OPTIONS))

    assert [outcome.job for outcome in outcomes] == jobs
    assert all(outcome.error is None for outcome in outcomes)
    for job in jobs:
        if job.target.suffix == ".png":
            with Image.open(job.target) as written:
                np.testing.assert_array_equal(np.asarray(written), np.asarray(style.stylize(job.source)))


def test_run_paints_one_picture_at_a_time_and_reads_few_ahead(folder):
    for index in range(9):
        Image.fromarray(noise()).save(f"in/n{index}.png")
    at_once, most = 0, 0

    def engine(images):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        painted = negative(images)
        at_once -= 1
        return painted

    style = Stylizer(engine)
    for done, _ in enumerate(run(style, plan(["in"], "out", OPTIONS), OPTIONS), start=1):
        assert len(list(Path("out").rglob("*.*"))) <= done + IN_HAND

    assert most == 1
    assert style.lock.seconds_used > 0


def test_run_that_is_given_up_begins_nothing_more(folder):
    for index in range(20):
        Image.fromarray(noise()).save(f"in/n{index:02}.png")
    outcomes = run(Stylizer(negative), plan(["in"], "out", OPTIONS), OPTIONS)

    next(outcomes)
    outcomes.close()

    assert 1 <= len(list(Path("out").rglob("*.*"))) <= 1 + IN_HAND


def test_pictures_beyond_the_limit_are_painted_in_bands_if_asked_for(folder, monkeypatch):
    monkeypatch.setattr(stylize, "LIMITS", replace(stylize.LIMITS, pixels=400))
    style = Stylizer.open("great-wave-tiny")

    with pytest.raises(InputError, match=r"in/b\.png is .* or paint it in bands with --tile 256"):
        style.stylize("in/b.png")

    assert style.stylize("in/b.png", StylizeOptions(tile=64)).size == (24, 20)


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
        def tiler(self):
            raise UsageError("not exported by fastnst")

    monkeypatch.setattr(stylize, "ALWAYS_WHOLE", 0)
    monkeypatch.setattr(stylize, "free_memory", lambda: 1)

    np.testing.assert_array_equal(np.asarray(Stylizer(Foreign()).stylize(noise())), 255 - noise())
    with pytest.raises(UsageError, match="not exported"):
        Stylizer(Foreign()).stylize(noise(), StylizeOptions(tile=64))


@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_standard_output_gets_the_format_that_is_asked_for(format, folder, capfdbinary):
    jobs = [Job(Path("in/a.jpg"), "-")]

    list(run(Stylizer(negative), jobs, StylizeOptions(format=format)))

    expected = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[format]
    assert Image.open(BytesIO(capfdbinary.readouterr().out)).format == expected


def test_standard_output_gets_every_byte_when_a_write_takes_only_a_part(folder, monkeypatch):
    class Narrow(BytesIO):
        def write(self, data):
            return super().write(data[:100])

    class Text:
        buffer = Narrow()

    monkeypatch.setattr(sys, "stdout", Text)
    list(run(Stylizer(negative), [Job(Path("in/b.png"), "-")], OPTIONS))

    painted = Image.open(Text.buffer)
    np.testing.assert_array_equal(np.asarray(painted), 255 - noise())


# release test 37
@pytest.mark.parametrize("options", [{}, {"max_size": 40}, {"strength": 0.5, "preserve_color": "luma"}])
def test_pictures_painted_at_once_are_those_painted_one_by_one(onnx_style, options):
    stylizer = Stylizer.open(onnx_style)
    pictures = [read_picture(PHOTOS / f"{name}.jpg") for name in ("owl", "cow")]
    pictures = [resize(picture, 64, 80) for picture in pictures]

    together = stylizer.stylize_pictures(pictures, StylizeOptions(**options))

    for picture, painted in zip(pictures, together, strict=True):
        alone = stylizer.stylize_picture(picture, StylizeOptions(**options))
        assert np.abs(painted.rgb.astype(int) - alone.rgb).max() <= 1


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
        check_styles(["a", "b", "c"], StylizeOptions(mask=halves))


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


def test_strokes_too_large_for_a_picture_fail_it_only(tmp_path):
    photos = [photo(tmp_path / "small.png"), photo(tmp_path / "large.png", 60, 90)]
    options = StylizeOptions(stroke=3)

    outcomes = list(run(Stylizer(same), plan(list(map(str, photos)), str(tmp_path / "out"), options), options))

    assert "would be painted at 8x7" in str(outcomes[0].error)
    assert outcomes[1].error is None


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
    assert from_painting[-2] < 0.15 * from_photo[-1]


def test_a_mask_of_another_size_fails_its_picture_only(tmp_path):
    photos = [photo(tmp_path / "small.png"), photo(tmp_path / "large.png", 30, 40)]
    Image.new("L", (24, 20), 255).save(tmp_path / "mask.png")
    options = StylizeOptions(mask=tmp_path / "mask.png")

    outcomes = list(run(Stylizer(negative), plan(list(map(str, photos)), str(tmp_path / "out"), options), options))

    assert outcomes[0].error is None
    assert "has 24x20 pixels but the picture 40x30" in str(outcomes[1].error)
