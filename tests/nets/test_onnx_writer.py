import numpy as np
import onnx
import pytest
from helpers.onnx_files import IMAGE, KINDS, some
from onnx import helper, numpy_helper

from fastnst.nets.onnx_writer import OnnxGraph


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_onnx_reads(kind):
    values, graph = some(kind, (2, 3)), OnnxGraph(17)
    graph.constant(values, "known")
    unnamed = graph.constant(values), graph.constant(values.copy()), graph.constant(values.T)
    image = graph.input("image", np.float32, IMAGE)
    padded = graph.add("Pad", image, graph.constant(np.array([0, 0, -1, 0, 0, 0, 0, -300])), mode="constant")
    graph.add("LeakyRelu", padded, name="stylized", alpha=-0.25)
    graph.output("stylized", np.float32, IMAGE)

    read = onnx.load_model_from_string(graph.to_bytes({"clé": "été", "long": "x" * 300}))

    onnx.checker.check_model(read, full_check=True)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in read.graph.initializer}
    np.testing.assert_array_equal(held["known"], values, strict=True)
    assert unnamed[0] == unnamed[1] != unnamed[2]
    np.testing.assert_array_equal(held[unnamed[2]], values.T, strict=True)
    assert held[read.graph.node[0].input[1]].tolist() == [0, 0, -1, 0, 0, 0, 0, -300]
    attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in read.graph.node]
    assert attributes == [{"mode": b"constant"}, {"alpha": -0.25}]
    assert {entry.key: entry.value for entry in read.metadata_props} == {"clé": "été", "long": "x" * 300}
    assert [(entry.domain, entry.version) for entry in read.opset_import] == [("", 17)]
    assert [side.dim_param or side.dim_value for side in read.graph.input[0].type.tensor_type.shape.dim] == IMAGE


def test_two_constants_of_one_name_cannot_be_written():
    graph = OnnxGraph()
    graph.constant([1.0], "a")

    with pytest.raises(ValueError, match="two constants are called 'a'"):
        graph.constant([2.0], "a")
