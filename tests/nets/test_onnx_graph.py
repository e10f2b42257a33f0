"""Graphs written by hand against torch, in a real ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fastnst.errors import UsageError
from fastnst.nets.onnx_graph import NetworkGraph, build, read_weights, weight_shapes
from fastnst.nets.spec import PRESETS, NetConfig, layers
from fastnst.nets.torch_net import TransformerNet

DATA = Path(__file__).parent.parent / "data"
NARROW = {"channels": (8, 8, 16), "blocks": 1}
CONFIGS = {
    "paper": NetConfig(**NARROW),
    "half": NetConfig(channels=(8, 16), blocks=1, stride=2, kernels=(5, 9)),
    "unshifted": NetConfig(channels=(8, 16), blocks=1, stride=2, kernels=(3, 7)),
    "grain": NetConfig(**NARROW, grain=0.03),
    "margin": NetConfig(**NARROW, grain=0.03, margin=24),
    "margin of a half": NetConfig(channels=(8, 16), blocks=1, stride=2, kernels=(5, 9), margin=7, last_norm=True),
    "nearest": NetConfig(**NARROW, upsample="nearest", gain=0.3),
    "transposed": NetConfig(**NARROW, upsample="transposed"),
    "same": NetConfig(**NARROW, padding="same"),
    "tensorflow": NetConfig(
        **NARROW, padding="same", upsample="transposed", even_out=False, center=0, last_norm=True, epsilon=1e-3
    ),
    "linear": NetConfig(**NARROW, output="linear", last_norm=True, skip=2.0, even_out=False),
    "half nearest": NetConfig(channels=(8,), blocks=1, stride=2, kernels=(5, 9), upsample="nearest", last_norm=True),
    "one layer": NetConfig(channels=(8,), blocks=0, kernels=(1, 1)),
}
SIZES = [(2, 3, 17, 16), (1, 3, 40, 64), (1, 3, 65, 98)]


def network(config: NetConfig) -> tuple[TransformerNet, dict[str, np.ndarray]]:
    """A network whose norms do something, and its weights."""
    torch.manual_seed(0)
    net = TransformerNet(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return net, {name: values.numpy() for name, values in net.state_dict().items()}


def session(data: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_graph_is_valid_and_paints_what_torch_paints(name, opset):
    net, weights = network(CONFIGS[name])

    data = build(CONFIGS[name], weights, opset=opset)

    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    run = session(data)
    for size in SIZES:
        image = np.random.default_rng(0).random(size, dtype=np.float32)
        with torch.inference_mode():
            expected = net(torch.from_numpy(image)).clamp(0, 1).numpy()
        (painted,) = run.run(["stylized"], {"image": image})
        np.testing.assert_allclose(painted, expected, atol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_paints_what_torch_paints(name):
    net, weights = network(PRESETS[name])
    image = np.random.default_rng(0).random((1, 3, 50, 71), dtype=np.float32)

    (painted,) = session(build(PRESETS[name], weights)).run(None, {"image": image})

    with torch.inference_mode():
        np.testing.assert_allclose(painted, net(torch.from_numpy(image)).clamp(0, 1).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", [*CONFIGS, *PRESETS])
def test_a_checkpoints_weights_are_read_back_bit_for_bit(name):
    config = {**CONFIGS, **PRESETS}[name]
    _, weights = network(config)
    weights = {key: values.astype(np.float16).astype(np.float32) for key, values in weights.items()}

    found = read_weights(config, build(config, weights))

    assert found.keys() == weights.keys()
    for key, values in weights.items():
        np.testing.assert_array_equal(found[key], values, strict=True)


@pytest.mark.parametrize(("half", "error"), [(False, 1e-6), (True, 4e-3)])
@pytest.mark.parametrize("name", CONFIGS)
def test_other_weights_are_read_back_as_the_file_rounds_them(name, half, error):
    _, weights = network(CONFIGS[name])

    found = read_weights(CONFIGS[name], build(CONFIGS[name], weights, half=half))

    assert found.keys() == weights.keys()
    for key, values in weights.items():
        assert found[key].dtype == np.float32
        np.testing.assert_allclose(found[key], values, rtol=0, atol=error * max(np.abs(values).max(), 1))


def test_an_older_file_whose_kernels_are_as_learned_is_read():
    data, config = (DATA / "kernels_as_learned.onnx").read_bytes(), CONFIGS["half"]
    image = np.random.default_rng(0).random((1, 3, 30, 41), dtype=np.float32)

    again = session(build(config, read_weights(config, data)))

    (expected,) = session(data).run(None, {"image": image})
    np.testing.assert_allclose(again.run(None, {"image": image})[0], expected, atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", [*CONFIGS, *PRESETS])
def test_each_layer_finds_its_weights_among_the_constants_and_each_constant_is_used(name, half):
    config = {**CONFIGS, **PRESETS}[name]
    graph = onnx.load_model_from_string(build(config, network(config)[1], half=half)).graph
    constants = {tensor.name for tensor in graph.initializer}

    layers = [node for node in graph.node if node.op_type in ("Conv", "InstanceNormalization")]

    assert layers
    for node in layers:
        assert constants.issuperset(node.input[1:]), node.name
    assert constants <= {name for node in graph.node for name in node.input}


@pytest.mark.parametrize("name", [*CONFIGS, *PRESETS])
def test_weights_have_the_names_and_shapes_of_a_checkpoint(name):
    config = {**CONFIGS, **PRESETS}[name]

    known = {key: tuple(values.shape) for key, values in TransformerNet(config).state_dict().items()}

    assert weight_shapes(config) == known


def test_a_missing_or_misshapen_weight_is_named():
    _, weights = network(CONFIGS["paper"])

    with pytest.raises(UsageError, match=r"paint\.bias is missing"):
        build(CONFIGS["paper"], {key: value for key, value in weights.items() if key != "paint.bias"})
    with pytest.raises(
        UsageError, match=r"down\.0\.norm\.bias has the shape \(9,\) but the network needs one of \(8,\)"
    ):
        build(CONFIGS["paper"], {**weights, "down.0.norm.bias": np.zeros(9, np.float32)})
    with pytest.raises(UsageError, match="but the network needs"):
        read_weights(CONFIGS["half"], build(CONFIGS["paper"], weights))


@pytest.mark.parametrize("last", ["phases", "blocks", "pixels"])
@pytest.mark.parametrize("kernel", [5, 9, 13])
def test_the_last_layer_paints_the_same_however_it_is_computed(kernel, last):
    config = NetConfig(channels=(4, 8), blocks=0, kernels=(3, kernel))
    net, weights = network(config)
    run = session(build(config, weights, last=last))

    for size in ((1, 3, 16, 16), (1, 3, 17, 30)):
        image = np.random.default_rng(0).random(size, dtype=np.float32)
        with torch.inference_mode():
            expected = net(torch.from_numpy(image)).clamp(0, 1).numpy()
        np.testing.assert_allclose(run.run(None, {"image": image})[0], expected, atol=1e-4)


def test_a_last_layer_that_a_network_does_not_allow_is_refused():
    _, weights = network(CONFIGS["half"])

    with pytest.raises(UsageError, match="cannot be computed as blocks; only as pixels"):
        build(CONFIGS["half"], weights, last="blocks")


def test_a_single_layer_is_a_graph_of_its_own():
    layer = next(layer for layer in layers(CONFIGS["paper"]) if layer.upsample)
    _, weights = network(CONFIGS["paper"])
    net = NetworkGraph(CONFIGS["paper"], weights)
    graph = net.graph
    x = graph.input("x", np.float32, ["N", layer.inputs, "H", "W"])
    y = net.convolve(layer, net.border(layer, x, rows=False), net.kernel(layer))
    graph.output(y, np.float32, ["N", layer.outputs, "H2", "W2"])
    rows = np.random.default_rng(0).random((1, layer.inputs, 9, 12), dtype=np.float32)

    (found,) = session(graph.to_bytes()).run(None, {"x": rows})

    net, _ = network(CONFIGS["paper"])
    with torch.inference_mode():
        whole = net.get_submodule(layer.name)(torch.from_numpy(rows)).numpy()
    assert found.shape == (1, layer.outputs, 14, 24)
    np.testing.assert_allclose(found, whole[:, :, 2:-2], atol=1e-5)
