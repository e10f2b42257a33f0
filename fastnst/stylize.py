"""Pictures through a style: image -> engine -> compose -> image, for one picture, for files and for folders."""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.compose import blend, keep_histogram_colors, keep_luma_colors, read_mask, within_mask
from fastnst.config import StylizeOptions
from fastnst.device import Device
from fastnst.engine import Engine, EngineName, open_engine
from fastnst.errors import FastnstError, InputError, UsageError
from fastnst.files import check_output, is_folder, show, write_bytes, write_stdout
from fastnst.image import (
    SUFFIXES,
    Picture,
    Pixels,
    decode_picture,
    encode_picture,
    from_pil,
    looks_like_image,
    output_format,
    read_picture,
    shrink,
    to_array,
    to_pixels,
)

log = logging.getLogger(__name__)

_PICTURE_SUFFIXES = {*SUFFIXES, ".gif", ".avif"}
Source = Path | str | bytes | Image.Image | npt.NDArray[np.uint8]


class Stylizer:
    """One style, loaded once, for any number of pictures."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(
        cls, style: str | Path | None = None, *, engine: EngineName = "auto", device: Device = "auto"
    ) -> "Stylizer":
        """Load a bundled style by name, or a .safetensors or .onnx file; without an argument the default style."""
        return cls(open_engine(style, engine, device))

    def stylize(self, image: Source, options: StylizeOptions | None = None) -> Image.Image:
        """Paint a path, encoded bytes, a PIL image or a uint8 (H, W, 3) array; the size stays, transparency is kept."""
        return self.paint(_picture(image, options or StylizeOptions()), options).to_pil()

    def paint(self, picture: Picture, options: StylizeOptions | None = None) -> Picture:
        """Paint a decoded picture."""
        return self.paint_many([picture], options)[0]

    def paint_many(self, pictures: Sequence[Picture], options: StylizeOptions | None = None) -> list[Picture]:
        """Paint pictures of one size at once, such as frames of a clip."""
        options = options or StylizeOptions()
        if options.max_size is not None:
            pictures = [shrink(picture, options.max_size) for picture in pictures]
        painted = self.engine(np.concatenate([to_array(picture.rgb) for picture in pictures]))
        return [
            self._finish(picture, to_pixels(pixels), options) for picture, pixels in zip(pictures, painted, strict=True)
        ]

    def _finish(self, picture: Picture, painted: Pixels, options: StylizeOptions) -> Picture:
        if options.preserve_color == "luma":
            painted = keep_luma_colors(picture.rgb, painted)
        elif options.preserve_color == "histogram":
            painted = keep_histogram_colors(picture.rgb, painted)
        result = Picture(blend(picture.rgb, painted, options.strength), picture.alpha)
        if options.mask is None:
            return result
        mask = read_mask(options, picture.size, options.max_size)
        return within_mask(result, picture, mask, options.background)


@dataclass(frozen=True)
class Job:
    """One picture to paint and where to put it; "-" is standard input or output."""

    source: Path | str
    target: Path | str


@dataclass(frozen=True)
class Outcome:
    """A job that is done: written, or failed for a reason."""

    job: Job
    error: FastnstError | None = None


def plan(inputs: Sequence[str], output: str, options: StylizeOptions) -> list[Job]:
    """What to paint and where to, with every output checked, before any work is done.

    Inputs are files, folders (searched recursively), glob patterns, or "-". One file goes to a file if the output is
    named like a picture, else into a folder.

    Raises UsageError for outputs that collide or cannot be meant, InputError if there is nothing to paint, OutputError
    for an output that exists already or cannot be written.
    """
    several = len(inputs) != 1 or _is_many(inputs[0])
    suffix = "" if is_folder(output) or output.endswith("/") else Path(output).suffix.lower()
    if output == "-" or suffix in SUFFIXES:
        if several:
            raise UsageError(f"several pictures cannot all go to {show(output)}; name a folder")
        jobs = [Job(_source(inputs[0]), output if output == "-" else Path(output))]
    else:
        if output == "" or (suffix and not several):
            output_format(output)  # says which names are possible
        jobs = _folder_jobs(inputs, Path(output), options)
        if not jobs:
            raise InputError(f"no pictures in {', '.join(map(show, inputs))}; give files or folders with pictures")
    return _check_targets(jobs, options)


def run(stylizer: Stylizer, jobs: Sequence[Job], options: StylizeOptions) -> Iterator[Outcome]:
    """Paint the jobs one after the other; a picture that fails is reported and the others go on, unless fail_fast.

    Problems of the output, such as a full disk, concern every picture and are raised.
    """
    for job in jobs:
        try:
            painted = stylizer.paint(_read(job.source, options), options)
        except FastnstError as error:
            yield Outcome(job, error)
            if options.fail_fast:
                return
            continue
        write(painted, job.target, options)
        yield Outcome(job)


def write(picture: Picture, target: Path | str, options: StylizeOptions) -> None:
    """Encode a picture into a file, atomically, or onto standard output."""
    if isinstance(target, Path):
        write_bytes(target, encode_picture(picture, output_format(target), options.quality))
    else:
        format = SUFFIXES["." + options.format] if options.format else output_format(target)
        write_stdout(encode_picture(picture, format, options.quality))


def _picture(image: Source, options: StylizeOptions) -> Picture:
    if isinstance(image, bytes):
        return decode_picture(
            image, max_size=options.max_size, allow_truncated=options.allow_truncated, frames=options.frames
        )
    if isinstance(image, (str, Path)):
        return _read(image, options)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise UsageError(f"an array must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    return from_pil(image)


def _read(path: str | Path, options: StylizeOptions) -> Picture:
    return read_picture(path, max_size=options.max_size, allow_truncated=options.allow_truncated, frames=options.frames)


def _source(name: str) -> Path | str:
    return name if name == "-" else Path(name)


def _is_many(name: str) -> bool:
    return name != "-" and (is_folder(name) or (glob.has_magic(name) and not os.path.lexists(name)))


def _folder_jobs(inputs: Sequence[str], output: Path, options: StylizeOptions) -> list[Job]:
    jobs = []
    for name in inputs:
        if name == "-":
            raise UsageError("standard input cannot go into a folder; name a file with -o, or use -o -")
        if _is_many(name) and not is_folder(name):
            jobs += [
                Job(path, _target(path.name, path, output, options))
                for path in map(Path, sorted(glob.glob(name, recursive=True)))
                if _is_picture(path)
            ]
        elif is_folder(name):
            for path in _pictures_below(Path(name), output):
                jobs.append(Job(path, _target(path.relative_to(name), path, output, options)))
        else:
            jobs.append(Job(Path(name), _target(Path(name).name, Path(name), output, options)))
    return jobs


def _pictures_below(folder: Path, output: Path) -> list[Path]:
    """Pictures in a folder and below, except those an earlier run left in the output folder."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _same(Path(root, name), output))
        found += [path for name in sorted(names) if _is_picture(path := Path(root, name))]
    return found


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _is_picture(path: Path) -> bool:
    """By name or by first bytes: a damaged .jpg is a picture that will fail, a text file is none."""
    if path.suffix.lower() in _PICTURE_SUFFIXES:
        return not path.is_dir()
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return looks_like_image(file.read(16)) is not None
    except OSError:
        return False


def _target(relative: str | Path, source: Path, output: Path, options: StylizeOptions) -> Path:
    suffix = "." + options.format if options.format else source.suffix.lower()
    if suffix not in SUFFIXES:
        suffix = ".png"
    kept = Path(relative)
    if kept.suffix.lower() == suffix:
        return output / kept
    if kept.suffix.lower() in _PICTURE_SUFFIXES:
        return output / kept.with_suffix(suffix)
    return output / kept.with_name(kept.name + suffix)


def _check_targets(jobs: list[Job], options: StylizeOptions) -> list[Job]:
    """Refuse collisions and existing outputs; leave out finished ones with skip_existing."""
    seen: dict[Path, Job] = {}
    for job in jobs:
        if isinstance(job.target, str):
            continue
        if job.target in seen:
            both = f"{show(seen[job.target].source)} and {show(job.source)}"
            raise UsageError(f"{both} would both become {show(job.target)}; paint them into different folders")
        seen[job.target] = job
    if options.skip_existing:
        jobs = [job for job in jobs if isinstance(job.target, str) or not os.path.lexists(job.target)]
    for job in jobs:
        if isinstance(job.target, Path):
            check_output(job.target, overwrite=options.overwrite)
    return jobs
