import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.engines import GRAY, isolated
from helpers.material import PHOTOS, PROGRAMS
from helpers.onnx_files import IMAGE, external, model, save
from onnx import TensorProto, helper, numpy_helper

from fastnst.checkpoint import CheckpointMeta, load_checkpoint, save_checkpoint
from fastnst.config import ExportOptions, OnnxOptions
from fastnst.engine import OnnxEngine, Stop, TorchEngine, mixed, open_engine
from fastnst.errors import ModelError, StoppedError, UnsafeModelError, UsageError
from fastnst.export import export
from fastnst.image import Array, read_picture, to_array
from fastnst.nets.spec import PRESETS
from fastnst.nets.torch_net import TransformerNet
from fastnst.styles import bundled_style

Engines = Callable[[str], tuple[TorchEngine, OnnxEngine]]


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """Both engines for a preset with random weights, made once."""
    made: dict[str, tuple[TorchEngine, OnnxEngine]] = {}

    def of(preset: str) -> tuple[TorchEngine, OnnxEngine]:
        if preset not in made:
            torch.manual_seed(1)
            net = TransformerNet(PRESETS[preset])
            path = tmp_path_factory.mktemp("preset") / f"{preset}.safetensors"
            meta = CheckpointMeta(preset, net.config.to_json(), {"name": preset, "credit": "nobody"})
            save_checkpoint(path, net, meta)
            onnx_path = export(path, path.with_suffix(".onnx"), ExportOptions()).path
            made[preset] = TorchEngine(path, "cpu"), OnnxEngine(onnx_path, "cpu")
        return made[preset]

    return of


def noise(height: int, width: int, batch: int = 1) -> Array:
    return np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)


def typed(kind: int, shape: list[int | str], *, cast: int | None = None) -> onnx.ModelProto:
    """An identity, or a cast, over tensors of this type and shape."""
    node = helper.make_node("Cast", ["image"], ["stylized"], to=cast) if cast else None
    content = model(*[node] if node else [])
    content.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", kind, shape))
    content.graph.output[0].CopyFrom(helper.make_tensor_value_info("stylized", cast or kind, shape))
    return content


def blocked(*modules: str) -> str:
    """A script that runs the command line where these modules cannot be imported."""
    return (
        f"import sys\nsys.modules.update(dict.fromkeys({modules!r}))\n"
        "from fastnst.cli import main\nsys.exit(main(sys.argv[1:]))"
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 128)])
def test_both_engines_agree_within_one_gray_level(engines, preset, size):
    torch_engine, onnx_engine = engines(preset)

    painted = onnx_engine(noise(*size))

    np.testing.assert_allclose(painted, torch_engine(noise(*size)), rtol=0, atol=GRAY)
    assert painted.std() > 0.04  # a picture, not a plain color, on which anything would agree


@pytest.mark.parametrize("preset", PRESETS)
def test_both_engines_agree_on_a_batch_of_3(engines, preset):
    torch_engine, onnx_engine = engines(preset)
    images = noise(40, 52, batch=3)

    np.testing.assert_allclose(onnx_engine(images), torch_engine(images), rtol=0, atol=GRAY)


def test_both_engines_agree_on_a_large_picture(checkpoint, onnx_style):
    image = noise(720, 1280)

    painted = OnnxEngine(onnx_style)(image)

    np.testing.assert_allclose(painted, TorchEngine(checkpoint)(image), rtol=0, atol=GRAY)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_pictures_in_a_batch_do_not_influence_each_other(checkpoint, onnx_style, engine):
    run = open_engine(checkpoint if engine == "torch" else onnx_style, engine, "cpu")
    images = noise(24, 31, batch=3)

    alone = np.concatenate([run(images[i : i + 1]) for i in range(3)])

    np.testing.assert_allclose(run(images), alone, rtol=0, atol=1e-4)  # sums in another order


def test_every_size_comes_back_from_onnx(onnx_style):
    engine = OnnxEngine(onnx_style, "cpu")

    for height in range(16, 41):
        for width in range(16, 41):
            assert engine(noise(height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 19), (18, 37), (23, 25), (40, 39), (21, 300)])
def test_sizes_come_back_from_torch_in_range(checkpoint, size):
    painted = TorchEngine(checkpoint, "cpu")(noise(*size))

    assert painted.shape == (1, 3, *size)
    assert painted.dtype == np.float32
    assert painted.min() >= 0
    assert painted.max() <= 1


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
@pytest.mark.parametrize("engine", ["auto", "match"])
def test_the_file_decides_which_engine_runs_it(checkpoint, onnx_style, suffix, engine):
    path, kind, name = {
        ".safetensors": (checkpoint, TorchEngine, "torch"),
        ".onnx": (onnx_style, OnnxEngine, "onnx"),
    }[suffix]

    assert isinstance(open_engine(path, name if engine == "match" else "auto"), kind)


def test_an_engine_that_does_not_fit_the_file_is_a_usage_error(checkpoint, onnx_style):
    with pytest.raises(UsageError, match=r"--engine torch cannot run .*random\.onnx; give the \.safetensors file"):
        open_engine(onnx_style, "torch")
    with pytest.raises(UsageError, match=r"--engine onnx cannot run .*random\.safetensors; export it first"):
        open_engine(checkpoint, "onnx")


def ours(content: onnx.ModelProto) -> onnx.ModelProto:
    """A model as one that fastnst exported, of which nothing is guessed."""
    helper.set_model_props(content, {"fastnst": "{}"})
    return content


def test_a_file_of_8_bit_pixels_is_run_with_rounding(tmp_path):
    engine = OnnxEngine(save(tmp_path / "a.onnx", ours(typed(TensorProto.UINT8, ["N", "H", "W", 3]))), "cpu")
    image = noise(20, 30)

    painted = engine(image)

    np.testing.assert_allclose(painted, np.rint(image * 255) / 255, atol=1e-6)  # float32 division


def test_both_engines_say_the_same_of_a_style(checkpoint, onnx_style):
    said = OnnxEngine(onnx_style, "cpu").meta

    assert said == TorchEngine(checkpoint, "cpu").meta
    assert said.style == {"name": "random", "credit": "nobody"}


def test_a_file_of_another_project_says_nothing_of_its_style(tmp_path):
    engine = OnnxEngine(save(tmp_path / "a.onnx", model()), "cpu")

    with pytest.raises(ModelError, match=r"a\.onnx has an unreadable fastnst header"):
        _ = engine.meta


def test_a_bundled_file_is_read_once_and_says_what_it_is_without_torch(tmp_path):
    script = (
        "import json, sys\nsys.modules['torch'] = None\nopened = []\n"
        "sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == 'open' else None)\n"
        "from fastnst.engine import open_engine\n"
        "meta = open_engine('great-wave-tiny', 'onnx', 'cpu').meta\n"
        "print(json.dumps([meta.preset, [path for path in opened if path.endswith('.onnx')]]))"
    )

    done = isolated(script, cwd=tmp_path)

    preset, opened = json.loads(done.stdout)
    assert preset == "tiny"
    assert len(opened) == 1


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pkl", "a.model"])
def test_a_pickle_is_refused_by_its_name_before_it_is_opened(tmp_path, name):
    with pytest.raises(UnsafeModelError, match=rf"{name} is a pickle, .*give a .safetensors or .onnx"):
        open_engine(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an ONNX file"),
        (b"garbage", "not a readable"),
        (model(helper.make_node("Frobnicate", ["image"], ["stylized"])), "cannot be run"),
        (model(helper.make_node("Gelu", ["image"], ["stylized"], domain="com.microsoft")), "needs operators of"),
        (model(opset=99), "cannot be run"),
        (model(helper.make_node("Identity", ["nothing"], ["stylized"])), "cannot be run"),
    ],
    ids=["empty", "garbage", "unknown op", "custom domain", "opset 99", "broken graph"],
)
def test_an_onnx_file_that_cannot_be_run_is_refused(tmp_path, content, reason):
    with pytest.raises(ModelError, match=reason):
        OnnxEngine(save(tmp_path / "a.onnx", content), "cpu")


def test_an_onnx_file_that_cannot_be_run_exits_4(fastnst, tmp_path):
    style = save(tmp_path / "a.onnx", model(opset=99))

    done = fastnst("stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--style", style)

    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink", "hardlink", "same folder"])
def test_external_data_is_unsafe_and_never_opened(tmp_path, kind):
    folder = tmp_path / "styles"
    folder.mkdir()
    secret = (folder if kind == "same folder" else tmp_path) / "secret.bin"
    secret.write_bytes(np.float32(1).tobytes())
    if kind == "symlink":
        (folder / "link.bin").symlink_to(secret)
    elif kind == "hardlink":
        (folder / "link.bin").hardlink_to(secret)
    location = {"parent": "../secret.bin", "absolute": str(secret), "same folder": "secret.bin"}.get(kind, "link.bin")
    node = helper.make_node("Mul", ["image", "weight"], ["stylized"])
    style = save(folder / "a.onnx", model(node, weights=(external(location),)))

    done = isolated(
        PROGRAMS / "watch_opens.py", "stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--style", style, cwd=folder
    )

    status, opened, reached_onnxruntime = json.loads(done.stdout)
    assert status == 4
    assert b"keeps weights in other files" in done.stderr
    assert str(style) in opened
    assert not [path for path in opened if path.endswith(("secret.bin", "link.bin"))]
    assert not reached_onnxruntime  # whose own opening of files no hook would see
    with pytest.raises(UnsafeModelError):
        open_engine(style)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (typed(TensorProto.INT64, IMAGE), "takes tensor.int64."),
        (typed(TensorProto.UINT8, IMAGE), "takes tensor.uint8."),
        (typed(TensorProto.FLOAT, [1, 3, 224, 224]), "takes tensor.float. .1, 3, 224, 224."),
        (typed(TensorProto.FLOAT, ["N", 1, "H", "W"]), "any size"),
        (typed(TensorProto.FLOAT, ["N", 3, "H"]), "any size"),
        (typed(TensorProto.FLOAT, IMAGE, cast=TensorProto.STRING), "returns what it takes"),
        (typed(TensorProto.FLOAT, IMAGE, cast=TensorProto.UINT8), "returns what it takes"),
    ],
    ids=["int", "uint8 planes", "fixed size", "one channel", "three dimensions", "text out", "uint8 out"],
)
def test_an_exported_style_that_is_no_longer_one_is_refused(tmp_path, content, reason):
    with pytest.raises(ModelError, match=reason):
        OnnxEngine(save(tmp_path / "a.onnx", ours(content)), "cpu")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (typed(TensorProto.INT64, IMAGE), "takes tensor.int64. but a style takes a picture as float"),
        (typed(TensorProto.STRING, IMAGE), "takes tensor.string. but a style takes a picture as float"),
        (typed(TensorProto.FLOAT, ["N", 1, "H", "W"]), "takes .'N', 1, 'H', 'W'. but a style takes a picture"),
        (typed(TensorProto.FLOAT, ["N", 3, "H"]), "but a style takes a picture"),
        (typed(TensorProto.FLOAT, [1, 3, 8, 8]), "takes pictures of 8x8 only"),
        (typed(TensorProto.FLOAT, [1, 3, 100_000, 100_000]), "takes pictures of 100000x100000 only"),
        (typed(TensorProto.FLOAT, IMAGE, cast=TensorProto.STRING), "gives tensor.string. but a style gives a picture"),
    ],
    ids=["int", "text", "one channel", "three dimensions", "too small", "too large", "text out"],
)
def test_a_network_that_does_not_take_and_return_a_picture_is_refused(tmp_path, content, reason):
    with pytest.raises(ModelError, match=reason):
        OnnxEngine(save(tmp_path / "a.onnx", content), "cpu")


def test_a_network_with_two_inputs_is_refused(tmp_path):
    content = model(helper.make_node("Add", ["image", "other"], ["stylized"]))
    content.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, IMAGE))

    with pytest.raises(ModelError, match="has 2 inputs and 1 outputs but a style has one of each"):
        OnnxEngine(save(tmp_path / "a.onnx", content), "cpu")


def test_a_file_of_200_mib_is_refused(tmp_path):
    style = save(tmp_path / "a.onnx", model())
    os.truncate(style, 200 << 20)  # sparse

    with pytest.raises(ModelError, match="has more than 64 MiB"):
        open_engine(style)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_paints_no_numbers_is_refused(tmp_path, value):
    weight = numpy_helper.from_array(np.array([value], np.float32), "weight")
    content = model(helper.make_node("Mul", ["image", "weight"], ["stylized"]), weights=(weight,))

    for style in (content, ours(content)):
        with pytest.raises(ModelError, match="without finite values"):
            OnnxEngine(save(tmp_path / "a.onnx", style), "cpu")


def test_a_network_that_paints_another_size_is_refused(tmp_path):
    content = model(helper.make_node("Transpose", ["image"], ["stylized"], perm=[0, 1, 3, 2]))

    for style in (content, ours(content)):
        with pytest.raises(ModelError, match="of another size"):
            OnnxEngine(save(tmp_path / "a.onnx", style), "cpu")


def test_a_network_that_fails_while_running_is_refused(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 3, 5, 5]), "shape")
    content = model(helper.make_node("Reshape", ["image", "shape"], ["stylized"]), weights=(shape,))

    for style in (content, ours(content)):
        with pytest.raises(ModelError, match="does not paint a test picture"):
            OnnxEngine(save(tmp_path / "a.onnx", style), "cpu")


def test_a_network_of_another_project_that_cannot_be_a_style_exits_4(fastnst, tmp_path):
    style = save(tmp_path / "a.onnx", typed(TensorProto.INT64, IMAGE))

    done = fastnst("stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--style", style)

    assert (done.returncode, done.stderr.count(b"\n"), (tmp_path / "out.png").exists()) == (4, 1, False)


def test_options_for_styles_of_other_projects_are_refused_for_ours(checkpoint, onnx_style):
    for style in (checkpoint, onnx_style):
        with pytest.raises(UsageError, match=r"are for \.onnx styles of other projects"):
            open_engine(style, device="cpu", options=OnnxOptions(onnx_input="255"))


def test_an_onnx_style_paints_where_the_training_packages_are_missing(onnx_style, tmp_path):
    script = blocked("torch", "torchvision", "safetensors", "onnx", "onnxscript", "tensorboard")
    photo = PHOTOS / "cat.jpg"

    done = isolated(script, "stylize", photo, "-o", "out.png", "--max-size", 64, "--style", onnx_style, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("missing", "suffix", "extra"), [("onnxruntime", ".onnx", "cpu"), ("torch", ".safetensors", "train")]
)
def test_a_missing_engine_exits_3_and_says_what_to_install(checkpoint, onnx_style, tmp_path, missing, suffix, extra):
    style = onnx_style.with_suffix(suffix)

    done = isolated(blocked(missing), "stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--style", style, cwd=tmp_path)

    assert done.returncode == 3
    assert f'pip install "fastnst[{extra}]"' in done.stderr.decode()
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_gpu_that_is_not_there_exits_3_instead_of_falling_back(fastnst, onnx_style, tmp_path, suffix):
    style = onnx_style.with_suffix(suffix)

    done = fastnst("stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--device", "cuda", "--style", style)

    assert done.returncode == 3
    assert b"--device cuda was asked for" in done.stderr
    assert not (tmp_path / "out.png").exists()


def random_style(folder: Path, seed: int, preset: str = "tiny") -> Path:
    torch.manual_seed(seed)
    net = TransformerNet(PRESETS[preset])
    path = folder / f"{preset}{seed}.safetensors"
    save_checkpoint(path, net, CheckpointMeta(preset, net.config.to_json(), {"name": path.stem, "credit": ""}))
    return path


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_mixed_styles_have_the_mean_of_their_weights(engine):
    names = ["great-wave", "cafe-terrace", "poppies"]
    engines = [open_engine(name, engine) for name in names]
    image = to_array(read_picture(PHOTOS / "cat.jpg", max_size=96).rgb)

    between = mixed(engines, [2, 1, 1], names)

    for name, values in between.banded.weights.items():
        a, b, c = (one.banded.weights[name] for one in engines)
        if name.endswith("conv.weight"):  # a norm follows
            b, c = (np.linalg.norm(a) / np.linalg.norm(kernel) * kernel for kernel in (b, c))
        np.testing.assert_allclose(values, 0.5 * a + 0.25 * b + 0.25 * c, atol=1e-3)
    painted = [one(image) for one in (*engines, between)]
    assert min(np.abs(painted[-1] - one).mean() for one in painted[:-1]) > 0.01
    np.testing.assert_allclose(mixed(engines, [0, 3, 0], names)(image), painted[1], atol=1 / 255)


def test_longer_kernels_before_a_norm_get_no_larger_share(tmp_path):
    one, other = (load_checkpoint(bundled_style(name).checkpoint) for name in ("great-wave", "cafe-terrace"))
    image = to_array(read_picture(PHOTOS / "cat.jpg", max_size=96).rgb)
    between = []
    for times in (1, 4):
        with torch.no_grad():
            for name, weight in other[0].named_parameters():
                if name.endswith("conv.weight"):
                    weight *= times
        paths = [tmp_path / f"{times}-{place}.safetensors" for place in (0, 1)]
        for path, (net, meta) in zip(paths, (one, other), strict=True):
            save_checkpoint(path, net, meta)
        between.append(mixed([open_engine(path) for path in paths], [1, 1], paths)(image))

    np.testing.assert_allclose(between[0], between[1], atol=2 / 255)


def test_both_engines_mix_the_same(tmp_path):
    names = ["great-wave", "cafe-terrace"]
    image = to_array(read_picture(PHOTOS / "cat.jpg", max_size=80).rgb)

    def painted(engine):
        return mixed([open_engine(name, engine) for name in names], [1, 1], names)(image)

    np.testing.assert_allclose(painted("onnx"), painted("torch"), atol=1 / 255)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_styles_with_and_without_a_margin_mix_and_that_of_the_first_stays(engine):
    names = ["church-at-auvers-base", "great-wave-base"]
    image = to_array(read_picture(PHOTOS / "cat.jpg", max_size=64).rgb)

    for order in (names, names[::-1]):
        engines = [open_engine(name, engine) for name in order]
        between = mixed(engines, [1, 0], order)
        np.testing.assert_allclose(between(image), engines[0](image), atol=1 / 255)
        assert mixed(engines, [1, 1], order).banded.config == engines[0].banded.config


def test_strangers_do_not_mix(tmp_path):
    paths = [random_style(tmp_path, 1), random_style(tmp_path, 2)]

    with pytest.raises(UsageError, match=r"not trained from the same start.*--init"):
        mixed([open_engine(path) for path in paths], [1, 1], paths)


def test_networks_of_different_shapes_do_not_mix():
    names = ["great-wave", "great-wave-tiny"]

    with pytest.raises(UsageError, match="different shapes"):
        mixed([open_engine(name) for name in names], [1, 1], names)


@pytest.mark.parametrize("shares", [[1], [1, 1, 1], [0, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_shares_that_are_none_are_refused(shares):
    names = ["great-wave", "cafe-terrace"]

    with pytest.raises(UsageError, match="one share for each of the 2 styles"):
        mixed([open_engine(name) for name in names], shares, names)


@pytest.fixture
def running() -> Iterator[Callable[[Callable[[], object]], "Future[object]"]]:
    """Run something in another thread."""
    pool = ThreadPoolExecutor(1)
    yield pool.submit
    pool.shutdown()


def test_a_picture_that_is_painted_can_be_stopped_from_another_thread(running):
    engine, stop, begun = OnnxEngine(bundled_style("great-wave-base").onnx, "cpu"), Stop(), time.perf_counter()
    with stop.ending(lambda: None):  # what is registered already is ended, too
        painting = running(lambda: engine(noise(1500, 1500), stop))
        while len(stop._ends) < 2:
            assert not painting.done()
        stop.set()
        with pytest.raises(StoppedError, match="stopped"):
            painting.result()

    assert time.perf_counter() - begun < 5  # all of it takes ten seconds and more
    assert engine(noise(20, 20)).shape == (1, 3, 20, 20)


@pytest.mark.parametrize("kind", ["onnx", "checkpoint"])
def test_what_is_stopped_before_it_begins_paints_nothing(kind):
    stop = Stop()
    stop.set()

    with pytest.raises(StoppedError):
        open_engine(getattr(bundled_style("great-wave-tiny"), kind), device="cpu")(noise(20, 20), stop)


def test_frugal_engines_paint_the_same_in_the_same_memory(tmp_path):
    script = """
import sys
from pathlib import Path
import numpy as np
from fastnst.engine import OnnxEngine
from fastnst.styles import bundled_styles

image = np.random.default_rng(0).random((1, 3, 700, 700), dtype=np.float32)
peaks = []
for style in [one for one in bundled_styles() if one.preset == "fast"][:4]:
    engine = OnnxEngine(style.onnx, "cpu", frugal=True)
    painted = engine(image)
    peaks.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
assert np.array_equal(painted, OnnxEngine(style.onnx, "cpu")(image))
print(*peaks)
"""
    done = isolated(script, cwd=tmp_path)

    assert done.stderr == b""
    first, *_, last = map(int, done.stdout.split())
    assert last - first < 60e6  # each would keep 100 MB and more of its own
