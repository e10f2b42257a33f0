"""A real browser, and the page for it to open."""

import base64
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from fastnst.serve.runtime import runtime_folder
from fastnst.serve.site import StaticFile

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PATIENCE = 60_000  # milliseconds for what takes a few seconds on an idle machine

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window; skips where it is missing."""
    if not CHROMIUM.is_file():
        pytest.skip(f"the page is tried in {CHROMIUM}; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def runtime() -> Path:
    """The folder of onnxruntime-web; skips where it is missing."""
    folder = runtime_folder()
    if folder is None:
        pytest.skip("the page paints with onnxruntime-web; fetch it with: npm ci")
    return folder


class Host:
    """A static host of the page: `url`, what was asked of it in `asked`; `end` takes it off the network."""

    def __init__(self, files: Mapping[str, StaticFile], headers: Mapping[str, str] = ISOLATION) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.partition("?")[0].lstrip("/") or "index.html"
                asked.append(name)
                file = files.get(name)
                content = b"" if file is None else file.content
                content = content if isinstance(content, bytes) else content.read_bytes()
                self.send_response(200 if file else 404)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Content-Type", file.media_type if file else "text/plain")
                for header, value in headers.items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def hosted(files: Mapping[str, StaticFile], headers: Mapping[str, str] = ISOLATION) -> Iterator[Host]:
    host = Host(files, headers)
    try:
        yield host
    finally:
        host.end()


class Visit:
    """The page, open in a browser, with what a visitor does; errors and requests to other hosts are collected."""

    def __init__(self, browser: Browser, url: str, *, wait: bool = True, script: str = "", **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(permissions=["camera"], **options)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.url = url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.context.on("request", self._note)
        if script:
            self.page.add_init_script(script)
        self.page.goto(url)
        self.page.wait_for_selector("body[data-loaded]")
        if wait:
            self.idle()

    def _note(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:" + self.url, "data:")):
            self.foreign.append(request.url)

    def idle(self) -> None:
        """Wait until the runtime is there and the example is painted."""
        self.page.wait_for_selector("body[data-idle]")

    def give(self, picture: Path | bytes, name: str = "picture.png", kind: str = "image/png") -> None:
        """Choose a picture."""
        if isinstance(picture, Path):
            self.page.set_input_files("#file", picture)
        else:
            self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": picture})

    def cards(self) -> None:
        """Wait until all cards are painted."""
        self.page.wait_for_selector(".card canvas")
        expect(self.page.locator(".picture.waiting")).to_have_count(0, timeout=PATIENCE)

    def choose(self, style: str) -> None:
        """Press a card and wait for the painting at full size."""
        self.page.click(f".card[data-style={style}]")
        self.done()

    def done(self) -> None:
        self.page.wait_for_selector("body[data-state=done]")

    def download(self, button: str) -> bytes:
        with self.page.expect_download() as waiting:
            self.page.click(button)
        return Path(waiting.value.path()).read_bytes()

    def notice(self) -> str:
        """What the page says went wrong."""
        self.page.wait_for_selector("#notice:not([hidden])")
        return self.page.inner_text("#notice-text")

    def slide(self, control: str, value: int) -> None:
        """Move a slider and let it go."""
        self.page.fill(f"#{control}", str(value))

    def module(self, name: str, body: str, argument: object = None) -> Any:
        """What a function body gives that has the exports of a module as `it` and an argument as `given`."""
        source = f"async ({{ at, given }}) => {{ const it = await import(at); {body} }}"
        return self.page.evaluate(source, {"at": self.asset(name), "given": argument})

    def asset(self, name: str) -> str:
        """The address of a file of the page."""
        return str(
            self.page.evaluate("(name) => new URL(name, document.querySelector('script[type=module]').src).href", name)
        )

    def anew(self) -> None:
        """Begin again, as a visitor would."""
        if self.page.get_attribute("body", "data-state") != "empty":
            self.page.click("#start-over")
        self.page.evaluate("document.getElementById('notice').hidden = true")

    def end(self) -> None:
        self.context.close()


@contextmanager
def visiting(browser: Browser, url: str, *, errors: str = "", **options: Any) -> Iterator[Visit]:
    """A visit during which nothing leaves the origin, and no error is printed but those of a pattern."""
    visit = Visit(browser, url, **options)
    try:
        yield visit
        assert visit.foreign == []
        assert [error for error in visit.errors if not errors or not re.search(errors, error)] == [], visit.errors
    finally:
        visit.end()


def rgba(pixels: np.ndarray) -> dict[str, Any]:
    """uint8 (H, W, 3) as what `unpack` makes a picture of in the page."""
    height, width = pixels.shape[:2]
    opaque = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    return {"width": width, "height": height, "text": text_of(opaque.tobytes())}


def text_of(data: bytes) -> str:
    """Bytes as what `bytes` reads in the page."""
    return base64.b64encode(data).decode()


# In the page: a picture of what `rgba` made, and pixels back; numbers one by one would take seconds.
UNPACK = """
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const text = (data) => {
  let letters = "";
  for (let at = 0; at < data.length; at += 8192) letters += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(letters);
};
const unpack = (packed) => ({ ...packed, data: new Uint8ClampedArray(bytes(packed.text).buffer) });
const pack = ({ width, height, data }) => ({ width, height, text: text(data) });
"""


def pixels_of(packed: Mapping[str, Any]) -> np.ndarray:
    """uint8 (H, W, 3) of what `pack` made in the page."""
    values = np.frombuffer(base64.b64decode(packed["text"]), np.uint8)
    return values.reshape(packed["height"], packed["width"], 4)[..., :3]


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """The mean and the largest difference of uint8 pixels."""
    assert one.shape == other.shape
    away = np.abs(one.astype(int) - other.astype(int))
    return float(away.mean()), int(away.max())
