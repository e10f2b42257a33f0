"""Commands that put styles on the web: serve, site."""

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fastnst.cli.app import Verbosity, app
from fastnst.config import ServeOptions, SiteOptions
from fastnst.files import printable

if TYPE_CHECKING:
    from fastnst.serve.server import Started


@app.command
def serve(options: ServeOptions = ServeOptions(), *, verbosity: Verbosity = Verbosity()) -> int:
    """Show the page on this machine, and paint what requests send to it.

    Each request is a line of JSON on stderr. Ctrl-C or SIGTERM lets what is begun end, a second one does not.
    """
    verbosity.start()
    from fastnst.serve.security import log_line
    from fastnst.serve.server import Hooks
    from fastnst.serve.server import serve as run_service

    def say(text: str) -> None:
        if not verbosity.quiet:
            print(f"fastnst: {text}", file=sys.stderr, flush=True)

    def on_start(started: "Started") -> None:
        say(f"listening on {started.url}")
        say(f"memory stays below {started.bound.total / 1e9:.1f} GB: {started.bound.in_words}")
        if not started.in_browser:
            say("onnxruntime-web is not here, so the page lets this machine paint; npm ci brings it into a checkout")
        if options.open:
            _show(started.url)

    run_service(
        options,
        Hooks(
            on_start,
            on_ready=lambda: say("ready"),
            on_trouble=lambda error: print(f"fastnst: {error}; the service is not ready", file=sys.stderr, flush=True),
            log=(lambda _: None) if verbosity.quiet else log_line,
        ),
    )


def _show(url: str) -> None:
    """Open the browser, which may take its time."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()


@app.command
def site(
    styles: Annotated[list[str] | None, Parameter(name="STYLE", consume_multiple=True)] = None,
    /,
    *,
    options: SiteOptions,
    verbosity: Verbosity = Verbosity(),
) -> int:
    """Write the page as a folder of static files, for any web host; it paints in the visitor's browser.

    Parameters
    ----------
    styles:
        names of bundled styles, .safetensors or .onnx files, or folders of them; the first is shown first
        [default: all bundled ones]
    """
    verbosity.start()
    from fastnst.serve.site import publish

    made = publish(styles or [], options)
    print(f"{printable(made.folder)}: {made.files} files, {made.size / 1e6:.1f} MB")
    return 0
