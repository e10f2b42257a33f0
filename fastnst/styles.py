"""The catalogue of bundled styles: name -> files and credit."""

import difflib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from fastnst.errors import UsageError
from fastnst.files import refuse_address
from fastnst.meta import CheckpointMeta
from fastnst.nets.onnx_proto import read_onnx

DEFAULT_STYLE = "great-wave"

_HERE = Path(__file__).parent
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Style:
    """One bundled style; what it says of itself is read from its ONNX file when it is asked for."""

    name: str
    checkpoint: Path
    onnx: Path
    preview: Path

    @cached_property
    def meta(self) -> CheckpointMeta:
        return CheckpointMeta.from_json(read_onnx(self.onnx)[1].metadata.get("fastnst", ""), self.onnx)

    @property
    def credit(self) -> str:
        return self.meta.style["credit"]

    @property
    def preset(self) -> str:
        return self.meta.preset


def catalogue_folder() -> Path:
    """Where the bundled styles lie: inside an installed package, or beside it in a checkout."""
    installed = _HERE / "checkpoints"
    return installed if installed.is_dir() else _HERE.parent / "checkpoints"


def bundled_names() -> list[str]:
    """The names that can be given instead of a file."""
    return sorted(path.stem for path in catalogue_folder().glob("*.onnx") if _NAME.fullmatch(path.stem))


def bundled_style(name: str) -> Style:
    """Look a style up by name; UsageError with the closest names if there is none."""
    names = bundled_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}" if close else f"choose from {', '.join(names)}"
        raise UsageError(f"no bundled style {name!r}; {hint}, or give a .safetensors or .onnx file")
    checkpoint, onnx, preview = (catalogue_folder() / f"{name}.{kind}" for kind in ("safetensors", "onnx", "jpg"))
    return Style(name, checkpoint, onnx, preview)


def style_file(style: str | Path, kind: Literal["checkpoint", "onnx"]) -> Path:
    """The file of a bundled style, if this is a name alone that no file has, else the path as it is.

    Raises UsageError for a name that no style has, and for a web address.
    """
    refuse_address(style)
    path = Path(style)
    if path.suffix or path.parent != Path() or os.path.lexists(path):
        return path
    found: Path = getattr(bundled_style(str(style)), kind)
    return found


def trunk_file(preset: str) -> Path:
    """Where new styles of a preset start: a network that learned many paintings at once."""
    return _HERE / "weights" / f"trunk-{preset}.safetensors"


def bundled_styles() -> list[Style]:
    """The whole catalogue, by name."""
    return [bundled_style(name) for name in bundled_names()]
