import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.material import ROOT

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
        "import fastnst.sheet, fastnst.info, fastnst.video.paint",
    ],
)
def test_importing_the_runtime_imports_no_training_package(statement, tmp_path):
    script = f"{statement}\nimport sys\nprint(*{{'torch', 'onnx', 'safetensors', 'onnxruntime'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=tmp_path, check=True)

    assert done.stdout.split() == []
