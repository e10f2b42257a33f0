import importlib.util
import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.material import ROOT
from onnx import helper

from fastnst.errors import UsageError
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

SCRIPT = ROOT / "scripts" / "onnx_forms.py"
NARROW = NetConfig(channels=(8, 8, 16), blocks=1)

spec = importlib.util.spec_from_file_location("onnx_forms", SCRIPT)
onnx_forms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(onnx_forms)


@pytest.mark.long
def test_script_compares_forms_with_a_plain_export():
    command = [sys.executable, SCRIPT, "--preset", "tiny", "--size", "32", "--rounds", "1", "--json"]

    done = subprocess.run(command, capture_output=True, check=True)

    (comparison,) = json.loads(done.stdout)
    assert (comparison["setting"]["preset"], comparison["setting"]["size"]) == ("tiny", 32)
    names = [speed["name"] for speed in comparison["speeds"]]
    assert names == ["torch.onnx.export", "torch.onnx.export, subpixel kernels", "fastnst export", *onnx_forms.FORMS]
    assert all(speed["gray_levels"] < 0.1 for speed in comparison["speeds"])
    ratios = [(ratio["name"], ratio["reference"]) for ratio in comparison["ratios"]]
    assert ratios == [(name, names[0]) for name in names[1:]]


def test_all_forms_paint_the_same():
    torch.manual_seed(0)
    net = TransformerNet(NARROW)
    image = np.random.default_rng(0).random((2, 3, 33, 50), dtype=np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image)).clamp(0, 1).numpy()

    for name, data in onnx_forms.forms(net).items():
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"image": image})[0], expected, atol=1e-4, err_msg=name)


def test_forms_really_differ():
    models = {
        name: onnx.load_model_from_string(data) for name, data in onnx_forms.forms(TransformerNet(NARROW)).items()
    }
    used = {name: {node.op_type for node in model.graph.node} for name, model in models.items()}

    for name, (operator, _) in onnx_forms.FORMS.items():
        assert operator in used["fastnst export"]
        assert operator not in used[name] or operator == "Pad"  # repeated edges stay
    assert len({model.SerializeToString() for model in models.values()}) == len(models) == len(onnx_forms.FORMS) + 3
    pads = [node for node in models["reflection as Slice, Concat"].graph.node if node.op_type == "Pad"]
    assert all(helper.get_node_attr_value(node, "mode") != b"reflect" for node in pads)


def test_no_rounds_are_wrong_usage():
    with pytest.raises(UsageError, match="--rounds is 0 but must be at least 1"):
        onnx_forms.Options(rounds=0)
