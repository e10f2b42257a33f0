import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "fastnst"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

# A module imports only from its own level and those below. The package itself holds the version and imports on demand.
LEVELS = {
    **dict.fromkeys(["errors", "files", "device", "config"], 0),
    **dict.fromkeys(["image", "compose", "layers", "vgg", "inception", "nets", "onnx_file"], 1),
    **dict.fromkeys(["progress", "distributed", "guards", "descent", "animation", "steadiness", "clip"], 1),
    **dict.fromkeys(["losses", "parts", "data", "logs", "checkpoint", "classifier", "styles", "tiling", "graph"], 2),
    **dict.fromkeys(["adapter"], 2),
    **dict.fromkeys(["foreign"], 3),
    **dict.fromkeys(["engine", "train", "optimize", "finetune", "dream"], 3),
    **dict.fromkeys(["stylize", "export", "info", "evaluate", "memory"], 4),
    **dict.fromkeys(["benchmark", "sheet", "report", "sweep", "reconstruct", "tradeoff", "visualize", "video"], 5),
    "cli": 6,
    "__init__": 6,
    "__main__": 7,
}


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def imported(module: str) -> Iterator[str]:
    """Modules of the package a module imports, also inside functions."""
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (
            name.split(".")[1] for name in names if name.startswith("fastnst.") and name.split(".")[1] in MODULES
        )


def test_every_module_has_a_level():
    assert sorted(LEVELS) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_from_their_level_or_below(module):
    above = {name for name in imported(module) if LEVELS[name] > LEVELS[module]}

    assert not above


def test_imports_have_no_cycle():
    list(TopologicalSorter({module: set(imported(module)) for module in MODULES}).static_order())


def test_the_levels_of_the_table_are_those_used():
    # Guards the test itself: a parser that finds no imports would pass everything.
    assert set(imported("stylize")) >= {"engine", "image", "compose"}
    assert set(imported("cli")) >= {"train", "export", "info", "styles"}


@pytest.mark.parametrize("module", MODULES)
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
        "import fastnst.sheet, fastnst.info, fastnst.video",
    ],
)
def test_importing_the_runtime_imports_no_training_package(statement, tmp_path):
    script = f"{statement}\nimport sys\nprint(*{{'torch', 'onnx', 'safetensors', 'onnxruntime'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=tmp_path, check=True)

    assert done.stdout.split() == []
