"""What a run paints with, for processes that paint: on this machine, or on others with the contents of its files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from fastnst.config import ClipOptions, EngineName, OnnxOptions, StylizeOptions
from fastnst.config.batch import StoreKind
from fastnst.device import Device
from fastnst.errors import UsageError
from fastnst.files import printable
from fastnst.image import SUFFIXES
from fastnst.shard import Shard
from fastnst.storage.addresses import read
from fastnst.stylize import inside_and_outside


@dataclass(frozen=True)
class GivenFile:
    """A style or a mask that lies on the user's disk, which other machines do not have."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Spec:
    """All that a process needs to paint: small, and can be pickled."""

    output: str
    options: StylizeOptions
    clip: ClipOptions = field(default_factory=ClipOptions)
    style: tuple[str | GivenFile, ...] | None = None  # several are mixed
    outside: str | GivenFile | None = None
    mix: tuple[float, ...] | None = None
    engine: EngineName = "auto"
    device: Device = "auto"
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    store: StoreKind = "files"
    tag: str = ""  # of the shard
    threads: int = 0  # of the network; 0 is one for each core
    mask: GivenFile | None = None
    folder: str = field(default_factory=os.getcwd)  # where paths that are not absolute begin

    def carried(self, cpus: float, gpus: float) -> "Spec":
        """The same for a process with so many cores and GPUs that may be on another machine: its files' contents.

        Raises InputError if one cannot be read.
        """
        return replace(
            self,
            style=None if self.style is None else tuple(map(_carried, self.style)),
            outside=None if self.outside is None else _carried(self.outside),
            mask=None if self.options.mask is None else _read(self.options.mask),
            device=self.device if gpus else "cpu",
            threads=max(1, round(cpus)),
        )


def _read(path: Path) -> GivenFile:
    return GivenFile(path.name, read(str(path)))


def _carried(style: str | GivenFile) -> str | GivenFile:
    if isinstance(style, str) and Path(style).suffix in (".onnx", ".safetensors"):
        return _read(Path(style))
    return style


def spec_of(
    output: str,
    styles: Sequence[str],
    options: StylizeOptions,
    clip: ClipOptions,
    store: StoreKind,
    *,
    mix: tuple[float, ...] = (),
    engine: EngineName = "auto",
    device: Device = "auto",
    onnx: OnnxOptions | None = None,
) -> Spec:
    """From what a user gives, as for one picture; UsageError for what does not go together, or into a folder."""
    if options.frames == "all":
        raise UsageError("--frames all makes an animation of one picture; leave it out, or use fastnst stylize")
    if output in ("", "-") or PurePath(output).suffix.lower() in SUFFIXES:
        raise UsageError(f"a batch goes to a folder, which {printable(output) or 'nothing'} is not; name one with -o")
    inside, outside = inside_and_outside(styles, options, mix or None)
    return Spec(
        output,
        options,
        clip,
        style=None if inside is None else tuple(map(str, inside)),
        outside=None if outside is None else str(outside),
        mix=mix or None,
        engine=engine,
        device=device,
        onnx=onnx or OnnxOptions(),
        store=store,
        tag="" if options.shard is None else Shard.parse(options.shard).tag,
    )
