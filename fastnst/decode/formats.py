"""Which format of pictures a file has, by the bytes it begins with; the name of a file means nothing."""

HEAD = 256  # bytes of a file that tell; 16 are enough for all but what is in an ISO container

# What is decoded.
MAGIC: dict[str, tuple[tuple[tuple[int, bytes], ...], ...]] = {
    "JPEG": (((0, b"\xff\xd8\xff"),),),
    "PNG": (((0, b"\x89PNG\r\n\x1a\n"),),),
    "WEBP": (((0, b"RIFF"), (8, b"WEBP")),),
    "GIF": (((0, b"GIF8"),),),
    "AVIF": (),
    "TIFF": (((0, b"II*\0"),), ((0, b"MM\0*"),), ((0, b"II+\0"),), ((0, b"MM\0+"),)),
    # Two letters are not much: with the reserved bytes and the lengths that its header may have.
    "BMP": tuple(((0, b"BM"), (6, b"\0\0\0\0"), (14, bytes([size, 0]))) for size in (12, 16, 40, 52, 56, 64, 108, 124)),
    "HEIF": (),
}
# What is a picture and not decoded; before the formats above, of which some are special cases.
_FOREIGN: dict[str, tuple[tuple[tuple[int, bytes], ...], ...]] = {
    "PNG in Apple's CgBI form, made for iPhone apps (pngcrush -revert-iphone-optimizations makes an ordinary one)": (
        ((0, b"\x89PNG\r\n\x1a\n"), (12, b"CgBI")),
    ),
    "camera's raw photograph": (
        ((0, b"II*\0"), (8, b"CR")),
        ((0, b"IIRO"),),
        ((0, b"IIRS"),),
        ((0, b"MMOR"),),
        ((0, b"IIU\0"),),
        ((0, b"FUJIFILMCCD-RAW"),),
        ((0, b"FOVb"),),
        ((0, b"\0MRM"),),
        ((4, b"ftypcrx "),),
    ),
    "JPEG XL picture": (((0, b"\xff\x0a"),), ((0, b"\0\0\0\x0cJXL \r\n\x87\n"),)),
    "JPEG 2000 picture": (((0, b"\0\0\0\x0cjP  \r\n\x87\n"),), ((0, b"\xff\x4f\xff\x51"),)),
    "JPEG XR picture": (((0, b"II\xbc"),),),
    "Photoshop document": (((0, b"8BPS"),),),
    "GIMP picture": (((0, b"gimp xcf"),),),
    "OpenEXR picture": (((0, b"v/1\x01"),),),
    "Radiance HDR picture": (((0, b"#?RADIANCE"),), ((0, b"#?RGBE"),)),
    "DDS texture": (((0, b"DDS "),),),
    "QOI picture": (((0, b"qoif"),),),
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_CONTAINER_BRANDS = {b"mif1", b"mif2", b"msf1", b"miaf"}  # of pictures in whatever codec
_AVIF_PROFILES = {b"MA1A", b"MA1B"}


class Foreign(Exception):
    """A kind of picture that is not decoded, which the first bytes do not tell."""


def looks_like_image(data: bytes) -> str | None:
    """The format of a picture that begins with these bytes, one of MAGIC if it is decoded; or None."""
    for formats in (_FOREIGN, MAGIC):
        for format, alternatives in formats.items():
            if any(all(data[at : at + len(mark)] == mark for at, mark in marks) for marks in alternatives):
                return format
    return _in_container(data) if data[4:8] == b"ftyp" else None


def _in_container(data: bytes) -> str | None:
    """AVIF or HEIF by the brands in the first box of an ISO container; None for a video."""
    box = data[8 : max(16, int.from_bytes(data[:4], "big"))]
    major, others = box[:4], {box[at : at + 4] for at in range(8, len(box) - 3, 4)}
    brands = {major} | others
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    if major not in _CONTAINER_BRANDS:
        return None
    return "AVIF" if brands & _AVIF_PROFILES else "HEIF"
