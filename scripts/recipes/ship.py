"""Ship runs/NAME.safetensors as the bundled style NAME: checkpoint, ONNX file, and a preview on six photos.

The ONNX file is less than half as large as what `fastnst export` writes: its kernels are float16, as in the checkpoint,
and as learned; the runtime applies them to blocks of pixels when it loads the file.

Usage: python scripts/recipes/ship.py NAME, from the root of the checkout.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fastnst.checkpoint import load_checkpoint
from fastnst.config import ExportOptions
from fastnst.engine import OnnxEngine
from fastnst.export import TOLERANCE, export, largest_difference
from fastnst.files import write_bytes
from fastnst.image import Picture, read_picture, resize, write_picture
from fastnst.nets.onnx_graph import BLOCKS, PHASES
from fastnst.nets.spec import NetConfig, Weights, layers
from fastnst.sheet import arrange
from fastnst.stylize import Stylizer

PHOTOS = {
    "animal": "red-panda",
    "building": "castle",
    "landscape": "great-wallof-china",
    "night": "memorial-at-night",
    "detail": "reims-cathedral",
    "flat sky": "eiffel-tower",
}
SIDE = 512  # pixels, at which brushwork shows


def shrink(model: onnx.ModelProto, config: NetConfig, weights: Weights) -> None:
    """Hold the kernels of an exported network as float16, and those of layers that upsample as learned."""
    graph = model.graph
    held = {constant.name: constant for constant in graph.initializer}
    nodes = []

    def half(name: str) -> str:
        """The constant of that name as float16; the name of its values in float32."""
        held[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held[name]).astype(np.float16), name))
        nodes.append(helper.make_node("Cast", [name], [f"{name}.float32"], to=onnx.TensorProto.FLOAT))
        return f"{name}.float32"

    for layer in layers(config):
        applied = next(name for name in (layer.weight, layer.weight + BLOCKS, layer.weight + PHASES) if name in held)
        if layer.upsample is None:
            cast = half(applied)
            for node in graph.node:
                node.input[:] = [cast if name == applied else name for name in node.input]
            continue
        folded = held.pop(applied)
        constants = {
            layer.weight: weights[layer.weight],
            f"{layer.name}.matrix": layer.matrix,
            f"{layer.name}.shape": np.array(folded.dims),
        }
        graph.initializer.remove(folded)
        for name, values in constants.items():
            held[name] = graph.initializer.add()
            held[name].CopyFrom(numpy_helper.from_array(values, name))
        kernel, matrix, shape = half(layer.weight), f"{layer.name}.matrix", f"{layer.name}.shape"
        split = f"{layer.name}.split"
        nodes.append(helper.make_node("Einsum", [matrix, kernel, matrix], [split], equation="yab,oibc,xdc->oyxiad"))
        nodes.append(helper.make_node("Reshape", [split, shape], [applied]))
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def ship(name: str) -> None:
    folder = Path("checkpoints")
    checkpoint, exported, preview = (folder / f"{name}.{kind}" for kind in ("safetensors", "onnx", "jpg"))
    shutil.copyfile(Path("runs") / checkpoint.name, checkpoint)
    export(checkpoint, exported, ExportOptions(overwrite=True))
    net, _ = load_checkpoint(checkpoint)
    model = onnx.load(exported)
    shrink(model, net.config, {key: values.numpy() for key, values in net.state_dict().items()})
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    assert largest_difference(net, OnnxEngine(exported, "cpu", data=data)) <= TOLERANCE
    write_bytes(exported, data)
    stylizer = Stylizer.open(exported)
    tiles = []
    for label, photo in PHOTOS.items():
        content = read_picture(Path("examples/photos") / f"{photo}.jpg")
        height, width = content.size
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = resize(Picture(content.rgb[top : top + side, left : left + side]), SIDE, SIDE)
        tiles.append((label, stylizer.stylize_picture(middle)))
    write_picture(arrange(tiles), preview, quality=72)


if __name__ == "__main__":
    ship(sys.argv[1])
