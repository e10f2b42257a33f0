"""The page in a real browser: what visitors do, and what goes wrong for them."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.material import PHOTOS
from PIL import Image
from playwright.sync_api import Browser, expect
from serve.browser import PATIENCE, Host, Visit, chromium, difference, hosted, runtime, visiting

from fastnst.config import ExportOptions, StylizeOptions
from fastnst.image import Picture, encode_picture, read_picture, resize
from fastnst.serve.published import Published, published_styles
from fastnst.serve.runtime import VERSION
from fastnst.serve.site import StaticFile, site_files
from fastnst.styles import bundled_style
from fastnst.stylize import Stylizer

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
MEAN, MOST = 1, 3  # gray levels by which a download may differ from the command line's painting


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def styles() -> list[Published]:
    return published_styles(["great-wave", "poppies", "great-wave-tiny"])


@pytest.fixture(scope="module")
def files(styles) -> dict[str, StaticFile]:
    """The page without a server behind it, and without a service worker."""
    return without_worker(site_files(styles, runtime=runtime(), api=False))


@pytest.fixture(scope="module")
def host(files) -> Iterator[Host]:
    with hosted(files) as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(browser, host) -> Iterator[Visit]:
    with visiting(browser, host.url) as visit:
        yield visit


@pytest.fixture
def visit(opened) -> Visit:
    """The page as it is found; opening it takes a second or two, so that most tests share one."""
    opened.anew()
    return opened


@pytest.fixture(scope="module")
def photo() -> Path:
    return PHOTOS / "cat.jpg"


def without_worker(files: dict[str, StaticFile]) -> dict[str, StaticFile]:
    return quick(files) | {"styles.json": changed(files["styles.json"], offline=False)}


def quick(files: dict[str, StaticFile]) -> dict[str, StaticFile]:
    """The same with a small example, which is painted on each visit."""
    name = next(name for name in files if name.endswith("/example.webp"))
    small = encode_picture(resize(read_picture(PHOTOS / "red-panda.jpg"), 72, 128), "WEBP")
    return files | {name: replace(files[name], content=small)}


def changed(file: StaticFile, **values: object) -> StaticFile:
    assert isinstance(file.content, bytes)
    return replace(file, content=json.dumps(json.loads(file.content) | values).encode())


def photograph(width: int, height: int) -> bytes:
    """A JPEG of any size."""
    picture = resize(read_picture(PHOTOS / "castle.jpg"), height, width)
    return encode_picture(picture, "JPEG", 85)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


class TestPainting:
    def test_a_picture_becomes_small_paintings_and_then_a_large_one_like_the_command_line_s(self, visit, photo):
        expect(visit.page.locator("#engine")).to_contain_text("in this browser")
        expect(visit.page.locator("#privacy")).to_contain_text("stay on this device")
        visit.give(photo)
        visit.cards()
        expect(visit.page.locator(".card canvas")).to_have_count(3)
        visit.choose("poppies")
        expect(visit.page.locator("#title")).to_have_text("Poppies")
        expect(visit.page.locator("#credit")).to_contain_text("Katsushika Hokusai, Poppies, c. 1833")
        expect(visit.page.locator("#facts")).to_contain_text("480 × 360 pixels, painted in this browser")
        png, jpeg = visit.download("#png"), visit.download("#jpeg")

        wanted = Stylizer.open("poppies", engine="onnx").stylize_picture(read_picture(photo))
        for data, format in ((png, "PNG"), (jpeg, "JPEG")):
            assert Image.open(BytesIO(data)).format == format
            mean, most = difference(pixels(data), pixels(encode_picture(wanted, format)))
            assert mean <= MEAN
            assert most <= (MOST if format == "PNG" else 3 * MOST)

    def test_controls_mean_what_they_mean_on_the_command_line(self, visit, photo):
        visit.give(photo)
        visit.choose("great-wave")
        visit.page.select_option("#other", "poppies")
        visit.done()
        visit.slide("share", 30)
        visit.slide("strength", 60)
        visit.slide("stroke", 150)
        visit.page.check("[name=colors][value=luma]", force=True)
        visit.page.wait_for_selector("body[data-state=working]", state="detached")
        visit.done()
        data = visit.download("#png")

        options = StylizeOptions(strength=0.6, stroke=1.5, preserve_color="luma")
        stylizer = Stylizer.open(["great-wave", "poppies"], mix=[0.7, 0.3], engine="onnx")
        wanted = stylizer.stylize_picture(read_picture(photo), options).rgb
        mean, most = difference(pixels(data), wanted)
        assert mean <= MEAN
        # Four controls round one behind the other, which is a little more in one value of half a million.
        assert most <= MOST + 1
        assert np.count_nonzero(abs(pixels(data).astype(int) - wanted) > MOST) <= 5

    def test_transparency_is_kept(self, visit):
        rgb = read_picture(PHOTOS / "owl.jpg").rgb[:120, :160]
        alpha = np.repeat(np.linspace(0, 255, 160).astype(np.uint8)[None], 120, 0)
        data = encode_picture(Picture(rgb, alpha), "PNG")
        visit.give(data)
        visit.choose("great-wave-tiny")
        painted = pixels(visit.download("#png"))

        wanted = np.asarray(Stylizer.open("great-wave-tiny", engine="onnx").stylize(data))
        assert np.array_equal(painted[..., 3], alpha)
        assert difference(painted[..., :3], wanted[..., :3])[0] <= MEAN

    def test_a_control_that_comes_back_to_where_it_was_leaves_no_preview(self, visit, photo):
        visit.give(photo)
        visit.choose("great-wave-tiny")
        box = visit.page.locator("#strength").bounding_box()
        visit.page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
        visit.page.mouse.down()
        visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(visit.page.locator("#strength-value")).not_to_have_text("100 %")
        visit.page.mouse.move(box["x"] + box["width"] + 40, box["y"] + box["height"] / 2)
        visit.page.mouse.up()
        visit.done()
        assert visit.page.evaluate("document.getElementById('after').width") == 480

    def test_a_painting_is_canceled(self, visit):
        visit.give(photograph(1800, 1200), "large.jpg", "image/jpeg")
        visit.cards()
        visit.page.click(".card[data-style=great-wave]")
        expect(visit.page.locator("#percent")).not_to_have_text("Painting, 0 %")
        visit.page.click("#cancel")
        expect(visit.page.locator("body")).to_have_attribute("data-state", "ready")
        expect(visit.page.locator("#progress")).to_be_hidden()
        visit.give(PHOTOS / "cat.jpg")  # and what follows does not wait for it
        visit.choose("great-wave-tiny")

    def test_a_large_photo_is_seen_small_at_once_and_painted_at_a_size_that_the_browser_can(self, browser, host):
        little = "Object.defineProperty(Navigator.prototype, 'deviceMemory', { get: () => 0.1 })"
        with visiting(browser, host.url, wait=False, script=little) as visit:
            visit.give(photograph(5472, 3648), "twenty.jpg", "image/jpeg")
            visit.cards()
            visit.page.click(".card[data-style=great-wave-tiny]")
            assert "20 megapixels, is too large" in visit.notice()
            visit.page.click("#notice-action")
            visit.done()
            width, height = map(int, re.findall(r"\d+", visit.page.inner_text("#facts"))[:2])

        assert 300_000 < width * height < 700_000
        assert abs(width / height - 1.5) < 0.01

    def test_a_picture_is_pasted_and_dropped(self, visit):
        transfer = """async (type) => {
            const canvas = new OffscreenCanvas(64, 48);
            canvas.getContext("2d").fillRect(8, 8, 20, 20);
            const file = new File([await canvas.convertToBlob()], "drawn.png", { type: "image/png" });
            const data = new DataTransfer();
            data.items.add(file);
            const given = type === "paste" ? { clipboardData: data } : { dataTransfer: data };
            const Event = type === "paste" ? ClipboardEvent : DragEvent;
            document.body.dispatchEvent(new Event(type, { ...given, bubbles: true, cancelable: true }));
        }"""
        for kind in ("paste", "drop"):
            visit.anew()
            visit.page.evaluate(transfer, kind)
            expect(visit.page.locator("#before")).to_have_attribute("alt", "The picture: drawn")
            visit.page.wait_for_selector(".card canvas")

    def test_the_example_is_painted_without_a_picture_of_one_s_own_and_all_begins_anew(self, visit):
        visit.choose("great-wave-tiny")
        expect(visit.page.locator("#before")).to_have_attribute("alt", "The picture: panda")
        visit.page.click("#start-over")
        expect(visit.page.locator("#choose")).to_be_focused()
        expect(visit.page.locator("#controls")).to_be_hidden()
        expect(visit.page.locator(".card[aria-pressed=true]")).to_have_count(0)


class TestKeyboard:
    def test_it_does_everything(self, browser, host, photo):
        with visiting(browser, host.url) as visit:
            keys = visit.page.keyboard
            # Interception of file choosers begins a moment after it is asked for, and a key is fast.
            visit.page.on("filechooser", lambda _: None)
            for _ in range(2):
                keys.press("Tab")
            expect(visit.page.locator("#reveal")).to_be_focused()
            keys.press("Tab")
            expect(visit.page.locator("#choose")).to_be_focused()
            with visit.page.expect_file_chooser() as chooser:
                keys.press("Enter")
            chooser.value.set_files(photo)
            expect(visit.page.locator("#wall")).to_be_focused()
            visit.cards()
            keys.press("Tab")
            keys.press("Enter")
            visit.done()
            expect(visit.page.locator(".card[data-style=great-wave]")).to_have_attribute("aria-pressed", "true")
            keys.press("Shift+Tab")
            self.tab_to(visit, "#mixing select", "Shift+Tab")
            self.tab_to(visit, "#strength", "Shift+Tab")
            for _ in range(3):
                keys.press("ArrowLeft")
            expect(visit.page.locator("#strength-value")).to_have_text("97 %")
            visit.done()
            self.tab_to(visit, "#copy", "Shift+Tab")
            self.tab_to(visit, "#zoom", "Shift+Tab")
            keys.press("Enter")
            expect(visit.page.locator("#stage")).to_have_attribute("data-zoom", "true")
            keys.press("Space")
            expect(visit.page.locator("#stage")).to_have_attribute("data-zoom", "false")
            self.tab_to(visit, "#reveal", "Shift+Tab")
            keys.press("End")
            expect(visit.page.locator("#reveal")).to_have_attribute("aria-valuetext", "0 percent painting")
            self.tab_to(visit, "#start-over", "Shift+Tab")
            keys.press("Enter")
            expect(visit.page.locator("body")).to_have_attribute("data-state", "empty")

    def tab_to(self, visit, selector: str, key: str) -> None:
        for _ in range(20):
            if visit.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
            visit.page.keyboard.press(key)
        raise AssertionError(f"{selector} cannot be reached")

    def test_zoom_and_divider_by_mouse(self, visit, photo):
        visit.give(photo)
        visit.choose("great-wave-tiny")
        box = visit.page.locator("#sheet").bounding_box()
        middle = box["y"] + box["height"] / 2
        visit.page.mouse.move(box["x"] + 24, middle)
        visit.page.mouse.down()
        visit.page.mouse.move(box["x"] + 0.4 * box["width"], middle, steps=4)
        visit.page.mouse.up()
        assert 35 <= int(visit.page.input_value("#reveal")) <= 45
        visit.page.mouse.click(box["x"] + 0.7 * box["width"], middle)
        expect(visit.page.locator("#stage")).to_have_attribute("data-zoom", "true")
        assert visit.page.evaluate("document.getElementById('stage').scrollLeft") > 0


class TestOwnStyles:
    def test_a_style_of_one_s_own_is_a_card(self, browser, host, photo, tmp_path):
        from fastnst.export import export

        exported = {}
        for kind in ("float", "uint8"):
            exported[kind] = tmp_path / f"mine-{kind}.onnx"
            export(bundled_style("great-wave-tiny").checkpoint, exported[kind], ExportOptions(uint8=kind == "uint8"))
        with visiting(browser, host.url, wait=False) as visit:
            visit.give(photo)
            for number, (kind, path) in enumerate(exported.items(), 1):
                visit.page.set_input_files("#style-file", path)
                expect(visit.page.locator("#title")).to_have_text(f"mine-{kind}")
                expect(visit.page.locator(f".card[data-style=own-{number}] canvas")).to_be_visible()
                visit.done()
                painted = pixels(visit.download("#png"))
                wanted = Stylizer.open(path, engine="onnx").stylize_picture(read_picture(photo)).rgb
                assert difference(painted, wanted)[1] <= MOST

    def test_other_files_are_refused_in_a_sentence(self, browser, host):
        data = bundled_style("great-wave-tiny").onnx.read_bytes()
        broken = {
            "half.onnx": (data[: len(data) // 2], "not a readable ONNX file"),
            "text.onnx": (b"hello", "not a readable ONNX file"),
            "foreign.onnx": (data.replace(b"fastnst", b"another"), "not exported by fastnst"),
        }
        with visiting(browser, host.url, wait=False) as visit:
            for name, (content, said) in broken.items():
                file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
                visit.page.set_input_files("#style-file", file)
                notice = visit.page.locator("#notice-text")
                expect(notice).to_contain_text(f"{name} is no style")
                expect(notice).to_contain_text(said)
            expect(visit.page.locator(".card")).to_have_count(4)


class TestCamera:
    def test_it_is_painted_live_and_gives_a_picture(self, visit):
        visit.page.click("#photograph")
        visit.page.wait_for_selector("#live-painting:not([hidden])")
        expect(visit.page.locator("#camera-facts")).to_contain_text("frames per second", timeout=PATIENCE)
        expect(visit.page.locator("#live-style")).to_have_value("great-wave-tiny")
        visit.page.click("#still")
        expect(visit.page.locator("#camera")).to_be_hidden()
        expect(visit.page.locator("#before")).to_have_attribute("alt", "The picture: photograph")
        visit.page.wait_for_selector(".card canvas")

    def test_a_camera_that_is_refused_is_explained(self, browser, host):
        refused = """navigator.mediaDevices.getUserMedia = async () => {
            throw new DOMException("no", "NotAllowedError");
        };"""
        with visiting(browser, host.url, wait=False, script=refused) as visit:
            visit.page.click("#photograph")
            expect(visit.page.locator("#camera-facts")).to_contain_text("Allow it beside the address")
            visit.page.keyboard.press("Escape")
            expect(visit.page.locator("#camera")).to_be_hidden()


class TestWrong:
    def test_files_that_are_no_pictures_or_have_no_fitting_size(self, visit):
        small = encode_picture(Picture(np.zeros((9, 40, 3), np.uint8)), "PNG")
        wide = BytesIO()
        Image.new("1", (17_000, 20)).save(wide, "PNG")
        wrong = {
            "notes.txt": (b"hello", "is no picture that this browser can open"),
            "phone.heic": (b"\x00\x00\x00\x18ftypheic", "save it as a JPEG first"),
            "empty.png": (b"", "is empty"),
            "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'/>", "is no picture"),
            "small.png": (small, "at least 16 × 16 are needed"),
            "wide.png": (wide.getvalue(), "Scale it down first"),
        }
        for name, (data, said) in wrong.items():
            kind = "image/svg+xml" if name.endswith("svg") else "image/png"
            visit.give(data, name, kind)
            expect(visit.page.locator("#notice-text")).to_contain_text(said)
            expect(visit.page.locator("#notice-text")).to_contain_text(name)
        expect(visit.page.locator("body")).to_have_attribute("data-state", "empty")

    def test_a_host_that_is_gone_after_loading_stops_only_what_was_not_fetched(self, browser, files, photo):
        host = Host(files)
        try:
            with visiting(browser, host.url, errors="ERR_CONNECTION") as visit:
                host.end()
                visit.give(photo)
                expect(visit.page.locator("#notice-text")).to_contain_text("See whether the network is there")
                expect(visit.page.locator(".card[data-style=great-wave] canvas")).to_be_visible()
                visit.page.click(".card[data-style=poppies]")
                expect(visit.page.locator("body")).to_have_attribute("data-state", "error")
                visit.choose("great-wave")
                expect(visit.page.locator("#notice")).to_be_hidden()
        finally:
            host.end()

    def test_without_a_runtime_or_a_server_the_page_says_so(self, browser, styles, photo):
        files = without_worker(site_files(styles, runtime=None, api=False))
        with hosted(files) as host, visiting(browser, host.url, wait=False) as visit:
            expect(visit.page.locator("#engine")).to_contain_text("This browser cannot paint")
            visit.give(photo)
            assert "no server is here to do it" in visit.notice()


class TestServer:
    def test_it_paints_where_the_runtime_does_not_load(self, browser, server, styles, photo):
        page = without_worker(site_files(styles, runtime=runtime(), api=True))
        del page[f"runtime/{VERSION}/ort-wasm-simd-threaded.wasm"]

        def pass_on(route):
            target = server.url + route.request.url.split("/", 3)[3]
            headers = {"Accept": "image/png", "Content-Type": route.request.headers["content-type"]}
            route.fulfill(response=route.fetch(url=target, headers=headers))

        with (
            hosted(page) as host,
            visiting(browser, host.url, errors="(?i)404|wasm|WebAssembly|falling back", wait=False) as visit,
        ):
            visit.context.route("**/v1/stylize?*", pass_on)
            visit.idle()
            expect(visit.page.locator("#engine")).to_contain_text("pictures are sent to it")
            visit.give(photo)
            visit.page.wait_for_selector(".card canvas")
            visit.choose("great-wave-tiny")
            expect(visit.page.locator("#facts")).to_contain_text("painted on the server")
            png, jpeg = visit.download("#png"), visit.download("#jpeg")

        wanted = Stylizer.open("great-wave-tiny", engine="onnx").stylize_picture(read_picture(photo)).rgb
        assert np.array_equal(pixels(png), wanted)
        assert difference(pixels(jpeg), pixels(encode_picture(Picture(wanted), "JPEG")))[0] <= MEAN

    def test_it_paints_what_is_too_large_for_the_browser(self, browser, server):
        little = "Object.defineProperty(Navigator.prototype, 'deviceMemory', { get: () => 0.05 })"
        with visiting(browser, server.url, wait=False, script=little) as visit:
            expect(visit.page.locator("#privacy")).to_contain_text("too large for this browser")
            visit.give(photograph(1200, 800), "large.jpg", "image/jpeg")
            visit.page.click(".card[data-style=great-wave-tiny]")
            visit.done()
            expect(visit.page.locator("#facts")).to_contain_text("1200 × 800 pixels, painted on the server")
            expect(visit.page.locator(".card[data-style=great-wave] canvas")).to_be_visible()

    def test_the_page_asks_for_the_token_that_it_wants(self, browser, styles, photo):
        page = without_worker(site_files(styles, runtime=None, api=True, token=True))
        given = []

        def answer(route):
            given.append(route.request.headers.get("authorization"))
            if given[-1] != "Bearer right":
                route.fulfill(status=401, content_type="application/problem+json", body="{}")
            else:
                route.fulfill(status=200, content_type="image/png", body=encode_picture(read_picture(photo), "PNG"))

        with hosted(page) as host, visiting(browser, host.url, errors="401", wait=False) as visit:
            visit.context.route("**/v1/stylize?*", answer)
            visit.idle()
            visit.give(photo)
            for token in ("wrong", "right"):
                visit.page.wait_for_selector("#token[open]")
                visit.page.fill("#token-text", token)
                visit.page.keyboard.press("Enter")
            visit.cards()
            visit.choose("poppies")

        assert given[:3] == [None, "Bearer wrong", "Bearer right"]
        assert set(given[3:]) == {"Bearer right"}

    @pytest.mark.parametrize(
        ("status", "problem", "said"),
        [
            (503, {}, "busy; try again in 7 seconds"),
            (422, {"detail": "strength is 2"}, "did not paint it: strength is 2"),
            (None, None, "The server does not answer"),
        ],
    )
    def test_what_it_refuses_is_told(self, browser, styles, photo, status, problem, said):
        def answer(route):
            if status is None:
                route.abort()
            else:
                route.fulfill(status=status, headers={"Retry-After": "7"}, json=problem)

        page = without_worker(site_files(styles, runtime=None, api=True))
        with hosted(page) as host, visiting(browser, host.url, errors="Failed to load", wait=False) as visit:
            visit.context.route("**/v1/stylize?*", answer)
            visit.give(photo)
            expect(visit.page.locator("#notice-text")).to_contain_text(said)


# onnxruntime-web for WebGPU, played by the one for WASM, with another color where it is to paint wrong.
PRETENDED = """
export * from "./ort.wasm.min.mjs";
import * as ort from "./ort.wasm.min.mjs";
const create = (data, options) => ort.InferenceSession.create(data, { enableCpuMemArena: false });
const wrong = (session) => ({
  release: () => session.release(),
  run: async (given) => {
    const made = await session.run(given);
    for (const { data } of Object.values(made).filter(({ type }) => type === "float32")) {
      data.forEach((value, place) => (data[place] = value * SCALE));
    }
    return made;
  },
});
export const InferenceSession = { create: async (data, options) => wrong(await create(data, options)) };
"""
ADAPTER = "Object.defineProperty(Navigator.prototype, 'gpu', { get: () => ({ requestAdapter: async () => ({}) }) })"


class TestWebGpu:
    @pytest.mark.parametrize(("scale", "engine"), [("1", "WebGPU"), ("0.9", "WebAssembly")])
    def test_it_paints_where_it_agrees_with_the_reference(self, browser, files, photo, scale, engine):
        entry = f"runtime/{VERSION}/ort.webgpu.min.mjs"
        pretended = replace(files[entry], content=PRETENDED.replace("SCALE", scale).encode())
        with hosted(files | {entry: pretended}) as host, visiting(browser, host.url, script=ADAPTER) as visit:
            expect(visit.page.locator("#engine")).to_contain_text(f"in this browser, with {engine}")
            visit.give(photo)
            visit.choose("great-wave-tiny")
            expect(visit.page.locator("#facts")).to_contain_text(engine)
            painted = pixels(visit.download("#png"))

        wanted = Stylizer.open("great-wave-tiny", engine="onnx").stylize_picture(read_picture(photo)).rgb
        assert difference(painted, wanted)[1] <= MOST


class TestOffline:
    def test_it_paints_without_a_network_and_with_threads_on_a_plain_host(self, browser, styles, photo):
        files = quick(site_files(styles, runtime=runtime(), api=False))
        host = Host(files, headers={})
        try:
            with visiting(browser, host.url, errors="ERR_CONNECTION", wait=False) as visit:
                visit.page.wait_for_selector("body[data-idle][data-offline=ready]")
                visit.page.reload()
                visit.idle()
                assert visit.page.evaluate("self.crossOriginIsolated")
                host.end()
                visit.page.reload()
                visit.idle()
                expect(visit.page.locator("#engine")).to_contain_text("in this browser, with WebAssembly")
                visit.give(photo)
                visit.choose("poppies")
        finally:
            host.end()


class TestLook:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_nothing_serious(self, browser, host, photo, theme):
        if not AXE.is_file():
            pytest.skip("accessibility is checked by axe-core; fetch it with: npm ci")
        with visiting(browser, host.url, color_scheme=theme, bypass_csp=True, reduced_motion="reduce") as visit:
            visit.page.add_script_tag(path=AXE)
            assert serious(visit) == []
            visit.give(photo)
            visit.choose("great-wave-tiny")
            assert serious(visit) == []
            visit.give(b"no picture", "notes.txt")
            visit.notice()
            assert serious(visit) == []

    @pytest.mark.parametrize("width", [360, 820, 1440])
    def test_nothing_is_wider_than_the_screen(self, visit, photo, width):
        visit.page.set_viewport_size({"width": width, "height": 800})
        self.check(visit)
        visit.give(photo)
        self.check(visit)
        visit.choose("great-wave-tiny")
        self.check(visit)

    def check(self, visit) -> None:
        assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert visit.page.evaluate("document.querySelector('#sheet').getBoundingClientRect().height") <= 800


def serious(visit) -> list[str]:
    """What axe calls serious or worse, in words."""
    found = visit.page.evaluate("axe.run()")
    return [
        f"{one['id']}: {node['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
