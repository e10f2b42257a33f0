"""Pictures one after the other in one file: GIF, APNG and WebP by Pillow, MP4 by PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastnst.errors import OutputError, UsageError
from fastnst.files import atomic_write, show, write_bytes, write_stdout
from fastnst.image import Pixels

# Options of Pillow for each kind of file.
KINDS: dict[str, dict[str, Any]] = {
    ".gif": {"format": "GIF", "optimize": True},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 85, "method": 4},
}


def check_animation(path: Path) -> None:
    """UsageError if no animation is written under such a name; ModuleNotFoundError for MP4 without PyAV."""
    if path.suffix.lower() == ".mp4":
        import av  # noqa: F401
    elif str(path) != "-" and path.suffix.lower() not in KINDS:
        raise UsageError(f"{show(path)} does not end in {', '.join(KINDS)} or .mp4; name the animation so")


def write_animation(path: Path, frames: Sequence[Pixels], rate: float, hold: float = 0) -> None:
    """Write frames of one size, at so many a second, the last one held for some seconds; loops where the format can.

    "-" is an APNG onto standard output.

    Raises UsageError for another suffix, OutputError if it cannot be written.
    """
    check_animation(path)
    if path.suffix.lower() == ".mp4":
        held = [frames[-1]] * round(hold * rate)
        _write_mp4(path, [*frames, *held], rate)
        return
    durations = [round(1000 / rate)] * len(frames)  # milliseconds
    durations[-1] += round(hold * 1000)
    first, *others = map(Image.fromarray, frames)
    buffer = BytesIO()
    options = KINDS[".png" if str(path) == "-" else path.suffix.lower()]
    try:
        first.save(buffer, save_all=True, append_images=others, duration=durations, loop=0, **options)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot encode {len(frames)} frames for {show(path)}: {error}") from error
    if str(path) == "-":
        write_stdout(buffer.getvalue())
    else:
        write_bytes(path, buffer.getvalue())


def _write_mp4(path: Path, frames: Sequence[Pixels], rate: float) -> None:
    import av

    with atomic_write(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        height, width = frames[0].shape[:2]
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"  # what every player shows; it wants even sides
        stream.options = {"crf": "18", "preset": "medium"}
        for pixels in frames:
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
