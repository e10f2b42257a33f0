"""Pictures through a style: image -> engine -> compose -> image, for one picture, for files and for folders."""

import glob
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.compose import (
    cross_fade,
    enlarge,
    fineness,
    keep_histogram_colors,
    keep_luma_colors,
    natural_mix,
    read_mask,
    stroke_scale,
    within_mask,
)
from fastnst.config import EngineName, OnnxOptions, StylizeOptions
from fastnst.device import Device, free_memory
from fastnst.engine import Engine, mixed, open_engine
from fastnst.errors import FastnstError, InputError, UsageError
from fastnst.files import check_output, is_folder, printable, write_bytes, write_stdout
from fastnst.image import (
    SUFFIXES,
    Limits,
    Picture,
    Pixels,
    decode_picture,
    encode_picture,
    from_pil,
    looks_like_image,
    output_format,
    read_picture,
    resize,
    shrink,
    to_array,
    to_pixels,
)
from fastnst.nets.bands import DEFAULT_TILE, OnMoments, OnProgress, memory_needed
from fastnst.styles import DEFAULT_STYLE

log = logging.getLogger(__name__)

_PICTURE_SUFFIXES = {*SUFFIXES, ".gif", ".avif"}
ALWAYS_WHOLE = 4_000_000  # pixels, which any preset paints in 2.4 GB
IN_HAND = 3  # pictures being read, painted or written
LIMITS = Limits(remedy="scale it down first, or paint it in bands with --tile 256")
LARGE = Limits(pixels=500_000_000, side=65_535, size=2 << 30)

Source = Path | str | bytes | Image.Image | npt.NDArray[np.uint8]


class EngineLock:
    """Who paints, one at a time; for how long in all; and whether nobody is to begin any more."""

    def __init__(self) -> None:
        self.seconds_used = 0.0  # seconds
        self.stopped = False
        self.on_share: OnProgress | None = None  # of a picture in bands
        self._one = threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._one:
            self.check()
            started = time.perf_counter()
            yield
            self.seconds_used += time.perf_counter() - started

    def report(self, share: float) -> None:
        self.check()
        if self.on_share is not None:
            self.on_share(share)

    def check(self) -> None:
        if self.stopped:
            raise FastnstError("painting was stopped")


class Painter:
    """A style's network at work: on whole pictures, or in bands where asked to or where memory is short."""

    def __init__(self, engine: Engine, lock: EngineLock) -> None:
        self.engine, self.lock = engine, lock
        self.on_moments: OnMoments | None = None  # changes the statistics of a frame

    def __call__(self, contents: Sequence[Pixels], options: StylizeOptions) -> list[Pixels]:
        """Pixels (H, W, 3), all of one size -> the same, painted all over."""
        if options.tile is not None or self.on_moments is not None or self._exceeds_memory(contents):
            tiler, tile = self.engine.tiler, options.tile or DEFAULT_TILE
            with self.lock.hold():
                return [
                    tiler.stylize(rgb, tile, options.statistics, self.on_moments, self.lock.report) for rgb in contents
                ]
        images = np.concatenate([to_array(rgb) for rgb in contents])
        with self.lock.hold():
            painted = self.engine(images)
        return [to_pixels(one) for one in painted]

    def _exceeds_memory(self, contents: Sequence[Pixels]) -> bool:
        """Whether painting whole pictures at once might take more than half of what is free."""
        height, width = contents[0].shape[:2]
        free = free_memory() if len(contents) * height * width > ALWAYS_WHOLE else None
        if free is None:
            return False
        try:
            needed = len(contents) * memory_needed(self.engine.tiler.config, height, width)
        except FastnstError:  # a style that has no layers to run one by one
            return False
        if needed > free // 2:
            log.info(
                "%dx%d pixels at once would take %.1f GB, so they are painted in bands", width, height, needed / 1e9
            )
        return needed > free // 2


class Stylizer:
    """One style, loaded once, for any number of pictures; or two, one of them outside a mask."""

    def __init__(self, engine: Engine, outside: Engine | None = None) -> None:
        self.lock = EngineLock()
        self.painter = Painter(engine, self.lock)
        self.outside = None if outside is None else Painter(outside, self.lock)

    @property
    def painters(self) -> list[Painter]:
        return [painter for painter in (self.painter, self.outside) if painter is not None]

    @classmethod
    def open(
        cls,
        style: str | Path | Sequence[str | Path] | None = None,
        *,
        mix: Sequence[float] | None = None,
        outside: str | Path | None = None,
        engine: EngineName = "auto",
        device: Device = "auto",
        onnx: OnnxOptions | None = None,
    ) -> "Stylizer":
        """Load a bundled style by name, or a .safetensors or .onnx file; without an argument the default style.

        Several related styles are mixed, in equal shares or those of `mix`. `outside` is another style, for what is
        outside the mask of the options; `onnx` is for ONNX files of other projects.
        """
        names = [style] if style is None or isinstance(style, (str, Path)) else list(style)
        if not names:
            raise UsageError("no style is given; name one, or leave it out for the default one")
        engines = [open_engine(name, engine, device, onnx) for name in names]
        if mix is not None or len(engines) > 1:
            engines = [mixed(engines, mix or [1.0] * len(engines), [name or DEFAULT_STYLE for name in names])]
        if outside is not None:
            engines.append(open_engine(outside, engine, device, onnx))
        return cls(*engines)

    def stylize(self, image: Source, options: StylizeOptions | None = None) -> Image.Image:
        """Paint a path, encoded bytes, a PIL image or a uint8 (H, W, 3) array; the size stays, transparency is kept."""
        return self.stylize_picture(_picture(image, options or StylizeOptions()), options).to_pil()

    def stylize_picture(self, picture: Picture, options: StylizeOptions | None = None) -> Picture:
        """Paint a decoded picture.

        Raises UsageError for a second style without a mask, InputError for a mask or strokes that do not fit.
        """
        return self.stylize_pictures([picture], options)[0]

    def stylize_pictures(self, pictures: Sequence[Picture], options: StylizeOptions | None = None) -> list[Picture]:
        """Paint pictures of one size at once, such as frames of a clip; raises what `stylize_picture` raises."""
        options = options or StylizeOptions()
        check_outside(self.outside is not None, options)
        if options.max_size is not None:
            pictures = [shrink(picture, options.max_size) for picture in pictures]
        mask = None if options.mask is None else read_mask(options, pictures[0].size)
        contents = [picture.rgb for picture in pictures]
        painted = [
            Picture(rgb, picture.alpha)
            for rgb, picture in zip(stylize_pixels(self.painter, contents, options), pictures, strict=True)
        ]
        if mask is None:
            return painted
        around: Sequence[Pixels | str] = [options.background] * len(pictures)
        if self.outside is not None:
            around = stylize_pixels(self.outside, contents, options)
        elif options.background == "photo":
            around = contents
        return [within_mask(picture, beside, mask) for picture, beside in zip(painted, around, strict=True)]


def stylize_pixels(painter: Painter, contents: Sequence[Pixels], options: StylizeOptions) -> list[Pixels]:
    """Pixels (H, W, 3), all of one size, painted all over, with the strokes, colors and strength of the options.

    For less than the whole strength, finer strokes are painted. That and small strokes take at most four times as long.
    """
    natural = options.strength_mode == "natural"
    scale = (fineness(options.strength) if natural else 1) / options.stroke
    finished = []
    for rgb, painted in zip(contents, stylize_at_scale(painter, contents, min(scale, 2), options), strict=True):
        if options.preserve_color == "luma":
            painted = keep_luma_colors(rgb, painted)
        elif options.preserve_color == "histogram":
            painted = keep_histogram_colors(rgb, painted)
        finished.append((natural_mix if natural else cross_fade)(rgb, painted, options.strength))
    return finished


def stylize_at_scale(
    painter: Painter, contents: Sequence[Pixels], scale: float, options: StylizeOptions
) -> list[Pixels]:
    """Pixels (H, W, 3), all of one size, painted `scale` times as large, and brought back to their size."""
    height, width = contents[0].shape[:2]
    size = stroke_scale((height, width), scale)
    if size == (height, width):
        return painter(contents, options)
    painted = painter([resize(Picture(rgb), *size).rgb for rgb in contents], options)
    if scale < 1:
        return [enlarge(rgb, (height, width)) for rgb in painted]
    return [resize(Picture(rgb), height, width).rgb for rgb in painted]


def check_styles(styles: Sequence[str | Path], options: StylizeOptions, mix: Sequence[float] | None = None) -> None:
    """UsageError unless these are styles to mix, one style, or two and a mask."""
    if mix is not None:
        if len(mix) != len(styles):
            raise UsageError(
                f"--mix has {len(mix)} shares but there are {len(styles)} styles; give one for each --style"
            )
        return
    if len(styles) > 2:
        raise UsageError(
            f"{len(styles)} styles are given but a picture has one, or two with --mask; leave out the rest, "
            "or mix them with --mix 0.5,0.3,0.2"
        )
    check_outside(len(styles) == 2, options)


def check_outside(second: bool, options: StylizeOptions) -> None:
    """UsageError for a second style without a mask, or beside a background."""
    if second and options.mask is None:
        raise UsageError("the second style paints what is outside a mask; give one with --mask, or --mix 0.5,0.5")
    if second and options.background != StylizeOptions.background:
        raise UsageError("outside the mask there is a second style or a --background; leave one out")


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
            raise UsageError(f"several pictures cannot all go to {printable(output)}; name a folder")
        jobs = [Job(_source(inputs[0]), output if output == "-" else Path(output))]
    else:
        if output == "" or (suffix and not several):
            output_format(output)  # says which names are possible
        jobs = _folder_jobs(inputs, Path(output), options)
        if not jobs:
            raise InputError(f"no pictures in {', '.join(map(printable, inputs))}; give files or folders with pictures")
    return _check_targets(jobs, options)


def run(
    stylizer: Stylizer, jobs: Sequence[Job], options: StylizeOptions, on_share: OnProgress | None = None
) -> Iterator[Outcome]:
    """Paint the jobs in order; a picture that fails is reported and the others go on, unless fail_fast.

    While one is painted, others are read and written. `on_share` gets the share of a picture in bands that is done.
    Problems of the output, such as a full disk, concern every picture and are raised.
    """
    lock = stylizer.lock
    lock.on_share, lock.seconds_used = on_share, 0.0
    started = time.perf_counter()

    def paint(job: Job) -> FastnstError | None:
        try:
            painted = stylizer.stylize_picture(_read(job.source, options), options)
        except FastnstError as error:
            return error
        if not lock.stopped:
            write(painted, job.target, options)
        return None

    waiting = deque(jobs)
    # With fail_fast, none of those after the one that fails.
    count = 1 if options.fail_fast else IN_HAND
    with ThreadPoolExecutor(count) as pool:
        begun: deque[tuple[Job, Future[FastnstError | None]]] = deque()
        try:
            while waiting or begun:
                while waiting and len(begun) < count:
                    begun.append((waiting[0], pool.submit(paint, waiting.popleft())))
                job, future = begun.popleft()
                error = future.result()
                yield Outcome(job, error)
                if error is not None and options.fail_fast:
                    return
        finally:
            lock.stopped = True
            pool.shutdown(cancel_futures=True)
            lock.stopped = False
    taken = time.perf_counter() - started
    log.info(
        "the network was busy for %.1f of %.1f seconds (%.0f %%)",
        lock.seconds_used,
        taken,
        100 * lock.seconds_used / taken,
    )


def write(picture: Picture, target: Path | str, options: StylizeOptions) -> None:
    """Encode a picture into a file, atomically, or onto standard output."""
    if isinstance(target, Path):
        write_bytes(target, encode_picture(picture, output_format(target), options.quality))
    else:
        format = SUFFIXES["." + options.format] if options.format else output_format(target)
        write_stdout(encode_picture(picture, format, options.quality))


def _picture(image: Source, options: StylizeOptions) -> Picture:
    if isinstance(image, bytes):
        return decode_picture(image, **_decoding(options))
    if isinstance(image, (str, Path)):
        return _read(image, options)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise UsageError(f"an array must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        image = Image.fromarray(image)
    return from_pil(image)


def _read(path: str | Path, options: StylizeOptions) -> Picture:
    return read_picture(path, **_decoding(options))


def _decoding(options: StylizeOptions) -> dict[str, Any]:
    """What decode_picture is told."""
    same = {name: getattr(options, name) for name in ("max_size", "allow_truncated", "frames")}
    return {"limits": LIMITS if options.tile is None else LARGE, **same}


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
            both = f"{printable(seen[job.target].source)} and {printable(job.source)}"
            raise UsageError(f"{both} would both become {printable(job.target)}; paint them into different folders")
        seen[job.target] = job
    if options.skip_existing:
        jobs = [job for job in jobs if isinstance(job.target, str) or not os.path.lexists(job.target)]
    for job in jobs:
        if isinstance(job.target, Path):
            check_output(job.target, overwrite=options.overwrite)
    return jobs
