"""Styles and folders apart from those of the machine."""

import os
import subprocess
import sys
from pathlib import Path

GRAY = 1 / 255  # one gray level of 256


def isolated(script: str | Path, *arguments: object, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run Python, a text or a file, in a process of its own, without a GPU."""
    program = [str(script)] if isinstance(script, Path) else ["-c", script]
    command = [sys.executable, *program, *map(str, arguments)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, timeout=120, cwd=cwd, env=environment, check=False)
