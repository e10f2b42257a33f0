"""The page's own arithmetic against Python's, on the same pixels."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from helpers.material import PHOTOS
from PIL import Image
from playwright.sync_api import Browser
from serve.browser import UNPACK, Visit, chromium, difference, hosted, pixels_of, rgba, runtime, text_of, visiting

from fastnst.compose import enlarge, keep_histogram_colors, keep_luma_colors, natural_mix
from fastnst.engine import OnnxEngine, mixed, open_engine
from fastnst.image import Picture, Pixels, encode_picture, read_picture, resize, shrink, to_array, to_pixels
from fastnst.nets.onnx_graph import build
from fastnst.nets.spec import GRAIN
from fastnst.serve.published import published_styles
from fastnst.serve.site import site_files
from fastnst.styles import bundled_style

LEVELS = 1  # gray levels that rounding may differ by


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Visit]:
    files = site_files(published_styles(["great-wave-tiny"]), runtime=runtime(), api=True)
    with hosted(files) as host, visiting(browser, host.url, wait=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures() -> tuple[Pixels, Pixels]:
    """A photo and another one in place of its painting, of odd sides."""
    return tuple(read_picture(PHOTOS / name).rgb[:171, :213].copy() for name in ("castle.jpg", "macaw.jpg"))


class TestCompose:
    @pytest.mark.parametrize("size", [(60, 71), (214, 266), (171, 100), (300, 213)])
    def test_lanczos_is_pillow_s_to_the_last_bit(self, visit, pictures, size):
        body = UNPACK + "return pack(await it.resize(unpack(given.picture), given.width, given.height));"
        given = {"picture": rgba(pictures[0]), "width": size[1], "height": size[0]}

        assert np.array_equal(
            pixels_of(visit.module("resize.js", body, given)), resize(Picture(pictures[0]), *size).rgb
        )

    def test_a_longest_side_is_rounded_as_in_python(self, visit, pictures):
        made = visit.module(
            "resize.js", UNPACK + "return pack(await it.shrink(unpack(given), 101));", rgba(pictures[0])
        )

        assert np.array_equal(pixels_of(made), shrink(Picture(pictures[0]), 101).rgb)

    @pytest.mark.parametrize("strength", [0, 0.3, 0.85, 1])
    def test_strength(self, visit, pictures, strength):
        body = UNPACK + "return pack(await it.naturalMix(unpack(given.before), unpack(given.after), given.strength));"
        given = {"before": rgba(pictures[0]), "after": rgba(pictures[1]), "strength": strength}
        mean, most = difference(pixels_of(visit.module("compose.js", body, given)), natural_mix(*pictures, strength))

        assert mean < 0.01
        assert most <= LEVELS

    @pytest.mark.parametrize("size", [(188, 235), (427, 532)])
    def test_large_strokes(self, visit, pictures, size):
        body = UNPACK + "return pack(await it.enlarge(unpack(given.picture), given.width, given.height));"
        given = {"picture": rgba(pictures[1]), "width": size[1], "height": size[0]}
        mean, most = difference(pixels_of(visit.module("compose.js", body, given)), enlarge(pictures[1], size))

        assert mean < 0.01
        assert most <= LEVELS

    @pytest.mark.parametrize(
        ("name", "function"), [("keepLumaColors", keep_luma_colors), ("keepHistogramColors", keep_histogram_colors)]
    )
    def test_colors(self, visit, pictures, name, function: Callable[[Pixels, Pixels], Pixels]):
        body = UNPACK + f"return pack(await it.{name}(unpack(given.before), unpack(given.after)));"
        for before, after in (pictures, pictures[::-1]):
            made = visit.module("colors.js", body, {"before": rgba(before), "after": rgba(after)})
            mean, most = difference(pixels_of(made), function(before, after))

            assert mean < 0.01
            assert most <= LEVELS

    def test_colors_of_gray_pictures_stay_finite(self, visit):
        gray = np.full((20, 30, 3), 128, np.uint8)
        ramp = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None] * 12, 30, 1).repeat(3, 2)
        body = UNPACK + "return pack(await it.keepHistogramColors(unpack(given.before), unpack(given.after)));"
        made = visit.module("colors.js", body, {"before": rgba(gray), "after": rgba(ramp)})

        assert difference(pixels_of(made), keep_histogram_colors(gray, ramp))[1] <= LEVELS


ENCODED = UNPACK + "const encoded = async (blob) => text(new Uint8Array(await blob.arrayBuffer()));"


class TestEncode:
    def test_png_holds_every_pixel_and_the_colors_of_what_is_transparent(self, visit, pictures):
        alpha = np.arange(pictures[0][..., 0].size, dtype=np.uint32).reshape(pictures[0].shape[:2]).astype(np.uint8)
        body = ENCODED + "return encoded(await it.encodePng(unpack(given.picture), bytes(given.alpha)));"
        data = visit.module("png.js", body, {"picture": rgba(pictures[0]), "alpha": text_of(alpha.tobytes())})
        image = Image.open(BytesIO(base64.b64decode(data)))

        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image), np.dstack([pictures[0], alpha]))

    def test_jpeg_has_the_pixels_of_the_command_line_s(self, visit, pictures):
        body = ENCODED + "return encoded(await it.encodeJpeg(unpack(given), 92));"
        image = Image.open(BytesIO(base64.b64decode(visit.module("jpeg.js", body, rgba(pictures[0])))))
        wanted = Image.open(BytesIO(encode_picture(Picture(pictures[0]), "JPEG", 92)))

        assert difference(np.asarray(image), np.asarray(wanted))[1] <= LEVELS


# Paint whole and in parts with the page's modules: bytes of a file in base64 -> both as numbers, and the progress.
PAINT = (
    UNPACK
    + """
const { Runtime } = await import(new URL("runtime.js", at));
const folder = new URL("runtime/1.30.0/", document.baseURI).href;
globalThis.runtime ??= await Runtime.open(folder, "wasm", 1);
"""
)
WHOLE_AND_PARTS = (
    PAINT
    + """
const picture = unpack(given.picture);
const network = new it.Network(runtime, bytes(given.file));
const shares = [];
const parted = new it.Network(runtime, bytes(given.file), 0);
const parts = pack(await parted.paint(picture, (share) => { shares.push(share); }));
const whole = pack(await network.paint(picture));
await Promise.all([network, parted].map((each) => each.release({ all: true })));
return { whole, parts, shares, inParts: parted.inParts };
"""
)


def file_of(name: str, form: str) -> bytes:
    """A style as it is bundled, or as it is exported."""
    if form == "bundled":
        return bundled_style(name).onnx.read_bytes()
    engine = open_engine(name, "onnx", "cpu")
    assert isinstance(engine, OnnxEngine)
    network = engine.banded
    config = replace(network.config, grain=GRAIN) if form == "grain" else network.config
    return build(config, network.weights, metadata=engine.metadata, uint8=form == "uint8")


class TestNetwork:
    @pytest.mark.parametrize(
        ("name", "form"),
        [
            ("great-wave", "bundled"),
            ("great-wave-tiny", "exported"),
            ("great-wave-tiny", "uint8"),
            ("great-wave-tiny", "grain"),
            ("great-wave-base", "exported"),
        ],
    )
    def test_parts_paint_what_the_whole_paints_and_what_python_does(self, visit, pictures, name, form, tmp_path):
        data = file_of(name, form)
        content = pictures[0][:75, :91]
        given = {"picture": rgba(content), "file": text_of(data)}
        made = visit.module("network.js", WHOLE_AND_PARTS, given)
        engine = OnnxEngine(tmp_path / "style.onnx", "cpu", data=data)
        wanted = to_pixels(engine(to_array(content)))

        assert made["inParts"]
        assert len(made["shares"]) >= 8
        assert made["shares"] == sorted(made["shares"])
        assert made["whole"] == made["parts"]
        assert difference(pixels_of(made["whole"]), wanted)[1] <= LEVELS

    def test_a_graph_of_unknown_operators_is_painted_whole(self, visit, pictures):
        data = file_of("great-wave-tiny", "bundled").replace(b"Tanh", b"Sinh")
        body = PAINT + "return new it.Network(runtime, bytes(given)).inParts;"

        assert visit.module("network.js", body, text_of(data)) is False

    @pytest.mark.parametrize(
        "names",
        [
            ["great-wave", "composition-viii"],
            ["church-at-auvers-base", "great-wave-base"],  # one with a margin, one without
        ],
    )
    def test_two_styles_mix_as_in_python(self, visit, pictures, names):
        shares = [0.7, 0.3]
        body = (
            PAINT
            + """
const { readModel } = await import(new URL("onnx.js", at));
const { mixed } = await import(new URL("mix.js", at));
const file = mixed(...given.files.map((file) => readModel(bytes(file))), 0.3);
return pack(await new it.Network(runtime, file).paint(unpack(given.picture)));
"""
        )
        files = [text_of(file_of(name, "bundled")) for name in names]
        made = visit.module("network.js", body, {"picture": rgba(pictures[0]), "files": files})
        engine = mixed([open_engine(name, "onnx", "cpu") for name in names], shares, names)

        assert difference(pixels_of(made), to_pixels(engine(to_array(pictures[0]))))[1] <= LEVELS

    def test_styles_of_different_shapes_do_not_mix(self, visit):
        body = (
            UNPACK
            + """
const { mixed } = await import(new URL("mix.js", at));
try { mixed(...given.map((file) => it.readModel(bytes(file))), 0.5); } catch (error) { return error.message; }
"""
        )
        files = [text_of(file_of(name, "bundled")) for name in ("great-wave", "great-wave-tiny")]

        assert "different shapes" in visit.module("onnx.js", body, files)

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda data: b"", "not an ONNX file"),
            (lambda data: b"\x89PNG\r\n" + data[:500], "not a readable ONNX file"),
            (lambda data: data[: len(data) // 2], "not a readable ONNX file"),
            (lambda data: data.replace(b"fastnst", b"another"), "not exported by fastnst"),
        ],
    )
    def test_files_that_are_no_styles_are_refused(self, visit, damage, said):
        data = text_of(damage(file_of("great-wave-tiny", "bundled")))
        body = PAINT + "try { new it.Network(runtime, bytes(given)); } catch (error) { return error.message; }"

        assert said in visit.module("network.js", body, data)
