import json
import os
import random
from contextlib import suppress

import numpy as np
import onnx
import pytest
from helpers.checkpoints import mutate
from helpers.onnx_files import KINDS, external, model, save, some
from onnx import TensorProto, helper, numpy_helper

from fastnst.errors import FastnstError, InputError, ModelError, UnsafeModelError
from fastnst.nets.onnx_proto import LARGEST, read_onnx, read_signature, read_tensors


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def test_the_structure_of_an_exported_file_is_that_found_by_onnx(onnx_style):
    known = onnx.load(onnx_style)

    data, found = read_onnx(onnx_style)

    assert data == onnx_style.read_bytes()
    assert found.size == len(data)
    assert found.nodes == len(known.graph.node)
    assert found.opsets == {entry.domain: entry.version for entry in known.opset_import}
    assert found.metadata == {entry.key: entry.value for entry in known.metadata_props}
    assert not found.external
    assert json.loads(found.metadata["fastnst"])["style"]["name"] == "random"


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", bytes(1000), random.Random(0).randbytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04"],
    ids=["empty", "text", "zeros", "noise", "picture", "archive"],
)
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    with pytest.raises(ModelError, match=r"a\.onnx is not a"):
        read_onnx(save(tmp_path / "a.onnx", content))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(onnx_style, tmp_path, kept):
    data = onnx_style.read_bytes()

    with pytest.raises(ModelError, match="export the style again"):
        read_onnx(save(tmp_path / "a.onnx", data[: int(len(data) * kept)]))


@pytest.mark.parametrize("place", ["graph", "branch", "function"])
def test_operators_of_others_are_unsafe_wherever_they_are(tmp_path, place):
    node = helper.make_node("Run", ["image"], ["stylized"], domain="com.evil")
    if place == "branch":
        branch = helper.make_graph([node], "branch", [], [])
        content = model(helper.make_node("If", ["image"], ["stylized"], then_branch=branch, else_branch=branch))
    elif place == "function":
        content = model()
        content.functions.append(helper.make_function("", "f", ["image"], ["stylized"], [node], []))
    else:
        content = model(node)

    with pytest.raises(UnsafeModelError, match=r"needs operators of 'com\.evil'"):
        read_onnx(save(tmp_path / "a.onnx", content))


@pytest.mark.parametrize(
    "place", ["initializer", "attribute", "attributes", "branch", "sparse", "function", "default", "training"]
)
def test_external_data_is_unsafe_wherever_it_is(tmp_path, place):
    tensor = external("secret.bin")
    branch = helper.make_graph([], "branch", [], [], [tensor])
    sparse = onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.zeros(1, np.int64)), dims=[1])
    attributes = {"attribute": tensor, "attributes": [tensor], "branch": branch, "sparse": sparse}
    content = model(helper.make_node("Constant", [], ["stylized"], value=attributes.get(place, 1)))
    if place == "initializer":
        content.graph.initializer.append(tensor)
    elif place in ("function", "default"):
        node = helper.make_node("Constant", [], ["stylized"], value=tensor if place == "function" else 1)
        function = content.functions.add(name="f", node=[node])
        function.attribute_proto.extend([helper.make_attribute("a", tensor)] * (place == "default"))
    elif place == "training":
        content.training_info.add(initialization=branch)

    with pytest.raises(UnsafeModelError, match="keeps weights in other files; export it again as one file"):
        read_onnx(save(tmp_path / "a.onnx", content))


@pytest.mark.parametrize("bit", [32, 34, 62])
def test_a_field_number_that_other_readers_would_cut_short_is_refused(tmp_path, bit):
    hidden = model(weights=(external("secret.bin"),)).graph.SerializeToString()
    graph = varint(7 << 3 | 2 | 1 << bit) + varint(len(hidden)) + hidden

    with pytest.raises(ModelError, match="field number"):
        read_onnx(save(tmp_path / "a.onnx", model().SerializeToString() + graph))


def test_a_file_of_more_than_64_mib_is_refused(tmp_path):
    path = save(tmp_path / "a.onnx", model())
    os.truncate(path, 200 << 20)

    with pytest.raises(ModelError, match="has more than 64 MiB"):
        read_onnx(path)

    assert LARGEST == 64 << 20


def test_nesting_without_end_is_refused(tmp_path):
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(20):
        graph = helper.make_graph([helper.make_node("If", ["image"], [], then_branch=graph)], "outer", [], [])

    with pytest.raises(ModelError, match="nested too deeply"):
        read_onnx(save(tmp_path / "a.onnx", model(*graph.node)))


# Flip, cut, splice.
def test_300_mutations_are_read_or_raise_our_errors(onnx_style, tmp_path):
    chance = random.Random(0)
    data = onnx_style.read_bytes()

    for number in range(300):
        path = save(tmp_path / "mutated.onnx", mutate(data, chance, len(data) if number % 2 else 2000))
        with suppress(FastnstError):
            read_onnx(path)


def test_300_mutations_of_a_tiny_file_are_read_or_raise_our_errors(tmp_path):
    chance = random.Random(1)
    data = model(helper.make_node("Identity", ["image"], ["stylized"], domain="ai.onnx")).SerializeToString()

    for _ in range(300):
        path = save(tmp_path / "mutated.onnx", mutate(data, chance, len(data)))
        with suppress(FastnstError):
            read_onnx(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_ordinary_file_is_an_input_error(tmp_path, kind):
    path = tmp_path / "a.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)

    with pytest.raises(InputError, match=r"a\.onnx"):
        read_onnx(path)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_constants_are_read_however_onnx_stores_them(kind, shape, raw):
    values = some(kind, shape)
    number = helper.np_dtype_to_tensor_dtype(values.dtype)
    held = values.tobytes() if raw else values.flatten().tolist()
    tensor = helper.make_tensor("a", number, shape, held, raw=raw)

    found = read_tensors(model(weights=(tensor,)).SerializeToString())["a"]

    assert (found.dtype, found.shape) == (values.dtype, shape)
    np.testing.assert_array_equal(found, values)


def test_the_constants_of_an_exported_file_are_those_found_by_onnx(onnx_style):
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(onnx_style).graph.initializer}

    found = read_tensors(onnx_style.read_bytes())

    assert found.keys() == known.keys()
    for name, values in known.items():
        np.testing.assert_array_equal(found[name], values, strict=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dims": [7]}, "has 6 values"),
        ({"dims": [-1]}, "has 6 values"),
        ({"dims": [0, 1 << 62]}, "has 6 values"),
        ({"dims": [1 << 40, 1 << 40]}, "has 6 values"),
        ({"data_type": 8}, "element type 8"),
        ({"data_type": 7}, "has 3 values"),
        ({"raw_data": b"12345"}, "cut off"),
        ({"raw_data": b""}, "has 0 values"),
        ({"float_data": [1.0]}, "as its type says"),
        ({"int64_data": [1]}, "as its type says"),
    ],
)
def test_constants_that_contradict_themselves_are_refused(change, reason):
    tensor = TensorProto(name="a", data_type=1, dims=[2, 3], raw_data=bytes(24))
    for name, value in change.items():
        if isinstance(value, list):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)

    with pytest.raises(ModelError, match=f"unreadable weights.*{reason}"):
        read_tensors(model(weights=(tensor,)).SerializeToString())


def test_an_empty_constant_of_endless_sides_is_refused():
    tensor = TensorProto(name="a", data_type=1, dims=[0, 1 << 62])

    with pytest.raises(ModelError, match="has 0 values"):
        read_tensors(model(weights=(tensor,)).SerializeToString())


def test_doubles_in_the_field_of_small_numbers_are_refused():
    tensor = TensorProto(name="a", data_type=TensorProto.DOUBLE, dims=[1], int32_data=[1] * 8)

    with pytest.raises(ModelError, match="as its type says"):
        read_tensors(model(weights=(tensor,)).SerializeToString())


def test_two_constants_of_one_name_are_refused():
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "a")

    with pytest.raises(ModelError, match="two constants are called 'a'"):
        read_tensors(model(weights=(tensor, tensor)).SerializeToString())


def test_constants_of_300_mutations_are_read_or_raise_our_errors(onnx_style):
    chance = random.Random(2)
    plain = model(
        weights=tuple(helper.make_tensor(str(n), n, (1, 2), [1, 2]) for n in (1, 6, 7, 10))
    ).SerializeToString()

    for number in range(300):
        data = onnx_style.read_bytes() if number % 2 else plain
        with suppress(FastnstError):
            read_tensors(bytes(mutate(data, chance, len(data))))


def test_a_signature_is_read_with_free_and_fixed_sides():
    content = model(weights=(numpy_helper.from_array(np.zeros(3, np.float32), "weight"),))
    # Old files list their constants among the inputs.
    content.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3]))
    content.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, [1, None, "W"]))
    content.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, []))

    inputs, outputs = read_signature(content.SerializeToString())

    assert inputs == {"image": "float32 (N, 3, H, W)", "mask": "bool (1, ?, W)", "text": "type 8 ()"}
    assert outputs == {"stylized": "float32 (N, 3, H, W)"}


def test_signatures_of_300_mutations_are_read_or_raise_our_errors():
    chance = random.Random(3)
    data = model().SerializeToString()

    for _ in range(300):
        with suppress(FastnstError):
            read_signature(bytes(mutate(data, chance, len(data))))
