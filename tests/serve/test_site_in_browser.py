"""The page of a static host in a real browser: it paints there, asks nobody else, and goes on without a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.hosts import HOSTS

from fastnst.serve.published import published_styles
from fastnst.serve.runtime import runtime_folder
from fastnst.serve.site import site_files, write_site

PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """A browser that has seen nothing."""
    chromium = shutil.which("chromium")
    if chromium is None or runtime_folder() is None:
        pytest.skip("this needs chromium, and what npm ci installs")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with browser.new_context() as opened:
            opened.set_default_timeout(PATIENCE)
            yield opened
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's folder with the site at two places."""
    folder = tmp_path_factory.mktemp("host")
    files = site_files(published_styles(["great-wave-tiny"]), runtime=runtime_folder(), api=False)
    for place in (folder, folder / "art" / "paint"):
        write_site(place, files, overwrite=True)
    return folder


class Watched:
    """A page, whose complaints and requests are noted."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str) -> str:
        """Let the page come up and paint its example; what it says of how."""
        self.page.goto(address)
        self.page.wait_for_selector("body[data-idle]")
        self.page.locator("#after").wait_for(state="visible")
        return self.page.inner_text("#engine")


# Each host at both places is the business of test_site.py.
@pytest.mark.parametrize(("host", "below"), [("python", ""), ("node", "art/paint/")])
def test_it_paints_in_the_browser_wherever_it_lies(host, below, folder, context):
    with HOSTS[host](folder) as address:
        watched = Watched(context)
        try:
            engine = watched.open(f"{address}/{below}")
        finally:
            watched.page.close()

    assert engine.startswith("Painted in this browser")
    assert watched.errors == []
    assert [url for url in watched.asked if not url.startswith((f"{address}/{below}", "blob:", "data:"))] == []


def test_it_goes_on_without_a_network_and_with_threads(folder, context):
    kept = """async () => {
        const urls = (await (await caches.open("fastnst")).keys()).map(({ url }) => url);
        return ["ort-wasm-simd-threaded.wasm", ".onnx", ".jpg"].every((end) => urls.some((url) => url.endsWith(end)));
    }"""
    watched = Watched(context)
    try:
        with HOSTS["python"](folder) as address:
            watched.open(address + "/art/paint/")
            watched.page.wait_for_function("self.crossOriginIsolated")  # it loads itself anew for that
            watched.page.wait_for_function(kept)
        engine = watched.open(address + "/art/paint/")
        watched.page.click("#try")
        watched.page.locator("#cards button").first.click()
        watched.page.wait_for_selector("body[data-state=done]")

        assert "WebAssembly" in engine
        assert "painted in this browser" in watched.page.inner_text("#facts")
        assert watched.page.evaluate("self.crossOriginIsolated")
    finally:
        watched.page.close()
