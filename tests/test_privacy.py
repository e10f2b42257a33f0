"""Nothing is sent, and nothing is written but what was asked for: watched from below, where libraries cannot hide."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.material import PHOTOS, ROOT
from helpers.shims import shim

# Names of folders that programs keep things of their own in; all of them are empty at first.
HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "LOCALAPPDATA", "APPDATA")
OBSERVED = 11  # seconds after which ONNX Runtime has tried to send what it gathered

# What users run; STYLE and PHOTO are files.
USED = {
    "command line": (
        "import os, sys; from fastnst.cli.main import main\n"
        "assert main(['stylize', PHOTO, '-o', os.path.abspath('a.png'), '--style', STYLE, '--max-size', '64']) == 0"
    ),
    "ONNX Runtime after fastnst": "import fastnst, onnxruntime; onnxruntime.InferenceSession(STYLE)",
    "export": "from fastnst.export import export; export(STYLE.replace('.onnx', '.safetensors'), 'a.onnx')",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What notes look-ups of names."""
    return shim("lookups", tmp_path_factory.mktemp("shim"))


class Watched:
    """A Python program whose look-ups are noted and whose home is empty, or no folder at all."""

    def __init__(self, library: Path, folder: Path, program: str, *, home: bool = True) -> None:
        self.folder, self.lookups = folder, folder / "lookups"
        (folder / "work").mkdir(parents=True)
        homes = {name: folder / "home" / name.lower() if home else Path(os.devnull, name) for name in HOMES}
        for path in homes.values() if home else ():
            path.mkdir(parents=True)
        environment = {
            **{name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"},
            **{name: os.fspath(path) for name, path in homes.items()},
            "LD_PRELOAD": os.fspath(library),
            "LOOKUPS": os.fspath(self.lookups),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.fspath(ROOT),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=folder / "work",
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def end(self) -> tuple[list[str], list[str], bytes]:
        """Names that were looked up, what was left at home and in the working folder, and what was said."""
        _, said = self.process.communicate(timeout=120)
        names = self.lookups.read_text().split() if self.lookups.exists() else []
        left = [*self.folder.glob("home/*/**/*"), *self.folder.glob("work/**/*")]
        return names, [path.name for path in left if path != self.folder / "work"], said


def test_a_look_up_is_noticed(library, tmp_path):
    program = Watched(
        library,
        tmp_path,
        "import socket, contextlib\nwith contextlib.suppress(OSError): socket.getaddrinfo('example.invalid', 80)\n"
        "with contextlib.suppress(OSError): socket.gethostbyname('example.invalid')",
    )

    assert set(program.end()[0]) == {"example.invalid"}


def test_nothing_is_looked_up_and_nothing_is_left_at_home(library, onnx_style, tmp_path):
    names = {"STYLE": str(onnx_style), "PHOTO": str(PHOTOS / "cat.jpg")}
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    waiting = f"\nimport time; time.sleep({OBSERVED})"

    programs = {name: Watched(library, tmp_path / name, given + program + waiting) for name, program in USED.items()}
    programs["no home"] = Watched(library, tmp_path / "no home", given + USED["command line"], home=False)
    found = {name: program.end() for name, program in programs.items()}

    # What was asked for is there, and nothing else.
    made = {"command line": ["a.png"], "export": ["a.onnx"], "no home": ["a.png"]}
    assert found == {name: ([], made.get(name, []), b"") for name in programs}


def test_one_function_imports_onnx_runtime():
    importing = []
    for path in [*(ROOT / "fastnst").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            importing += [path.name for name in names if name.split(".")[0] == "onnxruntime"]

    assert importing == ["device.py"]
