import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.engines import isolated
from helpers.material import PROGRAMS, ROOT

from fastnst.checkpoint import load_checkpoint
from fastnst.config import ExportOptions
from fastnst.engine import OnnxEngine, TorchEngine
from fastnst.errors import ModelError, OutputError, UsageError
from fastnst.export import SIZES, ExportReport, export, largest_difference
from fastnst.image import SAMPLE
from fastnst.info import describe
from fastnst.nets.onnx_graph import BLOCKS
from fastnst.nets.onnx_proto import read_tensors
from fastnst.nets.spec import layers

# Five sizes, one with a batch.
EXACT = [(1, 64, 64), (1, 65, 97), (3, 33, 128), (2, 16, 17), (1, 201, 160)]


def paint_with_torch(checkpoint):
    net, _ = load_checkpoint(checkpoint)

    def run(images):
        with torch.inference_mode():
            return net(torch.from_numpy(images)).clamp(0, 1).numpy()

    return net, run


@pytest.fixture(scope="module")
def opset_17(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The fixture's checkpoint with the older operators, in a folder of its own, over a file that was there."""
    path = tmp_path_factory.mktemp("opset_17") / "a.onnx"
    path.write_text("mine")
    return export(checkpoint, path, ExportOptions(opset=17, overwrite=True))


@pytest.mark.parametrize("opset", [17, 18])
def test_an_export_is_valid_and_paints_what_torch_paints(checkpoint, onnx_style, opset_17, opset):
    path = opset_17.path if opset == 17 else onnx_style

    onnx.checker.check_model(onnx.load(path, load_external_data=False), full_check=True)
    assert [(entry.domain, entry.version) for entry in onnx.load(path).opset_import] == [("", opset)]
    onnx_engine, torch_engine = OnnxEngine(path, "cpu"), TorchEngine(checkpoint, "cpu")
    for n, h, w in EXACT:
        image = np.random.default_rng(h).random((n, 3, h, w), dtype=np.float32)
        assert np.abs(onnx_engine(image) - torch_engine(image)).max() < 1e-3


def test_an_export_is_one_file_and_is_reported_as_it_is(opset_17):
    assert os.listdir(opset_17.path.parent) == ["a.onnx"]
    assert (opset_17.size, opset_17.opset) == (opset_17.path.stat().st_size, 17)
    assert 0 <= opset_17.largest_difference < 1e-3


def test_the_names_and_free_sizes_are_those_promised(onnx_style):
    session = onnxruntime.InferenceSession(onnx_style.read_bytes(), providers=["CPUExecutionProvider"])

    (given,), (painted,) = session.get_inputs(), session.get_outputs()

    assert (given.name, given.type, given.shape) == ("image", "tensor(float)", ["N", 3, "H", "W"])
    assert (painted.name, painted.type, painted.shape) == ("stylized", "tensor(float)", ["N", 3, "H", "W"])


@pytest.fixture(scope="module")
def variants(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[bool, bool], ExportReport]:
    """The fixture's checkpoint by (uint8, fp16)."""
    folder = tmp_path_factory.mktemp("variants")
    return {
        (uint8, fp16): export(
            checkpoint,
            folder / f"{uint8}-{fp16}.onnx",
            ExportOptions(uint8=uint8, fp16=fp16, opset=17 if uint8 and fp16 else 18),
        )
        for uint8, fp16 in ((True, False), (False, True), (True, True))
    }


VARIANTS = [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_eight_bits_and_float16_paint_what_torch_paints(checkpoint, variants, variant):
    report, torch_engine = variants[variant], TorchEngine(checkpoint, "cpu")

    onnx.checker.check_model(onnx.load(report.path, load_external_data=False), full_check=True)
    assert (report.uint8, report.fp16) == variant
    assert report.largest_difference <= 1 / 255
    onnx_engine = OnnxEngine(report.path, "cpu")
    for n, h, w in EXACT:
        image = np.random.default_rng(h).integers(0, 256, (n, 3, h, w)).astype(np.float32) / np.float32(255)
        painted = onnx_engine(image)
        assert painted.shape == image.shape
        assert np.abs(painted - torch_engine(image)).max() < 1 / 255


@pytest.mark.parametrize("fp16", [False, True])
def test_eight_bits_go_in_and_come_out_rounded(checkpoint, variants, fp16):
    path = variants[True, fp16].path
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (given,), (painted,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["N", "H", "W", 3])
    assert (painted.name, painted.type, painted.shape) == ("stylized", "tensor(uint8)", ["N", "H", "W", 3])

    image = np.random.default_rng(0).integers(0, 256, (2, 33, 47, 3), np.uint8)
    (found,) = session.run(None, {"image": image})

    wanted = TorchEngine(checkpoint, "cpu")(image.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    exact = wanted.transpose(0, 2, 3, 1) * 255
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() <= 0.5 + (0.2 if fp16 else 1e-3)


def test_float16_takes_and_returns_float32_and_keeps_no_wider_weights(checkpoint, variants):
    path = variants[False, True].path

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    assert {value.type for value in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}
    net, _ = load_checkpoint(checkpoint)
    stored = read_tensors(path.read_bytes())
    for layer in layers(net.config):
        kernel = layer.subpixel_kernel(net.state_dict()[layer.weight].numpy()) if layer.upsample else None
        if kernel is not None:
            np.testing.assert_array_equal(stored[layer.weight + BLOCKS], kernel.astype(np.float16), strict=True)
    assert {tensor.dtype for tensor in stored.values() if tensor.size >= 8 and tensor.dtype.kind == "f"} == {
        np.dtype(np.float16)
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_info_says_what_a_file_takes_and_in_what_it_computes(checkpoint, variants, variant):
    uint8, fp16 = variant

    found = describe(variants[variant].path)

    shape = "uint8 (N, H, W, 3)" if uint8 else "float32 (N, 3, H, W)"
    assert (found["input"], found["output"]) == ({"image": shape}, {"stylized": shape})
    assert found.get("precision") == ("float16" if fp16 else None)
    assert found["style"]["name"] == "random"


def test_the_command_exports_eight_bits_in_float16(fastnst, checkpoint, tmp_path):
    done = fastnst("export", checkpoint, "-o", "a.onnx", "--uint8", "--fp16")

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"of 255 gray levels, rounding to 8 bits included\n")
    assert describe(tmp_path / "a.onnx")["input"] == {"image": "uint8 (N, H, W, 3)"}


def test_a_difference_that_eight_bits_hide_is_none(checkpoint):
    net, run = paint_with_torch(checkpoint)

    def rounds(images):
        return np.rint(run(np.rint(images * 255) / np.float32(255)) * 255) / np.float32(255)

    assert 0.49 / 255 < largest_difference(net, rounds, eight_bits=True) < 0.501 / 255


def test_the_metadata_is_that_of_the_checkpoint(checkpoint, onnx_style):
    _, meta = load_checkpoint(checkpoint)

    properties = {entry.key: entry.value for entry in onnx.load(onnx_style).metadata_props}

    assert json.loads(properties["fastnst"]) == json.loads(meta.to_json())


def test_the_file_does_not_tell_where_it_was_made(onnx_style):
    data = onnx_style.read_bytes()

    assert os.fsencode(ROOT) not in data
    assert b"site-packages" not in data
    assert b".py" not in data


def test_an_engine_that_agrees_has_no_difference(checkpoint):
    net, run = paint_with_torch(checkpoint)

    assert largest_difference(net, run) == 0


@pytest.mark.parametrize("offset", [0.5 / 255, 0.25, -3])
def test_the_largest_difference_is_found(checkpoint, offset):
    net, run = paint_with_torch(checkpoint)

    assert largest_difference(net, lambda images: run(images) + np.float32(offset)) == pytest.approx(
        abs(offset), rel=1e-4
    )


def test_a_single_wrong_pixel_of_any_picture_is_found(checkpoint):
    net, run = paint_with_torch(checkpoint)

    def wrong_in_batches(images):
        painted = run(images)
        if len(images) > 1:
            painted[2, 1, 5, 7] += 0.5
        return painted

    assert largest_difference(net, wrong_in_batches) == pytest.approx(0.5, rel=1e-4)


def test_values_that_are_no_numbers_are_no_agreement(checkpoint):
    net, run = paint_with_torch(checkpoint)
    seen = []

    def wrong_once(images):
        seen.append(images)
        return np.full_like(images, np.nan) if len(seen) == 2 else run(images)

    assert np.isnan(largest_difference(net, wrong_once))
    assert len(seen) == len(SIZES) + 1  # the real picture


def test_another_size_is_no_agreement(checkpoint):
    net, run = paint_with_torch(checkpoint)

    with pytest.raises(ModelError, match="nothing was written"):
        largest_difference(net, lambda images: run(images)[..., :-1])


def test_the_comparison_uses_a_real_picture():
    assert SAMPLE.is_file()


def test_the_command_prints_size_and_largest_difference(fastnst, checkpoint, tmp_path):
    done = fastnst("export", checkpoint, "-o", "a.onnx")

    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == ["a.onnx"]
    size = (tmp_path / "a.onnx").stat().st_size / 1e6
    assert done.stdout.decode().startswith(f"a.onnx: {size:.2f} MB, largest difference to torch 0.0")
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_an_existing_output_is_refused_before_any_work(fastnst, tmp_path):
    (tmp_path / "a.onnx").write_text("mine")

    # A checkpoint that is not there would be an error of its own, if anybody looked.
    done = fastnst("export", "missing.safetensors", "-o", "a.onnx")

    assert done.returncode == 5
    assert b"a.onnx exists already; add --overwrite" in done.stderr
    assert (tmp_path / "a.onnx").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.safetensors", "a", "a.onnx.txt"])
def test_an_output_that_is_not_named_like_an_onnx_file_is_refused(checkpoint, tmp_path, name):
    with pytest.raises(UsageError, match=rf"{name} but must end in \.onnx"):
        export(checkpoint, tmp_path / name)

    assert os.listdir(tmp_path) == []


def test_a_damaged_checkpoint_leaves_nothing_behind(checkpoint, tmp_path):
    damaged, folder = tmp_path / "damaged.safetensors", tmp_path / "out"
    damaged.write_bytes(checkpoint.read_bytes()[:-50])
    folder.mkdir()

    with pytest.raises(ModelError, match=r"damaged\.safetensors"):
        export(damaged, folder / "a.onnx")

    assert os.listdir(folder) == []


def test_a_place_that_cannot_be_written_is_refused(checkpoint, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "a.onnx").mkdir()

    with pytest.raises(OutputError, match="is not a folder"):
        export(checkpoint, tmp_path / "file" / "a.onnx")
    with pytest.raises(OutputError, match="is a folder"):
        export(checkpoint, tmp_path / "a.onnx")

    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "file"]


def test_a_disk_that_fills_up_exits_5_and_leaves_nothing_behind(checkpoint, tmp_path):
    done = isolated(PROGRAMS / "full_disk.py", "export", checkpoint, "-o", "a.onnx", cwd=tmp_path)

    assert done.returncode == 5, done.stderr
    assert b"cannot write" in done.stderr
    assert os.listdir(tmp_path) == []
