import ast
import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import mutate
from helpers.material import PHOTOS, ROOT
from safetensors.torch import save_file

from fastnst.checkpoint import (
    CheckpointMeta,
    TrainState,
    load_checkpoint,
    load_state,
    previous_state,
    save_checkpoint,
    save_state,
)
from fastnst.errors import FastnstError, InputError, ModelError, OutputError, UnsafeModelError
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet

Header = dict[str, Any]

MODULES = sorted((ROOT / "fastnst").rglob("*.py"))


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.target}'",)


def split(data: bytes) -> tuple[Header, bytes]:
    """Header and tensors of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: Header | list[Any] | bytes, payload: bytes) -> bytes:
    """A safetensors file with this header, which need not be a valid one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def changed_header(data: bytes, change: Callable[[Header], Any]) -> bytes:
    header, payload = split(data)
    change(header)
    return joined(header, payload)


def changed_meta(data: bytes, **values: Any) -> bytes:
    """A checkpoint with other metadata; None removes a key."""

    def change(header: Header) -> None:
        meta = json.loads(header["__metadata__"]["fastnst"]) | values
        header["__metadata__"]["fastnst"] = json.dumps({k: v for k, v in meta.items() if v is not None})

    return changed_header(data, change)


def overlap(header: Header) -> None:
    first, second = [name for name in header if name != "__metadata__"][:2]
    header[second]["data_offsets"][0] = header[first]["data_offsets"][0]


def point_beyond(header: Header) -> None:
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    header[last]["data_offsets"][1] += 4096


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-100],
    "cut off in the header": lambda data: data[:100],
    "extra tail": lambda data: data + b"tail",
    "empty": lambda data: b"",
    "huge header length": lambda data: struct.pack("<Q", 1 << 62) + data[8:],
    "bad JSON": lambda data: data[:8] + b"}" + data[9:],
    "overlapping offsets": lambda data: changed_header(data, overlap),
    "offset beyond the file": lambda data: changed_header(data, point_beyond),
    "header is a list": lambda data: joined([1, 2], split(data)[1]),
    "header is nested deeply": lambda data: joined(b"[" * 100_000, b""),
    "unknown numbers": lambda data: changed_header(data, lambda h: h["paint.bias"].update(dtype="F8_E8M0", shape=[12])),
}


@pytest.fixture
def damaged(checkpoint: Path, tmp_path: Path) -> Callable[[Callable[[bytes], bytes]], Path]:
    """Write the checkpoint again, changed."""

    def write(change: Callable[[bytes], bytes]) -> Path:
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(change(checkpoint.read_bytes()))
        return path

    return write


@pytest.fixture
def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(checkpoint)[0].state_dict())


@pytest.fixture
def save_tensors(checkpoint: Path, tmp_path: Path) -> Callable[[dict[str, torch.Tensor]], Path]:
    """Write these tensors with the checkpoint's metadata, less the digest, which would find any change."""

    def write(tensors: dict[str, torch.Tensor]) -> Path:
        path = tmp_path / "changed.safetensors"
        meta = replace(load_checkpoint(checkpoint)[1], digest="")
        save_file(tensors, path, metadata={"fastnst": meta.to_json()})
        return path

    return write


def test_a_checkpoint_comes_back_with_its_convolutions_rounded_to_float16(tmp_path):
    net = TransformerNet(NetConfig(channels=(4, 6, 8), blocks=2, kernels=(5, 3)))
    meta = CheckpointMeta(
        "custom", net.config.to_json(), {"name": "a", "credit": "é"}, {"size": 64}, {"tv": 0.1}, 7, 28
    )

    save_checkpoint(tmp_path / "new" / "a.safetensors", net, meta)
    loaded, found = load_checkpoint(tmp_path / "new" / "a.safetensors")

    assert replace(found, digest="") == meta
    assert loaded.config == net.config
    assert loaded.state_dict().keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float() if tensor.ndim == 4 else tensor)


def test_a_loaded_network_is_in_eval_mode_and_can_be_trained_on(checkpoint):
    net, _ = load_checkpoint(checkpoint)

    net(torch.rand(1, 3, 16, 16)).sum().backward()

    assert not net.training
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_loading_uses_no_random_numbers(checkpoint):
    before = torch.random.get_rng_state()

    load_checkpoint(checkpoint)

    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_of_half_precision_loads_as_float32(tmp_path, dtype):
    net = TransformerNet(NetConfig(channels=(4, 4, 4), blocks=0)).to(dtype)
    save_checkpoint(tmp_path / "half.safetensors", net, CheckpointMeta("custom", net.config.to_json(), {}))

    loaded, _ = load_checkpoint(tmp_path / "half.safetensors")

    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, net.state_dict()[name].float())


def test_unknown_metadata_of_the_same_format_is_ignored(damaged):
    path = damaged(lambda data: changed_meta(data, mood="cheerful"))

    assert load_checkpoint(path)[1].style["name"] == "random"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_a_pickle_is_never_run(tmp_path, protocol, name):
    path, target = tmp_path / name, tmp_path / "payload"
    path.write_bytes(pickle.dumps(Payload(target), protocol))

    with pytest.raises(ModelError):
        load_checkpoint(path)

    assert not target.exists()


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.model", "evil.safetensors"])
def test_an_archive_of_torch_as_style_is_unsafe_and_exits_4(fastnst, tmp_path, name):
    path, target = tmp_path / name, tmp_path / "payload"
    torch.save(Payload(target), path)

    done = fastnst("stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--style", path)

    assert done.returncode == 4
    assert b"is a pickle" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not target.exists()


def test_a_pickle_renamed_to_safetensors_is_called_unsafe(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "payload"), 2))

    with pytest.raises(UnsafeModelError, match=r"a\.safetensors is a pickle.*give a .safetensors"):
        load_checkpoint(path)


def test_a_header_whose_length_looks_like_a_pickle_is_read(damaged):
    length = int.from_bytes(b"PK", "little")

    path = damaged(lambda data: joined(json.dumps(split(data)[0]).encode().ljust(length), split(data)[1]))

    assert path.read_bytes()[:2] == b"PK"
    load_checkpoint(path)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused(damaged, damage):
    with pytest.raises(ModelError, match=r"damaged\.safetensors is not a readable safetensors file"):
        load_checkpoint(damaged(DAMAGED[damage]))


def test_a_damaged_style_exits_4(fastnst, damaged):
    done = fastnst("info", damaged(lambda data: data[:-100]))

    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1


def test_a_tensor_that_is_there_twice_is_named(damaged):
    def double(data: bytes) -> bytes:
        header, payload = split(data)
        entry = json.dumps({"paint.bias": header["paint.bias"]}).encode()
        return joined(json.dumps(header).encode()[:-1] + b", " + entry[1:], payload)

    with pytest.raises(ModelError, match=r"paint\.bias is there twice"):
        load_checkpoint(damaged(double))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("paint.bias"), r"lacks the tensor paint\.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "has the tensor extra"),
        (lambda t: t.update({"paint.bias": torch.zeros(4)}), r"paint\.bias is \(4,\) but must be \(3,\)"),
        (lambda t: t.update({"paint.bias": torch.zeros(3).int()}), r"paint\.bias is torch\.int32"),
        (lambda t: t.update({"paint.bias": torch.zeros(3).double()}), r"paint\.bias is torch\.float64"),
        (lambda t: t["paint.bias"].fill_(torch.nan), r"paint\.bias holds values that are not finite"),
        (lambda t: t["paint.bias"].fill_(torch.inf), r"paint\.bias holds values that are not finite"),
        (lambda t: t.clear(), r"lacks the tensor down\.0\.conv\.weight"),
    ],
    ids=["missing", "extra", "shape", "int32", "float64", "NaN", "Inf", "none"],
)
def test_a_tensor_that_does_not_fit_is_named(tensors, save_tensors, change, message):
    change(tensors)

    with pytest.raises(ModelError, match=message):
        load_checkpoint(save_tensors(tensors))


def test_control_characters_in_a_name_are_not_printed(tensors, save_tensors):
    tensors["\x1b[31mred"] = torch.zeros(1)

    with pytest.raises(ModelError, match=r"has the tensor \\x1b\[31mred"):
        load_checkpoint(save_tensors(tensors))


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")

    with pytest.raises(ModelError, match="not a fastnst checkpoint"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_a_newer_format_asks_for_an_update(damaged):
    path = damaged(lambda data: changed_meta(data, format=99))

    with pytest.raises(ModelError, match="has format 99 but only up to 1 is known; update fastnst"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "5", "{", '{"format": "1"}', '{"format": 1}', "[" * 100_000])
def test_metadata_that_fastnst_did_not_write_is_refused(damaged, text):
    path = damaged(lambda data: changed_header(data, lambda header: header["__metadata__"].update(fastnst=text)))

    with pytest.raises(ModelError, match="unreadable fastnst header"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "net",
    [
        {"channels": [10**30, 8, 16]},
        {"channels": [10**6, 10**6, 10**6]},
        {"channels": [8, 8.5, 16]},
        {"channels": [8, 8]},
        {"channels": None},
        {"blocks": 10**9},
        {"blocks": "x"},
        {"kernels": [9]},
        {"depth": 3},
        [],
    ],
    ids=str,
)
def test_a_network_that_cannot_be_meant_is_refused_without_building_it(damaged, net):
    path = damaged(lambda data: changed_meta(data, net={"channels": [8, 8, 16], "blocks": 1} | net if net else net))

    with pytest.raises(ModelError):
        load_checkpoint(path)


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_flipped_bit_of_a_weight_is_found(damaged, bit):
    path = damaged(lambda data: data[:-20] + bytes([data[-20] ^ 1 << bit]) + data[-19:])

    with pytest.raises(ModelError, match="does not match its own checksum"):
        load_checkpoint(path)


# B.7: flip, cut, splice
def test_300_mutations_load_or_raise_our_errors(checkpoint, tmp_path):
    chance = random.Random(0)
    data = checkpoint.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "mutated.safetensors"

    for number in range(300):
        path.write_bytes(mutate(data, chance, header if number % 4 else len(data)))
        with suppress(FastnstError):
            load_checkpoint(path)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.safetensors"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_failed_save_keeps_the_old_checkpoint(checkpoint, tmp_path):
    target = tmp_path / "taken"
    target.write_text("a file, not a folder")
    net, meta = load_checkpoint(checkpoint)

    with pytest.raises(OutputError, match="cannot make the folder"):
        save_checkpoint(target / "a.safetensors", net, meta)

    assert target.read_text() == "a file, not a folder"


def test_a_resume_state_comes_back_exactly_and_keeps_the_one_before(tmp_path):
    path = tmp_path / "a.state.safetensors"

    for step in (1, 2):
        save_state(path, TrainState({"moment": torch.full((3,), float(step))}, {"step": step, "config": {}}))

    for file, step in ((path, 2), (previous_state(path), 1)):
        state = load_state(file)
        assert state.values["step"] == step
        assert torch.equal(state.tensors["moment"], torch.full((3,), float(step)))
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, previous_state(path).name])


@pytest.mark.parametrize("text", ["{}", "[]", "5", "[1]", "{", "[" * 100_000])
def test_a_resume_state_with_a_foreign_header_is_refused(tmp_path, text):
    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"fastnst": text})

    with pytest.raises(ModelError, match="is not a resume state"):
        load_state(tmp_path / "a.safetensors")


def test_a_flipped_bit_in_the_values_of_a_resume_state_is_found(tmp_path):
    path = tmp_path / "a.safetensors"
    save_state(path, TrainState({"moment": torch.zeros(3)}, {"step": 7, "config": {"size": 64}}))
    data = path.read_bytes()

    for before, after in ((b'step\\": 7', b'step\\": 3'), (b'size\\": 64', b'size\\": 65')):
        assert before in data
        path.write_bytes(data.replace(before, after))
        with pytest.raises(ModelError, match="does not match its own checksum"):
            load_state(path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "fastnst").rglob("*.py")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_package_neither_unpickles_nor_runs_text(path):
    forbidden = {"torch.load", "torch.save", "yaml.load", "os.system", "os.popen", "eval", "exec", "compile"}

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {"pickle", "marshal", "shelve", "dill", "yaml"} & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in {"pickle", "marshal", "shelve", "dill", "yaml"}
        elif isinstance(node, ast.Call):
            function, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if (
                path.parent.name == "foreign" and function == "torch.load"
            ):  # the one place that reads other projects' files
                assert given["weights_only"] == "True"
                continue
            assert function not in forbidden
            assert not any(keyword.arg == "shell" for keyword in node.keywords)


def test_a_checkpoint_is_not_taken_for_a_resume_state(checkpoint):
    with pytest.raises(ModelError, match="not a resume state"):
        load_state(checkpoint)
