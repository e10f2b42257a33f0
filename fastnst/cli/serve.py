"""Commands that put styles on the web: serve, site."""

from typing import Annotated

from cyclopts import Parameter

from fastnst.cli.app import Verbosity, app
from fastnst.config import SiteOptions
from fastnst.files import printable


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
