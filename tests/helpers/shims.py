"""Libraries that are preloaded into a process to stand between it and the system."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.material import PROGRAMS


def shim(name: str, folder: Path) -> Path:
    """The compiled library; skips the test where there can be none."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("a preloaded library needs Linux and a C compiler")
    library = folder / f"{name}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, PROGRAMS / f"{name}.c"], check=True)
    return library
