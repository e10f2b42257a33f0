"""Animations read frame by frame by Pillow: GIF, PNG, WebP, AVIF; a picture is one frame."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Self

from fastnst.decode.pillow import decoding
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.image import open_animation, read_frame
from fastnst.video.frames import ClipFormat, Frame
from fastnst.video.loops import repeats
from fastnst.video.sources import Source, opened

_STILL = Fraction(1, 10)  # seconds that browsers show a frame which says 0


class AnimationReader:
    """An animated GIF, PNG, WebP or AVIF, or a TIFF of pages, read like a VideoReader; another picture is one frame."""

    def __init__(self, path: Path | Source, start: Fraction = Fraction(0), end: Fraction | None = None) -> None:
        self.name = printable(path)
        self.problem: str | None = None
        self.start, self.end = start, end
        with ExitStack() as stack:
            file = stack.enter_context(opened(path))
            self.image = open_animation(file, self.name)
            with decoding(self.name):  # counting reads the whole file
                self.frames = getattr(self.image, "n_frames", 1)
                self.format = ClipFormat(loop=repeats(self.image, file), transparent=True)
            self.closing = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def __iter__(self) -> Iterator[Frame]:
        at = Fraction(0)
        shown = False
        first = 1 if self.image.info.get("default_image") and self.frames > 1 else 0  # what old programs show of a PNG
        for number in range(first, self.frames):
            try:
                picture, milliseconds = read_frame(self.image, number, self.name)
            except InputError as error:
                if not shown:
                    raise
                self.problem = f"{error}; {number - first} of {self.frames - first} frames could be read"
                return
            frame = Frame(picture, at, Fraction(milliseconds).limit_denominator(1000) / 1000 or _STILL)
            if (part := frame.within(self.start, self.end)) is not None:
                yield part
                shown = True
            at = frame.end
            if self.end is not None and at >= self.end:
                break
        if not shown:
            raise InputError(f"{self.name} is {float(at):.2f} s long and has no frame between --start and --end")
