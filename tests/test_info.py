import json
from dataclasses import asdict

import onnx
import pytest
from helpers.onnx_files import model, save
from onnx import helper

from fastnst.checkpoint import load_checkpoint
from fastnst.errors import ModelError
from fastnst.info import describe


def test_a_checkpoint_tells_all_its_metadata(checkpoint):
    net, meta = load_checkpoint(checkpoint)

    found = describe(checkpoint)

    assert found["kind"] == "checkpoint"
    assert found["bytes"] == checkpoint.stat().st_size
    assert found["parameters"] == sum(parameter.numel() for parameter in net.parameters())
    assert asdict(meta).items() <= found.items()


def test_an_onnx_file_tells_the_same_metadata(checkpoint, onnx_style):
    found = describe(onnx_style)

    assert (found["kind"], found["opset"], found["bytes"]) == ("onnx", 18, onnx_style.stat().st_size)
    assert found["nodes"] == len(onnx.load(onnx_style).graph.node)
    assert json.loads(load_checkpoint(checkpoint)[1].to_json()).items() <= found.items()


def test_an_onnx_file_of_somebody_else_tells_what_it_has(tmp_path):
    found = describe(save(tmp_path / "a.onnx", model()))

    assert found.keys() == {"file", "kind", "bytes", "opset", "nodes", "input", "output"}
    assert (found["opset"], found["nodes"]) == (17, 1)
    assert (found["input"], found["output"]) == (
        {"image": "float32 (N, 3, H, W)"},
        {"stylized": "float32 (N, 3, H, W)"},
    )


@pytest.mark.parametrize("text", ["", "[1]", "5", "{", "[" * 100_000])
def test_an_onnx_file_with_a_damaged_header_is_refused(tmp_path, text):
    content = model()
    helper.set_model_props(content, {"fastnst": text})

    with pytest.raises(ModelError, match="unreadable fastnst header"):
        describe(save(tmp_path / "a.onnx", content))


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_the_command_prints_json(fastnst, onnx_style, suffix):
    path = onnx_style.with_suffix(suffix)

    done = fastnst("info", path, "--json")

    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == describe(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_the_command_prints_one_thing_a_line(fastnst, onnx_style, suffix):
    path = onnx_style.with_suffix(suffix)

    done = fastnst("info", path)

    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.decode().splitlines()] == list(describe(path))
    assert "style: name random, credit nobody" in done.stdout.decode()


@pytest.mark.parametrize("name", ["photo.jpg", "none.safetensors", "none.onnx"])
def test_a_file_that_holds_no_style_exits_4(fastnst, tmp_path, name):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))

    done = fastnst("info", name)

    assert done.returncode == 4
    assert name.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1
