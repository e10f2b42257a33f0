"""The page as a mapping of addresses to files, which `fastnst serve` answers with and `fastnst site` writes."""

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fastnst import __version__
from fastnst.config import SiteOptions
from fastnst.engine import OnnxEngine
from fastnst.errors import OutputError, UnavailableError
from fastnst.files import atomic_write, check_output, is_folder, printable, remove_leftovers
from fastnst.image import SAMPLE, read_picture, resize, to_array, to_pixels
from fastnst.serve import runtime as onnxruntime_web
from fastnst.serve.published import Published as Published
from fastnst.serve.published import published_styles as published_styles

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
_VERSIONED = re.compile(
    r"assets/[0-9a-f]{12}/.+|styles/[\w-]+\.[0-9a-f]{8}\.(onnx|jpg)|runtime/[\d.]+/[\w.-]+", flags=re.ASCII
)
_TEMPORARY = re.compile(r"(.+/)?\.fastnst\.\d+\.[0-9a-f]+\.tmp")


@dataclass(frozen=True)
class StaticFile:
    """One file of the page."""

    content: bytes | Path  # a path is read when it is asked for
    media_type: str
    immutable: bool  # whether its name holds its version, so that it may be kept for a year


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
    listed: list[dict[str, Any]] = []
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


@dataclass(frozen=True)
class Site:
    """What was published."""

    folder: Path
    files: int
    size: int  # bytes


def publish(styles: Sequence[str | Path], options: SiteOptions) -> Site:
    """Write the page with these styles, by default all bundled ones, for a static host.

    Raises UnavailableError without onnxruntime-web, and what `published_styles` and `write_site` raise.
    """
    runtime = onnxruntime_web.runtime_folder()
    if runtime is None:
        raise UnavailableError(
            "a static page paints in the browser with onnxruntime-web, which is not there; run npm ci in the checkout, "
            "or install fastnst anew where Node.js is installed"
        )
    check_site(options.output, overwrite=options.overwrite)
    files = site_files(published_styles(styles), runtime=runtime, api=False)
    return write_site(options.output, files, overwrite=options.overwrite)


def check_site(folder: Path, *, overwrite: bool) -> None:
    """OutputError for a folder that cannot be written to, or with anything but an earlier site in it."""
    if os.path.lexists(folder) and not is_folder(folder):
        raise OutputError(f"{printable(folder)} is a file; give the name of a folder")
    check_output(folder / "index.html", overwrite=True)
    foreign = None if overwrite else next(_foreign(folder), None)
    if foreign is not None:
        raise OutputError(
            f"{printable(folder)} holds {printable(foreign)}, which is not of an earlier site; give an empty folder, "
            "or add --overwrite to write beside it"
        )


def write_site(folder: Path, files: Mapping[str, StaticFile], *, overwrite: bool) -> Site:
    """Write each file atomically, what others refer to first, and remove what an earlier site no longer needs.

    Raises OutputError as `check_site` does, and if a file cannot be written.
    """
    check_site(folder, overwrite=overwrite)
    size = 0
    # Whoever is looking at the earlier site, or at the new one too early, finds what its page asks for.
    last = ("styles.json", "index.html", "service-worker.js")
    for address in sorted(
        files, key=lambda name: (not files[name].immutable, last.index(name) if name in last else -1)
    ):
        content = files[address].content
        with atomic_write(folder / address) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                with open(content, "rb") as given:
                    shutil.copyfileobj(given, file)
            size += file.tell()
    for address in [name for name in _versioned(folder) if name not in files]:
        with suppress(OSError):  # what stays does no harm
            (folder / address).unlink()
            for parent in PurePosixPath(address).parents[:-1]:
                (folder / parent).rmdir()  # as far as they are empty
    for used in {folder, *((folder / address).parent for address in files)}:
        remove_leftovers(used)
    return Site(folder, len(files), size)


def _foreign(folder: Path) -> Iterator[str]:
    """Addresses of files below a folder that no earlier site put there."""
    try:
        styles = json.loads((folder / "styles.json").read_bytes())
        plain = (
            {*AT_ROOT, "styles.json", "reference.json"} if {"version", "runtime", "styles"} <= set(styles) else set()
        )
    except (OSError, ValueError, TypeError):
        plain = set()
    for address in _files_below(folder):
        if address not in plain and not _VERSIONED.fullmatch(address) and not _TEMPORARY.fullmatch(address):
            yield address


def _versioned(folder: Path) -> Iterator[str]:
    """Addresses of files with their version in the name."""
    for part in ("assets", "styles", "runtime"):
        for address in _files_below(folder / part):
            if _VERSIONED.fullmatch(f"{part}/{address}"):
                yield f"{part}/{address}"


def _files_below(folder: Path) -> Iterator[str]:
    """Addresses of all that is below a folder and no folder, links to folders included."""
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]  # noqa: PTH114, PTH118
        for name in sorted(names + links):
            yield (Path(where) / name).relative_to(folder).as_posix()


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
