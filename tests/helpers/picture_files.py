"""Files of pictures with whatever other programs write into them, byte by byte where Pillow would not."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms


def encoded(image, format="PNG", **options) -> bytes:
    """A file of an image or of uint8 pixels."""
    buffer = BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, depth: int, *chunks: bytes) -> bytes:
    """A PNG of gray (H, W) or RGB (H, W, 3) samples of some bits each."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, 0 if samples.ndim == 2 else 2, 0, 0, 0)
    bits = (samples.reshape(height, -1, 1) >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def directory(order: str, *entries: tuple[int, int, int, bytes], big: bool = False) -> bytes:
    """EXIF data, or the beginning of a TIFF: entries of tag, type, count and value, which follows if it is too long."""
    room, number = (8, "Q") if big else (4, "I")
    entries = sorted(entries, key=lambda entry: entry[0])
    start = 16 if big else 8
    after = start + (8 if big else 2) + len(entries) * (20 if big else 12) + room
    version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    head = {"<": b"II", ">": b"MM"}[order] + version + struct.pack(order + number, start)
    body, values = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    for tag, kind, count, value in entries:
        if len(value) > room:
            place = struct.pack(order + number, after + len(values))
            values, value = values + value, place
        body += struct.pack(order + "HH" + number, tag, kind, count) + value.ljust(room, b"\0")
    return head + body + bytes(room) + values


def tiff(samples: np.ndarray, white_is_zero: bool = False) -> bytes:
    """A little-endian TIFF of gray (H, W), as it is."""
    height, width = samples.shape
    shorts = {256: width, 257: height, 258: 8 * samples.dtype.itemsize, 259: 1, 262: int(not white_is_zero), 277: 1}
    shorts |= {278: height, 339: 1}
    entries = [(tag, 3, 1, struct.pack("<H", value)) for tag, value in shorts.items()]
    data = samples.tobytes()
    start = len(directory("<", *entries, *[(tag, 4, 1, bytes(4)) for tag in (273, 279)]))
    places = [(273, 4, 1, struct.pack("<I", start)), (279, 4, 1, struct.pack("<I", len(data)))]
    return directory("<", *entries, *places) + data


def with_exif(data: bytes, exif: bytes) -> bytes:
    """A JPEG with a segment of EXIF data, at its beginning."""
    body = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def profile(space: bytes, curve: bytes, description: str = "sRGB") -> bytes:
    """A profile, "GRAY" or "RGB " with the primaries of sRGB, whose channels have one tone curve."""
    tags = dict.fromkeys([b"kTRC"] if space == b"GRAY" else [b"rTRC", b"gTRC", b"bTRC"], curve)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for at in range(132, 132 + 12 * struct.unpack_from(">I", srgb, 128)[0], 12):
        name, start, size = struct.unpack_from(">4sII", srgb, at)
        if name in (b"wtpt", b"chad", b"cprt") or (name[1:] == b"XYZ" and space == b"RGB "):
            tags[name] = srgb[start : start + size]
    text = description.encode("utf-16-be")
    tags[b"desc"] = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(srgb[:128])
    struct.pack_into(">I", head, 0, 128 + len(table) + len(body))
    head[16:20] = space
    return bytes(head) + table + body


def gamma(value: float) -> bytes:
    """A tone curve that is a power."""
    return b"para" + bytes(4) + struct.pack(">HHi", 0, 0, round(value * 65_536))
