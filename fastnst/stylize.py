"""Pictures through a style, one or several at once: content -> engine -> compose -> stylized.

Files and folders of them are the business of folder.py, clips that of video.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastnst.compose import (
    cross_fade,
    enlarge,
    fineness,
    keep_histogram_colors,
    keep_luma_colors,
    mask_of,
    natural_mix,
    read_mask,
    stroke_scale,
    within_mask,
)
from fastnst.config import EngineName, OnnxOptions, StylizeOptions
from fastnst.device import Device, free_memory
from fastnst.engine import Engine, Stop, mixed, open_engine
from fastnst.errors import FastnstError, StoppedError, UsageError
from fastnst.image import (
    Limits,
    Picture,
    Pixels,
    decode_picture,
    read_picture,
    resize,
    shrink,
    to_array,
    to_pixels,
)
from fastnst.nets.bands import DEFAULT_TILE, OnMoments, OnProgress, memory_needed
from fastnst.source import Source, from_source
from fastnst.styles import DEFAULT_STYLE
from fastnst.values import in_words

log = logging.getLogger(__name__)

ALWAYS_WHOLE = 4_000_000  # pixels, which any preset stylizes in 2.4 GB
LIMITS = Limits(remedy="scale it down first, or paint it in bands with --tile 256")
LARGE = Limits(pixels=500_000_000, side=65_535, size=2 << 30)


@dataclass(frozen=True)
class Hooks:
    """What a caller hears of stylizing, and changes in it."""

    on_progress: OnProgress | None = None  # the share of a picture in bands that is done, 0..1
    on_busy: Callable[[float], object] | None = None  # how long the network worked, seconds, each time it did
    on_moments: OnMoments | None = None  # changes the statistics of each norm; then pictures are stylized in bands
    outside_moments: OnMoments | None = None  # the same in the network of what is outside the mask
    stopped: Callable[[], bool] = lambda: False  # once it is true nothing is begun, and a picture in bands is given up
    stop: Stop | None = None  # the same, and it ends a whole picture that the engine is at
    memory: int | None = None  # bytes that whole pictures at once may take [default: half of what is free]

    def check(self) -> None:
        """Raises StoppedError if the work was stopped."""
        if self.stopped() or (self.stop is not None and self.stop.is_set):
            raise StoppedError("stylizing was stopped")

    def report(self, share: float) -> None:
        """Tell how far a picture in bands is, unless the work was stopped, as in check."""
        self.check()
        if self.on_progress is not None:
            self.on_progress(share)


class PixelEngine:
    """An engine that takes pixels: whole pictures, or bands of them where asked to or where memory is short."""

    def __init__(self, engine: Engine, lock: threading.Lock) -> None:
        """The lock lets one engine work at a time."""
        self.engine, self.lock = engine, lock

    def __call__(self, contents: Sequence[Pixels], options: StylizeOptions, hooks: Hooks) -> list[Pixels]:
        """Pixels (H, W, 3), all of one size -> the same, stylized all over."""
        if options.tile is not None or hooks.on_moments is not None or self._exceeds_memory(contents, hooks.memory):
            network, tile = self.engine.banded, options.tile or DEFAULT_TILE
            with self._turn(hooks):
                return [
                    network.stylize(rgb, tile, options.statistics, hooks.on_moments, hooks.report) for rgb in contents
                ]
        images = np.concatenate([to_array(rgb) for rgb in contents])
        with self._turn(hooks):
            stylized = self.engine(images) if hooks.stop is None else self.engine(images, hooks.stop)
        return [to_pixels(one) for one in stylized]

    @contextmanager
    def _turn(self, hooks: Hooks) -> Iterator[None]:
        with self.lock:
            hooks.check()
            started = time.perf_counter()
            yield
            if hooks.on_busy is not None:
                hooks.on_busy(time.perf_counter() - started)

    def _exceeds_memory(self, contents: Sequence[Pixels], allowed: int | None) -> bool:
        """Whether whole pictures at once might take more than what is allowed, else half of the memory that is free."""
        height, width = contents[0].shape[:2]
        if allowed is None and len(contents) * height * width > ALWAYS_WHOLE:
            free = free_memory()
            allowed = None if free is None else free // 2
        if allowed is None:
            return False
        try:
            needed = len(contents) * memory_needed(self.engine.banded.config, height, width)
        except FastnstError:  # a style that has no layers to run one by one
            return False
        if needed > allowed:
            log.info(
                "%dx%d pixels at once would take %.1f GB, so they are painted in bands", width, height, needed / 1e9
            )
        return needed > allowed


class Stylizer:
    """One style, loaded once, for any number of pictures; or two, one of them outside a mask."""

    def __init__(self, engine: Engine, outside: Engine | None = None) -> None:
        lock = threading.Lock()
        self.inside = PixelEngine(engine, lock)
        self.outside = None if outside is None else PixelEngine(outside, lock)

    @property
    def engine(self) -> Engine:
        """The engine of the style, inside the mask if there is one."""
        return self.inside.engine

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
        names: list[Any] = list(style) if isinstance(style, (list, tuple)) else [style]
        if not names:
            raise UsageError("no style is given; name one, or leave it out for the default one")
        if mix is not None and (isinstance(mix, str) or not hasattr(mix, "__iter__")):
            raise UsageError(f"mix is {in_words(mix)} but must be one share for each style: [0.7, 0.3]")
        engines = [open_engine(name, engine, device, onnx) for name in names]
        if mix is not None or len(engines) > 1:
            engines = [mixed(engines, mix or [1.0] * len(engines), [name or DEFAULT_STYLE for name in names])]
        if outside is not None:
            engines.append(open_engine(outside, engine, device, onnx))
        return cls(*engines)

    def stylize(self, image: Source, options: StylizeOptions | None = None) -> Image.Image:
        """Stylize a path, encoded bytes, an open file, a PIL image, an array or a tensor, each as from_source takes it.

        The size stays, transparency is kept. Raises UsageError for what is no picture, InputError for an unusable one.
        """
        options = _options(options)
        return self.stylize_picture(from_source(image, **_decoding(options)), options).to_pil()

    def stylize_picture(
        self,
        picture: Picture,
        options: StylizeOptions | None = None,
        hooks: Hooks = Hooks(),
        mask: Picture | None = None,
    ) -> Picture:
        """Stylize a decoded picture, within a decoded mask if one is given, whatever the mask of the options is.

        Raises UsageError for a second style without a mask, InputError for a mask or strokes that do not fit.
        """
        return self.stylize_pictures([picture], options, hooks, mask)[0]

    def stylize_pictures(
        self,
        pictures: Sequence[Picture],
        options: StylizeOptions | None = None,
        hooks: Hooks = Hooks(),
        given_mask: Picture | None = None,
    ) -> list[Picture]:
        """Stylize pictures of one size at once, such as frames of a clip; raises what `stylize_picture` raises."""
        options = _options(options)
        _check_pictures(pictures)
        check_outside(self.outside is not None, options)
        if options.max_size is not None:
            pictures = [shrink(picture, options.max_size) for picture in pictures]
        mask = _mask(given_mask, options, pictures[0].size)
        contents = [picture.rgb for picture in pictures]
        stylized = [
            Picture(rgb, picture.alpha)
            for rgb, picture in zip(stylize_pixels(self.inside, contents, options, hooks), pictures, strict=True)
        ]
        if mask is None:
            return stylized
        around: Sequence[Pixels | str] = [options.background] * len(pictures)
        if self.outside is not None:
            hooks = replace(hooks, on_moments=hooks.outside_moments)
            around = stylize_pixels(self.outside, contents, options, hooks)
        elif options.background == "photo":
            around = contents
        return [within_mask(picture, beside, mask) for picture, beside in zip(stylized, around, strict=True)]


def stylize_pixels(
    engine: PixelEngine, contents: Sequence[Pixels], options: StylizeOptions, hooks: Hooks
) -> list[Pixels]:
    """Pixels (H, W, 3), all of one size, stylized all over, with the strokes, colors and strength of the options.

    For less than the whole strength, finer strokes are painted. That and small strokes take at most four times as long.
    """
    natural = options.strength_mode == "natural"
    scale = (fineness(options.strength) if natural else 1) / options.stroke
    finished = []
    for rgb, stylized in zip(contents, stylize_at_scale(engine, contents, min(scale, 2), options, hooks), strict=True):
        if options.preserve_color == "luma":
            stylized = keep_luma_colors(rgb, stylized)
        elif options.preserve_color == "histogram":
            stylized = keep_histogram_colors(rgb, stylized)
        finished.append((natural_mix if natural else cross_fade)(rgb, stylized, options.strength))
    return finished


def stylize_at_scale(
    engine: PixelEngine, contents: Sequence[Pixels], scale: float, options: StylizeOptions, hooks: Hooks
) -> list[Pixels]:
    """Pixels (H, W, 3), all of one size, stylized `scale` times as large, and brought back to their size."""
    height, width = contents[0].shape[:2]
    size = stroke_scale((height, width), scale)
    if size == (height, width):
        return engine(contents, options, hooks)
    stylized = engine([resize(Picture(rgb), *size).rgb for rgb in contents], options, hooks)
    if scale < 1:
        return [enlarge(rgb, (height, width)) for rgb in stylized]
    return [resize(Picture(rgb), height, width).rgb for rgb in stylized]


def inside_and_outside(
    styles: Sequence[str | Path], options: StylizeOptions, mix: Sequence[float] | None = None
) -> tuple[Sequence[str | Path] | None, str | Path | None]:
    """What Stylizer.open takes of the styles that are given: all of them to mix, or one, and one outside a mask.

    Raises UsageError for other numbers of styles, or a second one without a mask.
    """
    if mix is not None:
        if len(mix) != len(styles):
            raise UsageError(
                f"--mix has {len(mix)} shares but there are {len(styles)} styles; give one for each --style"
            )
        return styles, None
    if len(styles) > 2:
        raise UsageError(
            f"{len(styles)} styles are given but a picture has one, or two with --mask; leave out the rest, "
            "or mix them with --mix 0.5,0.3,0.2"
        )
    check_outside(len(styles) == 2, options)
    return styles[:1] or None, styles[1] if len(styles) == 2 else None


def check_outside(second: bool, options: StylizeOptions) -> None:
    """UsageError for a second style without a mask, or beside a background."""
    if second and options.mask is None:
        raise UsageError("the second style paints what is outside a mask; give one with --mask, or --mix 0.5,0.5")
    if second and options.background != StylizeOptions.background:
        raise UsageError("outside the mask there is a second style or a --background; leave one out")


def read_content(path: str | Path, options: StylizeOptions) -> Picture:
    """The picture of a file, or of standard input for "-", as the options say; raises what read_picture raises."""
    return read_picture(path, **_decoding(options))


def decode_content(data: bytes, name: str, options: StylizeOptions) -> Picture:
    """The picture of a file's bytes, as the options say; raises what decode_picture raises."""
    return decode_picture(data, name, **_decoding(options))


def content_limits(options: StylizeOptions) -> Limits:
    """What is refused before any pixel is decoded."""
    return LIMITS if options.tile is None else LARGE


def _options(options: StylizeOptions | None) -> StylizeOptions:
    if options is not None and not isinstance(options, StylizeOptions):
        raise UsageError(f"options are {in_words(options)} but must be StylizeOptions; make them with StylizeOptions()")
    return options or StylizeOptions()


def _mask(given: Picture | None, options: StylizeOptions, size: tuple[int, int]) -> Pixels | None:
    if given is not None:
        return mask_of(given, options, size)
    return None if options.mask is None else read_mask(options, size)


def _check_pictures(pictures: Sequence[Picture]) -> None:
    """UsageError unless they are decoded pictures of one size."""
    for picture in pictures:
        if not isinstance(picture, Picture):
            raise UsageError(f"{in_words(picture)} is no Picture; give it to stylize, or make one with from_source")
    if len({picture.size for picture in pictures}) != 1:
        sizes = ", ".join(sorted({f"{width}x{height}" for height, width in (p.size for p in pictures)}))
        raise UsageError(f"pictures at once must have one size, got {sizes or 'none'}; stylize them one by one")


def _decoding(options: StylizeOptions) -> dict[str, Any]:
    """What decode_picture is told."""
    same = {name: getattr(options, name) for name in ("max_size", "allow_truncated", "frames")}
    return {"limits": content_limits(options), **same}
