"""Pillow's decoders of JPEG, AVIF and HEIF, past the EXIF data that they would interpret while opening a file."""

import re
from io import BytesIO
from typing import BinaryIO

from PIL import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

# The item of an ISO container that has EXIF data: "infe", version, identity, protection, and its type.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{5}|\x03.{7}).{2})Exif", re.DOTALL)


class Jpeg(JpegImageFile):
    """A JPEG; of several pictures in one file, such as a camera's previews, the first."""

    def _read_dpi_from_exif(self) -> None:
        """Nothing of EXIF data is needed to open a picture."""


def open_in_container(file: BinaryIO, format: str) -> ImageFile.ImageFile:
    """An AVIF or HEIF, turned by its container alone: its EXIF data has no say in that, and may be damaged."""
    data = BytesIO(_EXIF_ITEM.sub(rb"\1skip", file.read()))
    if format == "AVIF":
        from PIL.AvifImagePlugin import AvifImageFile

        return AvifImageFile(data)
    from pi_heif.as_plugin import HeifImageFile

    # Of several pictures in one file, such as a series, the one that it names as the first is shown.
    alone = {"n_frames": 1, "is_animated": False, "seek": lambda _, __: None}
    image: ImageFile.ImageFile = type("Heif", (HeifImageFile,), alone)(data)
    return image
