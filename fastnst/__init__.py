"""Train a feed-forward network to paint in one style, paint any picture in one pass, export it to ONNX."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnst.errors import FastnstError
    from fastnst.stylize import Stylizer

__version__ = "0.1.0"

__all__ = ["FastnstError", "Stylizer"]

# ONNX Runtime sends what it observes to its makers unless this is set when it is imported, whoever imports it; its
# function that turns this off leaves what it noted until then, a device id and a database in the user's cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_MODULES = {"FastnstError": "fastnst.errors", "Stylizer": "fastnst.stylize"}
_SUBMODULES = {
    "checkpoint",
    "compose",
    "config",
    "data",
    "engine",
    "errors",
    "export",
    "image",
    "info",
    "losses",
    "nets",
    "stylize",
    "styles",
    "train",
    "vgg",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import fastnst` costs nothing and needs neither torch nor onnxruntime."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"fastnst.{name}")
    raise AttributeError(f"module 'fastnst' has no attribute {name!r}")
