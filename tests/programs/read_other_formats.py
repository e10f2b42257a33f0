"""Pictures of formats that fastnst does not take; fails if one is taken, or if a decoder of them was imported."""

import sys

from fastnst.errors import UnsupportedFormatError
from fastnst.image import decode_picture

for magic in (b"%!PS-Adobe-3.0 EPSF-3.0", b"8BPS\0\1", b"SIMPLE  =", b"BM is no bitmap", b"\0\0\1\0"):
    try:
        decode_picture(magic + bytes(1000))
    except UnsupportedFormatError:
        continue
    sys.exit(f"{magic} was taken")
names = ("Eps", "Psd", "Tiff", "Fits", "Bmp", "Ico", "Avif")
sys.exit(", ".join(name for name in names if f"PIL.{name}ImagePlugin" in sys.modules) or 0)
