"""The styles that are served, each opened once, and paintings in them; for one thread, the lane's."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastnst.compose import fineness, stroke_scale
from fastnst.config import StylizeOptions
from fastnst.device import Device
from fastnst.engine import Engine, OnnxEngine, Stop, mixed
from fastnst.errors import FastnstError, SizeError, UsageError
from fastnst.image import Picture
from fastnst.nets.bands import DEFAULT_TILE
from fastnst.serve.asked import Asked, wrong_field
from fastnst.serve.bound import WHOLE
from fastnst.serve.problems import OutOfMemoryError
from fastnst.serve.published import Published
from fastnst.stylize import Hooks, Stylizer

_MIXES = 8  # that are kept


class Painters:
    """Styles by name, opened when they are asked for, or all at once."""

    def __init__(self, styles: Sequence[Published], device: Device, most_pixels: int) -> None:
        self.styles = {style.name: style for style in styles}
        self.device, self.most_pixels = device, most_pixels
        self._engines: dict[str, Engine] = {}
        self._mixes: OrderedDict[tuple[object, ...], Engine] = OrderedDict()

    def open(self, name: str) -> Engine:
        """A style that has painted a test picture; ModelError if it cannot."""
        if name not in self._engines:
            data = self.styles[name].data
            self._engines[name] = OnnxEngine(Path(f"{name}.onnx"), self.device, data=data, frugal=True)
        return self._engines[name]

    def paint(self, asked: Asked, picture: Picture, mask: Picture | None, stop: Stop) -> Picture:
        """The painting.

        Raises InvalidParameterError for styles that do not mix, InputError for a mask or strokes that do not fit,
        StoppedError if it is stopped, ModelError for a style that is unusable.
        """
        _check_painted_size(picture, asked.options, self.most_pixels)
        try:
            stylizer = Stylizer(self._inside(asked), None if asked.outside is None else self.open(asked.outside))
        except UsageError as error:
            raise wrong_field("style", error) from error
        hooks = Hooks(stop=stop, memory=WHOLE)
        try:
            return stylizer.stylize_picture(picture, asked.options, hooks, mask)
        except (FastnstError, MemoryError) as error:
            if not _lacks_memory(error):
                raise
        try:
            return stylizer.stylize_picture(picture, replace(asked.options, tile=DEFAULT_TILE), hooks, mask)
        except (FastnstError, MemoryError) as error:
            if not _lacks_memory(error):
                raise
            raise OutOfMemoryError(
                "there is no memory to paint the picture now; try again, or give a smaller max_size", seconds=10
            ) from error

    def _inside(self, asked: Asked) -> Engine:
        if asked.mix is None:
            return self.open(asked.styles[0])
        key = (asked.styles, tuple(share / sum(asked.mix) for share in asked.mix))
        if key not in self._mixes:
            engines = [self.open(name) for name in asked.styles]
            self._mixes[key] = mixed(engines, asked.mix, asked.styles)
        self._mixes.move_to_end(key)
        if len(self._mixes) > _MIXES:
            self._mixes.popitem(last=False)
        return self._mixes[key]


def _lacks_memory(error: BaseException) -> bool:
    """Whether memory was all that was missing, by what ONNX Runtime, its providers and the C++ library say."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("failed to allocate memory", "out of memory", "bad_alloc")
    )


def _check_painted_size(picture: Picture, options: StylizeOptions, most: int) -> None:
    """SizeError for a picture that would be painted larger than pictures may be."""
    natural = options.strength_mode == "natural"
    scale = min((fineness(options.strength) if natural else 1) / options.stroke, 2)
    height, width = stroke_scale(picture.size, scale)
    if height * width > most:
        raise SizeError(
            f"the picture would be painted at {width}x{height} pixels for such strokes but at most {most / 1e6:g} "
            "million are painted; give a smaller max_size, or larger strokes"
        )
