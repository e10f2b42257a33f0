"""What others' tools make of exported styles, each tool that is here: see scripts/onnx_tools.py."""

import importlib.util

import pytest
from helpers.material import ROOT

from fastnst.config import ExportOptions
from fastnst.export import export
from fastnst.image import SAMPLE, read_picture, to_array

spec = importlib.util.spec_from_file_location("onnx_tools", ROOT / "scripts" / "onnx_tools.py")
onnx_tools = importlib.util.module_from_spec(spec)
spec.loader.exec_module(onnx_tools)

FAINT = 0.2  # gray levels, on average; 8-bit weights and values differ more, and not evenly
ROUNDED = {"onnxruntime.quantization, quantize_dynamic": 5, "onnxruntime.quantization, quantize_static": 8}


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    """Bundled styles exported, one of each form of the last layer, and one of 8 bits."""
    folder = tmp_path_factory.mktemp("styles")
    exported = {name: export(name, folder / f"{name}.onnx").path for name in ("great-wave", "great-wave-base")}
    eight_bits = export("great-wave", folder / "eight-bits.onnx", ExportOptions(uint8=True)).path
    return exported | {"eight bits": eight_bits}


@pytest.mark.parametrize("name", ["great-wave", "great-wave-base", "eight bits"])
@pytest.mark.parametrize("tool", onnx_tools.TOOLS)
def test_a_tool_takes_a_style_and_what_it_makes_paints_like_it(styles, tool, name, tmp_path, monkeypatch):
    module, run = onnx_tools.TOOLS[tool]
    pytest.importorskip(module)
    if (tool, name) == ("onnxconverter-common, float16", "eight bits"):
        pytest.skip("it leaves casts to float32 as they are, and the file does not load")
    monkeypatch.chdir(tmp_path)
    image = onnx_tools.as_taken(to_array(read_picture(SAMPLE).rgb)[:, :, :64, :80], styles[name])

    apart = onnx_tools.gray_levels_apart(run(styles[name], tmp_path, image), onnx_tools.runtime(styles[name], image))

    assert apart.mean() < ROUNDED.get(tool, FAINT)


def test_the_script_prints_a_line_for_each_tool(tmp_path, capsys):
    failed = onnx_tools.main(export("great-wave-tiny", tmp_path / "tiny.onnx").path)

    lines = capsys.readouterr().out.splitlines()
    assert failed == 0
    assert [line.partition(":")[0] for line in lines] == list(onnx_tools.TOOLS)
    assert lines[0].endswith("mean 0.000, at most 0.00 gray levels apart")
