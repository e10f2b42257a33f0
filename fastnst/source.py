"""What a program may have of a picture, as pixels: a path, encoded bytes, an open file, an image, an array."""

import inspect
import os
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastnst.decode.pillow import decoding, load
from fastnst.errors import InputError, UsageError, first_line
from fastnst.files import printable, refuse_address
from fastnst.image import SMALLEST, Limits, Picture, decode_picture, from_pil, read_picture
from fastnst.values import in_words

_NUMBERS = "bool, uint8 0..255, uint16 0..65535 or floats 0..1"
_CHANNELS = (1, 3, 4)


class Readable(Protocol):
    """A file that is open in binary mode, or what reads like one."""

    def read(self, size: int = ..., /) -> bytes: ...


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | npt.NDArray[Any] | Picture


def from_source(
    source: Source, *, limits: Limits | None = None, allow_truncated: bool = False, **options: Any
) -> Picture:
    """Pixels of a path ("-" is standard input), encoded bytes, an open binary file, a PIL image of any mode, an array
    as in from_array, a torch tensor of such numbers with channels first, (3, H, W), or a Picture, which stays.

    A file that can go back is read from its beginning, as Pillow does; it stays open. Of what is encoded, the options
    are those of decode_picture.

    Raises UsageError for anything else, InputError as decode_picture does.
    """
    given: Any = source
    if isinstance(given, Picture):
        return given
    options |= {"limits": limits or Limits(), "allow_truncated": allow_truncated}
    if isinstance(given, (str, os.PathLike)):
        refuse_address(given)
        path = os.fsdecode(given)
        return read_picture(path if path == "-" else Path(path), **options)
    if isinstance(given, Image.Image):
        return _from_image(given, allow_truncated)
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(given, torch.Tensor):
        return from_array(_of_tensor(given))
    if hasattr(given, "__array__"):
        return from_array(_as_array(given))
    data = _buffer(given)
    if isinstance(data, np.ndarray):
        return from_array(data)
    if data is not None:
        return decode_picture(data, **options)
    if callable(getattr(given, "read", None)):
        return decode_picture(_read(given, options["limits"].size + 1), _name(given), **options)
    raise UsageError(
        f"{in_words(given)} is no picture; give a path, the bytes of a file, an open file, a PIL image or an array"
    )


def from_array(array: npt.NDArray[Any]) -> Picture:
    """An array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB and opacity in the end, of bool, uint8, uint16 0..65535
    or floats 0..1, as a Picture.

    Raises UsageError for other shapes, kinds of numbers and values, InputError if it is too small.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise UsageError(
            f"{in_words(array)} is no picture; give one of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){_axes_hint(array)}"
        )
    height, width = array.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(f"the array is {width}x{height} pixels but at least {SMALLEST}x{SMALLEST} are needed")
    values = _eight_bits(array)
    return from_pil(Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values))


def _axes_hint(array: npt.NDArray[Any]) -> str:
    if array.ndim == 3 and array.shape[0] in _CHANNELS:
        return ": transpose(1, 2, 0) puts channels last"
    if array.ndim == 4:
        return ", one picture at a time: [0] is the first of a batch"
    return ""


def _eight_bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The numbers of an array as 0..255, rounded; UsageError if it is not known what they mean."""
    if np.ma.is_masked(array):
        raise UsageError("the array has masked values; fill them first, with filled()")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        scale: float = 255
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        scale = 1 / 257
    elif array.dtype.kind == "f":
        _check_unit(array)
        scale = 255
    else:
        raise UsageError(f"{in_words(array)} is no picture; give {_NUMBERS}")
    return np.rint(np.clip(array * scale, 0, 255)).astype(np.uint8)


def _check_unit(array: npt.NDArray[np.floating[Any]]) -> None:
    """UsageError for floats that are not 0..1, but for what rounding may add."""
    wrong = int(np.count_nonzero(~np.isfinite(array)))
    if wrong:
        raise UsageError(f"{in_words(array)} has {wrong} values that are NaN or infinite; give floats 0..1")
    least, most = float(array.min()), float(array.max())
    slack = 4 * float(np.finfo(array.dtype).eps)
    if least < -slack or most > 1 + slack:
        remedy = "divide it by 255" if least >= 0 and 2 < most <= 255 else "scale or clip it"
        raise UsageError(f"{in_words(array)} has values from {least:.7g} to {most:.7g} but floats are 0..1; {remedy}")


def _as_array(given: Any) -> npt.NDArray[Any]:
    """An array of numpy's, or of a library that gives it one."""
    try:
        return given if isinstance(given, np.ndarray) else np.asarray(given)
    except Exception as error:  # whatever the library raises, of arrays on a GPU for example
        raise UsageError(f"{in_words(given)} gives no array ({first_line(error)}); give a numpy array") from error


def _of_tensor(tensor: Any) -> npt.NDArray[Any]:
    """A torch tensor (H, W), (C, H, W) or (1, C, H, W) as an array with channels last."""
    shape = tuple(tensor.shape[1:] if tensor.ndim == 4 and tensor.shape[0] == 1 else tensor.shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in _CHANNELS):
        hint = "; permute(2, 0, 1) puts channels first" if len(shape) == 3 and shape[2] in _CHANNELS else ""
        raise UsageError(f"{in_words(tensor)} is no picture; give a tensor (3, H, W), floats 0..1 or uint8{hint}")
    try:
        values = tensor.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # numpy has no bfloat16
        array: npt.NDArray[Any] = values.numpy().reshape(shape)
    except Exception as error:  # sparse, quantized or without values
        raise UsageError(f"{in_words(tensor)} is no plain tensor ({first_line(error)}); give a dense one") from error
    return array if len(shape) == 2 else np.moveaxis(array, 0, -1)


def _buffer(given: Any) -> bytes | npt.NDArray[Any] | None:
    """What an object has in memory: encoded bytes, or, of several axes, an array; None if it has nothing there."""
    try:
        view = memoryview(given)
    except (TypeError, BufferError):
        return None
    except ValueError as error:
        raise InputError(f"a {type(given).__name__} cannot be read ({first_line(error)}); give it open") from error
    return view.tobytes() if view.ndim == 1 and view.itemsize == 1 else np.asarray(view)


def _name(file: Any) -> str:
    name = getattr(file, "name", None)
    return printable(name) if isinstance(name, str) else "the file"


def _read(file: Any, most: int) -> bytes:
    """All that an open file holds, `most` bytes at most."""
    name = _name(file)
    if inspect.iscoroutinefunction(file.read):
        raise UsageError(f"{in_words(file)} is read asynchronously; give the bytes that its read() returns")
    data = bytearray()
    try:
        if getattr(file, "seekable", lambda: False)():
            file.seek(0)
        while len(data) < most and (part := file.read(most - len(data))):
            if not isinstance(part, (bytes, bytearray, memoryview)):
                raise UsageError(f"{name} gives {type(part).__name__}, not bytes; open it in binary mode, as with 'rb'")
            data += part
    except (OSError, ValueError) as error:  # a closed file is a ValueError
        raise InputError(f"{name} cannot be read ({first_line(error)}); open it again for reading") from error
    if not data:
        raise InputError(f"{name} is empty, or was read to its end before; give a picture, or open it again")
    return bytes(data)


def _from_image(image: Image.Image, allow_truncated: bool) -> Picture:
    name = printable(getattr(image, "filename", "") or "image")
    with decoding(name):
        try:
            load(image, name, allow_truncated)  # type: ignore[arg-type]
        except (AssertionError, ValueError) as error:  # what Pillow raises when a file, or the image itself, is closed
            if isinstance(error, AssertionError) or "closed" in str(error):
                raise InputError(f"{name} is closed; use the image before that, or open it again") from error
            raise
    return from_pil(image)
