"""Styles as the page shows them: bundled ones by name, or own files, each with a title and a preview."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from fastnst.engine import OnnxEngine
from fastnst.errors import ModelError, UnavailableError, UsageError
from fastnst.files import is_folder, printable
from fastnst.image import SAMPLE, encode_picture, read_picture, to_array, to_pixels
from fastnst.meta import CheckpointMeta
from fastnst.nets.onnx_graph import build, read_weights
from fastnst.nets.onnx_proto import read_onnx, read_signature
from fastnst.nets.spec import NetConfig
from fastnst.serve.checkpoints import export_checkpoint
from fastnst.styles import DEFAULT_STYLE, bundled_names, bundled_style, style_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PREVIEW_SIDE = 320  # pixels, of the longer one
_PREVIEW_TILE = (276, 10, 532, 266)  # of a bundled sheet of paintings: the castle


@dataclass(frozen=True)
class Published:
    """One style on the page: an ONNX file that takes and gives float32 (N, 3, H, W) 0..1, of any size."""

    name: str
    title: str
    credit: str
    preset: str
    onnx: bytes | Path
    preview: bytes | None  # a JPEG
    default: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of the ONNX file."""
        return self.onnx if isinstance(self.onnx, bytes) else self.onnx.read_bytes()


def published_styles(styles: Sequence[str | Path] = ()) -> list[Published]:
    """Bundled styles by name, .onnx and .safetensors files, and those of folders; all bundled ones by default.

    The first one is the default, or great-wave if it is among them, which then comes first; of all bundled ones, those
    of other presets come last.

    Raises UsageError for a name that no style has, or that two have, ModelError for an unusable file, and for an ONNX
    file of another project, UnavailableError if none is bundled.
    """
    wanted = styles or bundled_names()
    if not wanted:
        raise UnavailableError("no styles are installed; install fastnst anew, or give files or folders of styles")
    found = [_published(style) for given in wanted for style in _expanded(given)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two styles are called {name}; rename one of the files, or leave it out")
    default = DEFAULT_STYLE if DEFAULT_STYLE in names else names[0]
    marked = [replace(one, default=one.name == default) for one in found]
    others = set() if styles else {one.name for one in found if one.preset != bundled_style(default).preset}
    return sorted(marked, key=lambda one: (not one.default, one.name in others))


def _expanded(given: str | Path) -> Iterable[str | Path]:
    """A style, or those of a folder: of files of one name the .onnx."""
    if not is_folder(given):
        return [given]
    paths = {path.stem: path for kind in ("safetensors", "onnx") for path in sorted(Path(given).glob(f"*.{kind}"))}
    if not paths:
        raise UsageError(f"{printable(given)} holds no .onnx or .safetensors file; give a folder of styles")
    return [paths[name] for name in sorted(paths)]


def _published(given: str | Path) -> Published:
    """A bundled style by name, or a file."""
    path = style_file(given, "onnx")
    if str(given) in bundled_names() and path == bundled_style(str(given)).onnx:
        style = bundled_style(str(given))
        preview = _tile_of_sheet(style.preview) if style.preview.is_file() else None
        title = title_of(style.name, style.credit, style.preset)
        return Published(style.name, title, style.credit, style.preset, path, preview)
    if not _NAME.fullmatch(path.stem):
        raise UsageError(
            f"{printable(path)} cannot be an address: letters, digits, - and _ can, up to 64; rename the file"
        )
    onnx, meta = export_checkpoint(path) if path.suffix == ".safetensors" else _of_onnx(path)
    credit = str(meta.style.get("credit", ""))
    beside = path.with_suffix(".jpg")
    preview = _small(beside) if beside.is_file() else _painted(path.stem, onnx)
    return Published(path.stem, title_of(path.stem, credit, meta.preset), credit, meta.preset, onnx, preview)


def _of_onnx(path: Path) -> tuple[bytes | Path, CheckpointMeta]:
    """An exported style as the page takes it: float32 outside and inside."""
    if path.suffix != ".onnx":
        raise ModelError(f"{printable(path)} is no style; give a bundled name, a .safetensors or an .onnx file")
    data, file = read_onnx(path)
    if "fastnst" not in file.metadata:
        raise ModelError(
            f"{printable(path)} was not exported by fastnst, and the page cannot know what it takes; turn its original "
            "into a checkpoint with fastnst import"
        )
    meta = CheckpointMeta.from_json(file.metadata["fastnst"], path)
    if "precision" not in file.metadata and "float" in str(read_signature(data)[0].get("image")):
        return path, meta
    try:
        config = NetConfig(**meta.net)
        return build(config, read_weights(config, data), metadata={"fastnst": meta.to_json()}), meta
    except (TypeError, ValueError, UsageError) as error:
        raise ModelError(f"{printable(path)} does not name its layers ({error}); export the style again") from error


def title_of(name: str, credit: str, preset: str) -> str:
    """A name as people write it, its words as the credit spells them: composition-viii -> Composition VIII."""
    *words, last = re.split(r"[-_]", name)
    words, variant = (words, f", {last}") if words and last == preset else ([*words, last], "")
    spelled = {word.lower(): word for word in re.findall(r"\w+", credit)}
    title = " ".join(spelled.get(word.lower(), word.capitalize()) for word in words)
    return title[:1].upper() + title[1:] + variant


def _tile_of_sheet(path: Path) -> bytes:
    with Image.open(path) as sheet:
        return _jpeg(sheet.crop(_PREVIEW_TILE))


def _small(path: Path) -> bytes:
    return encode_picture(read_picture(path, max_size=_PREVIEW_SIDE), "JPEG", 85)


def _painted(name: str, onnx: bytes | Path) -> bytes:
    """A photograph in a style."""
    data = onnx if isinstance(onnx, bytes) else onnx.read_bytes()
    engine = OnnxEngine(Path(f"{name}.onnx"), "cpu", data=data)
    return _jpeg(Image.fromarray(to_pixels(engine(to_array(read_picture(SAMPLE).rgb)))))


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
