"""The page as a mapping of addresses to files, which `fastnst serve` answers with and `fastnst site` writes."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from fastnst import __version__
from fastnst.engine import OnnxEngine, open_engine
from fastnst.errors import ModelError, UnsafeModelError, UsageError
from fastnst.files import is_folder, printable
from fastnst.image import SAMPLE, encode_picture, read_picture, resize, to_array, to_pixels
from fastnst.meta import CheckpointMeta
from fastnst.nets.onnx_graph import build, read_weights
from fastnst.nets.onnx_proto import read_onnx, read_signature
from fastnst.nets.spec import NetConfig
from fastnst.serve import runtime as onnxruntime_web
from fastnst.styles import DEFAULT_STYLE, bundled_names, bundled_style, style_file

PAGE = Path(__file__).parent / "page"
AT_ROOT = ("index.html", "service-worker.js", "manifest.webmanifest")  # the rest of the page lies below ASSETS
ASSETS = "{{assets}}"  # in the files at the root, the folder of the rest

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    "": "text/plain; charset=utf-8",
}

REFERENCE_SIDE = 64  # pixels of the picture that a browser's WebGPU is tried on
_PREVIEW_SIDE = 320
_PREVIEW_TILE = (276, 10, 532, 266)  # of a bundled sheet: the castle
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class StaticFile:
    """One file of the page."""

    content: bytes | Path  # a path is read when it is asked for
    media_type: str
    immutable: bool  # whether its name holds its version, so that it may be kept for a year


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

    The first one is the default, or great-wave if it is among them.

    Raises UsageError for a name that no style has, or that two have, ModelError for an unusable file, and for an ONNX
    file of another project.
    """
    found = [_published(style) for given in styles or bundled_names() for style in _expanded(given)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two styles are called {name}; rename one of the files, or leave it out")
    default = DEFAULT_STYLE if DEFAULT_STYLE in names else names[0]
    marked = [replace(one, default=one.name == default) for one in found]
    return sorted(marked, key=lambda one: not one.default)


def site_files(
    styles: Sequence[Published],
    *,
    runtime: Path | None,
    api: bool,
    limits: Mapping[str, int] | None = None,
    token: bool = False,
) -> dict[str, StaticFile]:
    """The whole page: address, relative to where it is -> file.

    `runtime` is the folder of onnxruntime-web, None to paint on the server; with `api` the page may ask one, whose
    `limits` are named, and which wants a `token` or not.
    """
    files = _page_files(offline=not api)
    listed = []
    for style in styles:
        data = style.data
        address = f"styles/{style.name}.{_hash(data)[:8]}.onnx"
        files[address] = _static(address, style.onnx, immutable=True)
        about = {"name": style.name, "title": style.title, "credit": style.credit, "preset": style.preset}
        listed.append(about | {"file": address, "bytes": len(data), "sha256": _hash(data), "preview": None})
        if style.preview is not None:
            preview = f"styles/{style.name}.{_hash(style.preview)[:8]}.jpg"
            files[preview] = _static(preview, style.preview, immutable=True)
            listed[-1]["preview"] = preview
    default = next(style for style in styles if style.default)
    if runtime is not None:
        contents: dict[str, bytes | Path] = {name: runtime / name for name in onnxruntime_web.SCRIPTS}
        contents[onnxruntime_web.LICENSE] = onnxruntime_web.NOTICE.encode()
        for name, content in contents.items():
            address = f"runtime/{onnxruntime_web.VERSION}/{name}"
            files[address] = _static(address, content, immutable=True)
        files["reference.json"] = _json("reference.json", reference(default))
    files["styles.json"] = _json(
        "styles.json",
        {
            "version": __version__,
            "api": api,
            "runtime": None if runtime is None else f"runtime/{onnxruntime_web.VERSION}/",
            "offline": not api,
            "limits": None if limits is None else dict(limits),
            "token": token,
            "default": default.name,
            "styles": listed,
        },
    )
    return files


def reference(style: Published) -> dict[str, Any]:
    """A small picture and what ONNX Runtime makes of it, which a browser's WebGPU has to agree with."""
    rgb = resize(read_picture(SAMPLE), REFERENCE_SIDE, REFERENCE_SIDE).rgb
    stylized = to_pixels(OnnxEngine(Path(f"{style.name}.onnx"), "cpu", data=style.data)(to_array(rgb)))
    side = {"width": REFERENCE_SIDE, "height": REFERENCE_SIDE}
    pixels = {"input": rgb, "output": stylized}
    return {"style": style.name} | side | {key: base64.b64encode(p.tobytes()).decode() for key, p in pixels.items()}


def _page_files(*, offline: bool) -> dict[str, StaticFile]:
    """The files of the page itself; with a service worker for use without a network only if it is wanted."""
    paths = {path.relative_to(PAGE).as_posix(): path for path in sorted(PAGE.rglob("*")) if path.is_file()}
    assets = {name: path.read_bytes() for name, path in paths.items() if name not in AT_ROOT}
    folder = "assets/" + _hash(*(part for name in assets for part in (name.encode(), assets[name])))[:12]
    files = {}
    for name, data in assets.items():
        files[f"{folder}/{name}"] = _static(name, data, immutable=True)
    for name in AT_ROOT:
        if name in paths and (offline or name != "service-worker.js"):
            text = paths[name].read_text(encoding="utf-8").replace(ASSETS, folder)
            files[name] = _static(name, text.encode(), immutable=False)
    return files


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
    onnx, meta = _of_checkpoint(path) if path.suffix == ".safetensors" else _of_onnx(path)
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


def _of_checkpoint(path: Path) -> tuple[bytes, CheckpointMeta]:
    """A checkpoint exported in memory."""
    engine = open_engine(path, device="cpu")
    network = engine.banded
    return build(network.config, network.weights, metadata={"fastnst": engine.meta.to_json()}), engine.meta


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


def _static(name: str, content: bytes | Path, *, immutable: bool) -> StaticFile:
    return StaticFile(content, MEDIA_TYPES[PurePosixPath(name).suffix], immutable)


def _json(name: str, value: Any) -> StaticFile:
    return _static(name, json.dumps(value, ensure_ascii=False).encode(), immutable=False)


def _hash(*parts: bytes) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little") if len(parts) > 1 else b"")
        sha.update(part)
    return sha.hexdigest()
