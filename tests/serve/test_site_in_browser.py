"""The page of a static host in a real browser: it paints there, asks nobody else, and goes on without a network."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.hosts import HOSTS
from helpers.servers import until
from playwright.sync_api import Browser, Error, Page
from serve.browser import chromium, runtime, visiting

from fastnst.serve.published import published_styles
from fastnst.serve.site import site_files, write_site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's folder with the site at two places."""
    folder = tmp_path_factory.mktemp("host")
    files = site_files(published_styles(["great-wave-tiny"]), runtime=runtime(), api=False)
    for place in (folder, folder / "art" / "paint"):
        write_site(place, files, overwrite=True)
    return folder


@pytest.mark.parametrize("host", HOSTS)
def test_it_paints_in_the_browser_below_a_path(host, folder, browser):
    with HOSTS[host](folder) as address, visiting(browser, f"{address}/art/paint/") as visit:
        visit.page.locator("#after").wait_for(state="visible")

        assert visit.page.inner_text("#engine").startswith("Painted in this browser")


def holds(page: Page, expression: str) -> bool:
    """Whether something is so in a page, which may be loading itself anew right now."""
    try:
        return bool(page.evaluate(expression))
    except Error:
        return False


def test_it_goes_on_without_a_network_and_with_threads(folder, browser):
    kept = """async () => {
        const urls = (await (await caches.open("fastnst")).keys()).map(({ url }) => url);
        return ["ort-wasm-simd-threaded.wasm", ".onnx", ".jpg"].every((end) => urls.some((url) => url.endsWith(end)));
    }"""
    with ExitStack() as network:
        address = network.enter_context(HOSTS["python"](folder))
        with visiting(browser, address + "/") as visit:
            until(lambda: holds(visit.page, "self.crossOriginIsolated"))  # for which it loads itself anew
            until(lambda: holds(visit.page, kept))
            network.close()

            visit.page.reload()
            visit.idle()
            visit.page.click("#try")
            visit.choose("great-wave-tiny")

            assert "painted in this browser" in visit.page.inner_text("#facts")
            assert visit.page.evaluate("self.crossOriginIsolated")
