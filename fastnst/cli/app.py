"""The application, its groups of commands, and how much is said on stderr."""

import logging
import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter

import fastnst
from fastnst.config.shared import COMMON

app = App(
    name="fastnst",
    version=fastnst.__version__,
    help=(
        "Train a network to paint in one style, paint any picture in one pass, export it to ONNX.\n\n"
        "First painting: fastnst stylize photo.jpg -o painting.jpg"
    ),
    version_flags=["--version", "-V"],
    help_flags=["--help", "-h"],
    default_parameter=Parameter(negative_iterable=(), consume_multiple=True),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
benchmark = App(name="benchmark", help="Time training and stylizing on this machine.")
app.command(benchmark)
visualize = App(name="visualize", help="Look inside the loss network: its filters, and its features of a picture.")
app.command(visualize)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Verbosity:
    """How much is said on stderr."""

    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative="", group=COMMON)] = False
    """say more, and show where errors come from"""
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative="", group=COMMON)] = False
    """say nothing but errors"""

    def start(self) -> None:
        level = logging.INFO if self.verbose else logging.ERROR if self.quiet else logging.WARNING
        logging.basicConfig(level=level, format="fastnst: %(message)s", stream=sys.stderr, force=True)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JsonVerbosity(Verbosity):
    """The same for commands whose results can be read by programs."""

    as_json: Annotated[bool, Parameter(name="--json", negative="", group=COMMON)] = False
    """print results as JSON"""
