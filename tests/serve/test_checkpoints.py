import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.material import ROOT
from safetensors.torch import save_file

from fastnst.checkpoint import load_checkpoint, save_checkpoint
from fastnst.config import ExportOptions
from fastnst.engine import OnnxEngine
from fastnst.errors import ModelError
from fastnst.export import export
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet
from fastnst.serve.checkpoints import export_checkpoint
from fastnst.styles import bundled_styles

STYLES = [style.checkpoint for style in bundled_styles()]


def header(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def write(path: Path, about: dict, tensors: bytes) -> Path:
    text = json.dumps(about).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    return path


@pytest.mark.parametrize("exact", [False, True])
def test_it_is_the_file_that_export_writes(exact, checkpoint, tmp_path):
    path = tmp_path / "style.safetensors"
    save_checkpoint(path, *load_checkpoint(checkpoint), exact=exact)
    written = export(path, tmp_path / "style.onnx", ExportOptions()).path

    data, meta = export_checkpoint(path)

    assert data == written.read_bytes()
    assert meta == load_checkpoint(path)[1]


def test_bfloat16_is_read_too(checkpoint, tmp_path):
    net, meta = load_checkpoint(checkpoint)
    path = tmp_path / "style.safetensors"
    save_checkpoint(path, net.bfloat16(), meta)
    again, _ = load_checkpoint(path)
    image = np.random.default_rng(0).random((1, 3, 20, 24), dtype=np.float32)

    engine = OnnxEngine(tmp_path / "style.onnx", "cpu", data=export_checkpoint(path)[0])

    with torch.inference_mode():
        np.testing.assert_allclose(engine(image), again(torch.from_numpy(image)).clamp(0, 1).numpy(), atol=1e-4)


def test_bundled_ones_are_read_without_torch(tmp_path):
    program = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
        "from pathlib import Path\n"
        "from fastnst.serve.checkpoints import export_checkpoint\n"
        "for path in sys.argv[1:]: print(export_checkpoint(Path(path))[1].style['name'])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, STYLES)], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [path.stem for path in STYLES]


class TestDamage:
    def refused(self, path: Path, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            export_checkpoint(path)

    @pytest.mark.parametrize(
        "data",
        [b"", b"short", bytes(8), b"PK\x03\x04" * 9, b"\x80\x02ctorch" * 9, b"\x02" + bytes(7) + b"{}", bytes(99)],
    )
    def test_what_is_no_such_file(self, data, tmp_path):
        path = tmp_path / "style.safetensors"
        path.write_bytes(data)

        self.refused(path, "style.safetensors is (not a readable safetensors file|a safetensors file but not a style)")

    def test_a_flipped_bit(self, checkpoint, tmp_path):
        data = bytearray(checkpoint.read_bytes())
        data[-100] ^= 1
        path = tmp_path / "style.safetensors"
        path.write_bytes(data)

        self.refused(path, "does not match its own checksum")

    @pytest.mark.parametrize(
        "change",
        [
            {"dtype": "I64"},
            {"data_offsets": [0, 10**12]},
            {"data_offsets": [-4, 4]},
            {"data_offsets": [0]},
            {"shape": [1 << 40, 1 << 40]},
            {"shape": [-1, -1]},
            {"shape": None},
        ],
    )
    def test_a_header_that_lies(self, change, checkpoint, tmp_path):
        about, tensors = header(checkpoint)
        name = next(name for name in about if name != "__metadata__")
        about[name] |= change

        self.refused(write(tmp_path / "style.safetensors", about, tensors), "not a readable safetensors file")

    def test_a_file_cut_off_anywhere(self, checkpoint, tmp_path):
        data = checkpoint.read_bytes()
        path = tmp_path / "style.safetensors"
        for length in range(0, len(data), len(data) // 23):
            path.write_bytes(data[:length])
            self.refused(path, "style.safetensors")

    def test_a_safetensors_file_of_something_else(self, tmp_path):
        save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")

        self.refused(tmp_path / "other.safetensors", "not a style")

    def test_a_network_with_other_tensors(self, checkpoint, tmp_path):
        net = TransformerNet(NetConfig(channels=(8, 8, 16), blocks=2))
        _, meta = load_checkpoint(checkpoint)
        save_checkpoint(tmp_path / "more.safetensors", net, meta)  # says that it has one block
        small = TransformerNet(NetConfig(channels=(8, 8, 16), blocks=0))
        save_checkpoint(tmp_path / "less.safetensors", small, meta)

        self.refused(tmp_path / "more.safetensors", "its network has no tensor")
        self.refused(tmp_path / "less.safetensors", "is missing")

    def test_values_that_are_no_numbers(self, checkpoint, tmp_path):
        net, meta = load_checkpoint(checkpoint)
        with torch.no_grad():
            next(net.parameters())[0] = torch.nan
        save_checkpoint(tmp_path / "nan.safetensors", net, meta)

        self.refused(tmp_path / "nan.safetensors", "not finite")

    def test_a_file_that_is_too_large(self, tmp_path):
        path = tmp_path / "large.safetensors"
        with path.open("wb") as file:
            file.truncate((64 << 20) + 1)

        self.refused(path, "more than 64 MiB")
