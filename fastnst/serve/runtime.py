"""Where onnxruntime-web lies, which runs styles in a browser: an npm package that builds fetch, no part of this one."""

import json
from pathlib import Path

VERSION = "1.30.0"

# What a browser asks for: each entry, and the program that it loads with or without WebGPU.
SCRIPTS = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
LICENSE = "LICENSE"  # the package holds none

# What its license wants to go with every copy.
NOTICE = """\
MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

_PACKAGE = Path(__file__).parent.parent


def runtime_folder() -> Path | None:
    """The folder of the files: in an installed package, or where npm puts them in a checkout; None without them."""
    installed = _PACKAGE / "serve" / "runtime"
    return installed if _is_complete(installed) else installed_by_npm(_PACKAGE.parent)


def installed_by_npm(root: Path) -> Path | None:
    """The folder of the files where npm installed them below `root`; None without them all, or of another version."""
    package = root / "node_modules" / "onnxruntime-web"
    try:
        version = json.loads((package / "package.json").read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return package / "dist" if version == VERSION and _is_complete(package / "dist") else None


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SCRIPTS)
