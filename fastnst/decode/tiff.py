"""TIFF files as they are stored: pages that are no thumbnails, turned by nobody, whatever their tags hold."""

import struct

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile

from fastnst.decode.formats import Foreign
from fastnst.decode.orientation import meant
from fastnst.errors import first_line

_UNUSED = (Base.XResolution, Base.YResolution, Base.ResolutionUnit, Base.Orientation)
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MOST_PAGES = 4096
_DNG_VERSION = 0xC612
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error)  # what Pillow raises


class Tiff(TiffImageFile):
    """A TIFF whose pages are those that are no thumbnails or masks; the first is the picture."""

    _pages: tuple[int, ...] = ()
    _page = 0

    def _open(self) -> None:
        super()._open()
        pages = [0] if not self._is_part() else []
        number = 0
        while self.is_animated and number < _MOST_PAGES:
            number += 1
            try:
                self._seek(number)
            except EOFError:
                break
            except (*_DAMAGED, Foreign):
                continue
            pages += [] if self._is_part() else [number]
        self._pages = tuple(pages or [0])
        self.is_animated = len(self._pages) > 1
        self._seek(self._pages[0])

    def _is_part(self) -> bool:
        kind = self.tag_v2.get(Base.NewSubfileType, 0)
        return isinstance(kind, int) and bool(kind & (_REDUCED | _MASK))

    def _setup(self) -> None:
        if _DNG_VERSION in self.tag_v2 or (self._is_part() and Base.SubIFDs in self.tag_v2):
            raise Foreign("camera's raw photograph")
        self.info["exif"] = b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", Base.Orientation, 3, 1, self._stored(), 0)
        for tag in _UNUSED:
            if tag in self.tag_v2:
                del self.tag_v2[tag]
        try:
            super()._setup()
        except (SyntaxError, KeyError) as error:
            raise Foreign(f"TIFF of a rare kind ({first_line(error)})") from error

    def _stored(self) -> int:
        try:
            return meant(self.tag_v2.get(Base.Orientation)) or 0
        except _DAMAGED:
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
        """Where Pillow turns the picture and writes its EXIF data again; it leaves gray of 16 bits negative."""
        if self.mode == "I;16" and self.tag_v2.get(Base.PhotometricInterpretation) == 0:
            self.im = Image.fromarray(65_535 - np.asarray(self)).im
