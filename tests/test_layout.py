import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.material import PROGRAMS, ROOT

PACKAGE = ROOT / "fastnst"
MODULES = sorted(PACKAGE.rglob("*.py"))


def parse(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_and_classes_say_what_they_are(module):
    tree = parse(module)
    kinds = (ast.FunctionDef, ast.ClassDef)

    silent = [
        node.name
        for node in tree.body
        if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]

    assert ast.get_docstring(tree)
    assert silent == []


# What runs a trained style must not need what trains one.
@pytest.mark.parametrize(
    "statement",
    [
        "import fastnst",
        "import fastnst.cli",
        "from fastnst import Stylizer",
        "import fastnst.sheet, fastnst.info, fastnst.video.stylize",
    ],
)
def test_importing_the_runtime_imports_no_training_package(statement, tmp_path):
    script = f"{statement}\nimport sys\nprint(*{{'torch', 'onnx', 'safetensors', 'onnxruntime'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=tmp_path, check=True)

    assert done.stdout.split() == []


def test_every_module_imports_where_the_modules_and_signals_of_unix_are_missing(tmp_path):
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if path.stem != "__main__"]

    command = [sys.executable, "-W", "ignore", PROGRAMS / "import_without_unix.py", *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert done.stderr == ""
    assert done.stdout == "2\n"
