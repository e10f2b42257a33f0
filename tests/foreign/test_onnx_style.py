"""ONNX styles as other projects export them, against the networks they were made from, in torch."""

import logging

import numpy as np
import onnx
import pytest
import torch
from helpers.material import PHOTOS
from helpers.networks import Examples, in_255, normalized, photo, wide
from helpers.onnx_files import model, save
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fastnst.cli import main
from fastnst.config import OnnxOptions
from fastnst.engine import OnnxEngine, open_engine
from fastnst.errors import ModelError
from fastnst.foreign.onnx_style import Convention, judge, tiled
from fastnst.image import to_array

GRAY = 1 / 255
ANY = [1, 3, "H", "W"]


class Graph:
    """ONNX nodes in a row, as exporters write them."""

    def __init__(self, opset):
        self.opset, self.nodes, self.weights, self.last = opset, [], [], "image"

    def add(self, kind, *inputs, **attributes):
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *inputs], [name], **attributes))
        self.last = name
        return name

    def constant(self, values, kind=np.float32):
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def model(self, shape, kind=TensorProto.FLOAT, gives=None):
        self.nodes[-1].output[0] = "stylized"
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [helper.make_tensor_value_info("image", kind, shape)],
            [helper.make_tensor_value_info("stylized", gives or kind, shape)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def write_examples(graph, net):
    """pytorch/examples' network in the operators of opset 9 or 11."""

    def convolution(stage):
        conv = stage.get_submodule(stage.name)
        if stage.factor > 1 and graph.opset == 9:
            graph.add("Upsample", graph.constant([1, 1, 2, 2]), mode="nearest")
        elif stage.factor > 1:
            sampling = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            graph.add("Resize", graph.constant([]), graph.constant([1, 1, 2, 2]), mode="nearest", **sampling)
        pads = [0, 0, stage.margin, stage.margin] * 2
        if graph.opset == 9:
            graph.add("Pad", mode="reflect", pads=pads)
        else:
            graph.add("Pad", graph.constant(pads, np.int64), mode="reflect")
        weights = (graph.constant(part.detach().numpy()) for part in (conv.weight, conv.bias))
        graph.add("Conv", *weights, kernel_shape=conv.kernel_size, strides=conv.stride)

    def norm(stage):
        graph.add("InstanceNormalization", *(graph.constant(p.detach().numpy()) for p in (stage.weight, stage.bias)))

    for name, norm_name in net.stages:
        stage = net.get_submodule(name)
        if norm_name:
            convolution(stage)
            norm(net.get_submodule(norm_name))
            graph.add("Relu")
        elif hasattr(stage, "conv1"):
            before = graph.last
            convolution(stage.conv1)
            norm(stage.in1)
            graph.add("Relu")
            convolution(stage.conv2)
            norm(stage.in2)
            graph.add("Add", before)
        else:
            convolution(stage)


def scale(graph, factor, offset):
    graph.add("Mul", graph.constant(factor))
    graph.add("Add", graph.constant(offset))


KINDS = ["255", "1", "signed", "imagenet", "1 to 255", "255 of opset 11", "uint8", "uint8 planes", "float16", "last"]


@pytest.fixture(scope="module")
def net():
    return wide(Examples(blocks=1))


def exported(net, kind, sides=("H", "W")):
    """The network as an ONNX file that takes and gives these values, in this layout, of these sides."""
    graph = Graph(11 if "11" in kind else 9)
    planes, pixels = [1, 3, *sides], [1, *sides, 3]
    if kind in ("uint8", "uint8 planes", "float16"):
        graph.add("Cast", to=TensorProto.FLOAT)
    if kind in ("uint8", "last"):
        graph.add("Transpose", perm=[0, 3, 1, 2])
    if kind in ("1", "1 to 255", "last"):
        scale(graph, 255, 0)
    if kind == "signed":
        scale(graph, 127.5, 127.5)
    write_examples(graph, net)
    if kind in ("1", "last"):
        scale(graph, 1 / 255, 0)
    if kind == "signed":
        scale(graph, 1 / 127.5, -1)
    if kind in ("uint8", "uint8 planes"):
        graph.add("Clip", min=0.0, max=255.0)
    if kind in ("uint8", "last"):
        graph.add("Transpose", perm=[0, 2, 3, 1])
    if kind in ("uint8", "uint8 planes"):
        graph.add("Cast", to=TensorProto.UINT8)
        return graph.model(pixels if kind == "uint8" else planes, TensorProto.UINT8)
    if kind == "float16":
        graph.add("Cast", to=TensorProto.FLOAT16)
        return graph.model(planes, TensorProto.FLOAT16)
    return graph.model(pixels if kind == "last" else planes)


def opened(tmp_path, content, **options):
    return open_engine(save(tmp_path / "a.onnx", content), device="cpu", options=OnnxOptions(**options))


def original(net, image):
    with torch.inference_mode():
        stylized = in_255(net, torch.from_numpy(image)).clamp(0, 1).numpy()
    return stylized[..., : image.shape[2], : image.shape[3]]


@pytest.mark.parametrize("sides", [("H", "W"), (61, 83), (64, 96)], ids=["any size", "an odd size", "64x96"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "imagenet"])
def test_a_style_of_another_project_paints_what_its_network_paints(net, tmp_path, kind, sides):
    content = exported(net, kind, sides)
    image = np.rint(photo(*((61, 83) if sides == ("H", "W") else sides)) * 255) / np.float32(255)

    engine = opened(tmp_path, content)

    np.testing.assert_allclose(engine(image), original(net, image), rtol=0, atol=1.01 * GRAY)


@pytest.mark.parametrize(
    ("kind", "takes", "gives"),
    [
        ("255", "255", "255"),
        ("1", "1", "1"),
        ("signed", "signed", "signed"),
        ("uint8", "255", "255"),
        ("float16", "255", "255"),
        # A network that normalizes first does not care about the scale of what it takes, so nothing shows it.
        ("1 to 255", "255", "255"),
    ],
)
def test_values_are_guessed_from_what_comes_out(net, tmp_path, kind, takes, gives):
    engine = opened(tmp_path, exported(net, kind))

    convention = engine.adapter.convention

    assert (convention.takes, convention.gives) == (takes, gives)


def test_values_by_the_statistics_of_imagenet_are_guessed_and_undone(tmp_path):
    net = normalized(Examples(blocks=1))
    graph = Graph(9)
    write_examples(graph, net)
    image = photo(64, 96)

    engine = opened(tmp_path, graph.model(ANY))

    assert engine.adapter.convention == Convention("imagenet", "imagenet")
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        expected = (net((torch.from_numpy(image) - mean) / deviation) * deviation + mean).clamp(0, 1)
    np.testing.assert_allclose(engine(image), expected.numpy(), rtol=0, atol=GRAY)


def plain(factor, offset, *after):
    """A network without normalization: pale, and brighter."""
    graph = Graph(11)
    scale(graph, factor, offset)
    for kind in after:
        graph.add(kind)
    return graph.model(ANY)


@pytest.mark.parametrize(
    ("content", "takes"),
    [
        (plain(0.5, 0.25), "1"),
        (plain(0.5, 64), "255"),
        (plain(4, -2, "Sigmoid"), "1"),
        (plain(1 / 64, -2, "Tanh"), None),
        (model(), "1"),
    ],
    ids=["0..1", "0..255", "sigmoid", "0..255 to -1..1", "identity"],
)
def test_networks_that_normalize_nothing_show_what_they_take(tmp_path, content, takes):
    engine = opened(tmp_path, content)

    convention = engine.adapter.convention

    assert (convention.takes, convention.gives) == ((takes, takes) if takes else ("255", "signed"))


def test_all_that_is_guessed_can_be_told(net, tmp_path):
    content = exported(net, "1 to 255")
    image = photo(40, 52)
    told = {"onnx_input": "1", "onnx_output": "255", "onnx_order": "bgr"}

    engine = opened(tmp_path, content, **told)

    assert engine.adapter.convention == Convention("1", "255", "bgr")
    expected = original(net, image[:, ::-1].copy())[:, ::-1]
    np.testing.assert_allclose(engine(image), expected, rtol=0, atol=GRAY)


@pytest.mark.parametrize(("format", "order"), [("Bgr8", "bgr"), ("Rgb8", "rgb")])
def test_what_the_file_says_of_its_picture_is_not_guessed(net, tmp_path, format, order):
    content = exported(net, "255")
    helper.set_model_props(
        content, {"Image.BitmapPixelFormat": format, "Image.NominalPixelRange": "NominalRange_0_255"}
    )

    assert opened(tmp_path, content).adapter.convention == Convention("255", "255", order)
    assert opened(tmp_path, content, onnx_order="rgb").adapter.convention.order == "rgb"


def test_a_network_that_makes_no_picture_is_refused_unless_its_values_are_told(tmp_path):
    flat = plain(1e-4, 0.5)

    with pytest.raises(ModelError, match=r"makes no picture of a test picture.*--onnx-input and --onnx-output"):
        opened(tmp_path, flat)

    stylized = opened(tmp_path, flat, onnx_input="1", onnx_output="1")(photo(16, 16))
    np.testing.assert_allclose(stylized, 0.5, atol=1e-3)


def test_a_style_of_another_project_runs_from_the_command_line_and_says_how(net, tmp_path, capsys):
    style = save(tmp_path / "candy.onnx", exported(net, "255", (64, 96)))
    command = ["stylize", str(PHOTOS / "cat.jpg"), "-o", str(tmp_path / "out.png"), "--style", str(style)]
    command += ["--max-size", "150", "--overwrite"]

    assert main(command) == 0
    out, err = capsys.readouterr()
    assert main([*command, "--onnx-fixed", "resize", "--onnx-input", "1", "--onnx-output", "255"]) == 0
    told = capsys.readouterr().err
    assert main([*command, "--quiet"]) == 0

    assert out == f"{tmp_path / 'out.png'}\n"
    assert err == (
        f"fastnst: {style} takes float (1, 3, 64, 96) RGB 0..255; a picture is cut into overlapping tiles of that "
        "size; override with --onnx-input, --onnx-output, --onnx-order, --onnx-fixed\n"
    )
    assert "RGB 0..1 and gives 0..255; a picture is scaled to that size and back" in told
    assert capsys.readouterr().err == ""
    with Image.open(tmp_path / "out.png") as stylized:
        assert max(stylized.size) == 150


def test_a_sentence_is_said_once_for_a_style_not_for_each_picture(net, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        engine = opened(tmp_path, exported(net, "255"))
        for _ in range(3):
            engine(photo(20, 30))

    assert len(caplog.records) == 1


def test_pictures_in_a_batch_are_painted_one_by_one(net, tmp_path):
    engine = opened(tmp_path, exported(net, "255"))
    images = np.concatenate([photo(32, 48), photo(32, 48, "dog.jpg"), photo(32, 48, "cow.jpg")])

    alone = np.concatenate([engine(images[i : i + 1]) for i in range(3)])

    np.testing.assert_array_equal(engine(images), alone)


def test_a_network_for_a_batch_of_four_paints_one(net, tmp_path):
    content = exported(net, "255")
    for end in (content.graph.input[0], content.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_value = 4
    image = photo(32, 48)

    np.testing.assert_allclose(opened(tmp_path, content)(image), original(net, image), rtol=0, atol=GRAY)


def halved(after=()):
    """A network that works at half the resolution and drops an odd last row."""
    graph = Graph(11)
    graph.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Resize", graph.constant([]), graph.constant([1, 1, 2, 2]), mode="nearest")
    if after:
        graph.add("Add", "image")
        graph.add("Mul", graph.constant(0.5))
    return graph.model(ANY)


@pytest.mark.parametrize("beside", [False, True], ids=["smaller", "failing"])
def test_a_network_for_even_sizes_only_paints_odd_ones(tmp_path, beside):
    image = photo(33, 47)

    engine = opened(tmp_path, halved((beside,) if beside else ()))

    stylized = engine(image)
    assert engine.adapter.multiple == 2
    assert stylized.shape == image.shape
    means = image[..., :32, :46].reshape(1, 3, 16, 2, 23, 2).mean((3, 5)).repeat(2, 2).repeat(2, 3)
    expected = (means + image[..., :32, :46]) / 2 if beside else means
    np.testing.assert_allclose(stylized[..., :32, :46], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (64, 96), (130, 97), (200, 260)])
@pytest.mark.parametrize("way", ["tile", "resize"])
def test_a_network_of_one_size_paints_pictures_of_any_size(tmp_path, size, way):
    engine = opened(tmp_path, typed_identity([1, 3, 64, 96]), onnx_fixed=way)
    image = photo(*size)

    stylized = engine(image)

    assert stylized.shape == image.shape
    if way == "tile":
        np.testing.assert_allclose(stylized, image, atol=1e-5)
    elif min(size) >= 64:
        assert np.abs(stylized - image).mean() < 0.05  # sharp edges are lost


def typed_identity(shape):
    content = model(opset=11)
    for end, name in ((content.graph.input[0], "image"), (content.graph.output[0], "stylized")):
        end.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    content.ir_version = 8
    return content


def test_tiles_of_different_brightness_are_blended_without_seams():
    brightness = iter(np.linspace(0, 1, 100))
    flat = np.full((1, 3, 150, 64), 0.5, np.float32)

    stylized = tiled(lambda tile: np.full_like(tile, next(brightness)), flat, (64, 64))

    steps = np.abs(np.diff(stylized[0, 0, :, 0]))
    between = np.ptp(stylized)  # of the first and the last tile
    assert between > 0
    assert steps.max() < 0.05 * between


def test_a_painting_is_more_plausible_than_what_wrong_values_make_of_it():
    image = photo(64, 96)
    scores = [judge(stylized, image) for stylized in (image, image * 255, image / 255, 1 - image)]

    assert [plausible for plausible, _ in scores] == [True, False, False, True]
    assert scores[0][1] == max(score for _, score in scores)


@pytest.mark.parametrize("takes", ["1", "255", "signed", "imagenet"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_reading_undoes_feeding(takes, order):
    convention = Convention(takes, takes, order)
    image = photo(16, 20)

    np.testing.assert_allclose(convention.read(convention.feed(image)), image, atol=1e-6)
    black = convention.feed(np.zeros_like(image))
    assert {"1": 0, "255": 0, "signed": -1}.get(takes, black.min()) == black.min()


def test_the_checks_of_exported_styles_are_not_those_of_foreign_ones(onnx_style, tmp_path):
    content = onnx.load(onnx_style)
    for end in (content.graph.input[0], content.graph.output[0]):
        for axis in (2, 3):
            end.type.tensor_type.shape.dim[axis].dim_value = 64

    with pytest.raises(ModelError, match="export it again"):
        OnnxEngine(save(tmp_path / "a.onnx", content), "cpu")
    del content.metadata_props[:]
    assert OnnxEngine(save(tmp_path / "a.onnx", content), "cpu").adapter is not None


def test_sizes_of_paintings_from_the_command_line_are_those_of_the_photos(net, tmp_path):
    photograph = Image.open(PHOTOS / "cat.jpg").resize((71, 53))
    stylized = opened(tmp_path, exported(net, "uint8", (64, 64)))(to_array(np.asarray(photograph)))

    assert stylized.shape == (1, 3, 53, 71)
