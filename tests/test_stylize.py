import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import PHOTOS
from PIL import Image

from fastnst.config import StylizeOptions
from fastnst.errors import FastnstError, InputError, OutputError, UsageError
from fastnst.image import Picture, read_picture, resize
from fastnst.stylize import Job, Stylizer, plan, run

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


def test_stylize_takes_a_grey_array():
    grey = noise()[..., 0]

    np.testing.assert_array_equal(np.asarray(Stylizer(negative).stylize(grey))[..., 2], 255 - grey)


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
        options = StylizeOptions(preserve_color=preserve_color, strength=strength)
        return np.asarray(Stylizer(negative).stylize(noise(), options)).astype(int)

    np.testing.assert_allclose(painted(0.5), (noise() + painted(1.0)) / 2, atol=0.5)  # rounding


def test_engine_that_paints_no_numbers_is_an_error():
    with pytest.raises(FastnstError, match="not numbers"):
        Stylizer(lambda images: images * np.float32("nan")).paint(Picture(noise()))


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

    together = stylizer.paint_many(pictures, StylizeOptions(**options))

    for picture, painted in zip(pictures, together, strict=True):
        alone = stylizer.paint(picture, StylizeOptions(**options))
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


def test_a_mask_of_another_size_fails_its_picture_only(tmp_path):
    photos = [photo(tmp_path / "small.png"), photo(tmp_path / "large.png", 30, 40)]
    Image.new("L", (24, 20), 255).save(tmp_path / "mask.png")
    options = StylizeOptions(mask=tmp_path / "mask.png")

    outcomes = list(run(Stylizer(negative), plan(list(map(str, photos)), str(tmp_path / "out"), options), options))

    assert outcomes[0].error is None
    assert "has 24x20 pixels but the picture 40x30" in str(outcomes[1].error)
