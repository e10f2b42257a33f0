"""Pillow's decoders where they do more than decode: pictures are turned here by nobody, and odd metadata is no error."""

import re
import struct
from io import BytesIO
from typing import BinaryIO

from PIL import ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fastnst.errors import UnsupportedFormatError
from fastnst.orientation import meant

_UNUSED = (Base.XResolution, Base.YResolution, Base.ResolutionUnit, Base.Orientation)
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_PAGES = 4096
_DNG_VERSION = 0xC612
# The item of an ISO container that has EXIF data: "infe", version, identity, protection, and its type.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{5}|\x03.{7}).{2})Exif", re.DOTALL)


class Jpeg(JpegImageFile):
    """A JPEG; of several pictures in one file, such as a camera's previews, the first."""

    def _read_dpi_from_exif(self) -> None:
        """Nothing of EXIF data is needed to open a picture."""


class Tiff(TiffImageFile):
    """A TIFF as it is stored, whose pages are those that are no thumbnails or masks."""

    _pages: tuple[int, ...] = ()
    _page = 0

    def _open(self) -> None:
        super()._open()
        if _DNG_VERSION in self.tag_v2 or (self._is_part() and Base.SubIFDs in self.tag_v2):
            raise UnsupportedFormatError("a camera's raw photograph is not decoded; develop it and save it as a JPEG")
        pages = [0] if not self._is_part() else []
        number = 0
        while self.is_animated and number < _MOST_PAGES:
            number += 1
            try:
                self._seek(number)
            except EOFError:
                break
            except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
                continue  # a page of a kind that is not decoded
            pages += [] if self._is_part() else [number]
        self._pages = tuple(pages or [0])
        self.is_animated = len(self._pages) > 1
        self._seek(self._pages[0])

    def _is_part(self) -> bool:
        kind = self.tag_v2.get(Base.NewSubfileType, 0)
        return isinstance(kind, int) and bool(kind & (_REDUCED | _MASK))

    def _setup(self) -> None:
        self.info["exif"] = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", Base.Orientation, 3, 1, self._stored(), 0)
        for tag in _UNUSED:
            if tag in self.tag_v2:
                del self.tag_v2[tag]
        super()._setup()

    def _stored(self) -> int:
        try:
            return meant(self.tag_v2.get(Base.Orientation)) or 0
        except (ValueError, TypeError, KeyError, IndexError, struct.error):
            return 0

    @property
    def n_frames(self) -> int:
        """The number of pages."""
        return len(self._pages)

    def seek(self, frame: int) -> None:
        """Go to a page."""
        if not 0 <= frame < len(self._pages):
            raise EOFError("no more pages")
        if frame != self._page:
            self._seek(self._pages[frame])
            self._page, self._im = frame, None

    def tell(self) -> int:
        """The number of the page, from 0."""
        return self._page

    def load_end(self) -> None:
        """Where Pillow turns the picture and writes its EXIF data again."""


def open_in_container(file: BinaryIO, format: str) -> ImageFile.ImageFile:
    """An AVIF or HEIF, turned by its container alone: its EXIF data has no say in that, and may be damaged."""
    data = BytesIO(_EXIF_ITEM.sub(rb"\1skip", file.read()))
    if format == "AVIF":
        return AvifImageFile(data)
    from pi_heif.as_plugin import HeifImageFile

    image: ImageFile.ImageFile = HeifImageFile(data)
    return image
