"""Which container formats clips are read from, told by their first bytes; and whether one is whole."""

from os import SEEK_END
from typing import BinaryIO

from fastnst.decode.formats import looks_like_image

HEAD = 2048  # bytes that is_video wants to see; fewer hide MPEG-TS, which has no mark but a beat
CLIPS = "MP4, QuickTime, Matroska, WebM, AVI, MPEG-TS, MPEG-PS, FLV, WMV, Ogg, MXF"

# By FFmpeg's name, what their files begin with.
_MARKS: dict[str, tuple[tuple[int, bytes], ...]] = {
    # MP4, QuickTime and 3GP
    "mov": tuple(
        (4, mark) for mark in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")
    ),
    "matroska": ((0, b"\x1a\x45\xdf\xa3"),),  # and WebM
    "avi": ((8, b"AVI"), (8, b"AMV ")),
    "flv": ((0, b"FLV\x01"),),
    "mpeg": ((0, b"\0\0\x01\xba"),),  # program streams: .mpg, .vob
    "asf": ((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"),),  # .wmv
    "ogg": ((0, b"OggS"),),
    "mxf": ((0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01"),),
    "rm": ((0, b".RMF"),),
    "dv": ((0, b"\x1f\x07\x00"),),
    "nut": ((0, b"nut/multimedia container\0"[:16]),),
    "wtv": ((0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d"),),
    "ivf": ((0, b"DKIF\0\0"),),
    "yuv4mpegpipe": ((0, b"YUV4MPEG2 "),),
    # Pictures alone, without a container
    "h264": tuple((0, b"\0\0\0\x01" + bytes([kind])) for kind in (0x67, 0x47, 0x27, 0x09)),
    "hevc": ((0, b"\0\0\0\x01\x40\x01"), (0, b"\0\0\0\x01\x46\x01")),
    "mpegvideo": ((0, b"\0\0\x01\xb3"),),
    "m4v": ((0, b"\0\0\x01\xb0"),),
}
_TAIL = 1 << 17  # bytes, more than a page of Ogg or a packet of MPEG has
_PACKETS = (188, 192, 204)  # bytes of MPEG-TS: plain, of cameras (.m2ts), with error correction

# Whose times are in the order of decoding, not of showing.
WITHOUT_SHOWING_TIMES = ("avi", "asf")
# Whose length is found by their last times alone, so that what is missing does not show.
WITHOUT_LENGTH = ("mpegts", "mpeg", "ogg", "h264", "hevc", "mpegvideo", "m4v")
# Whose times may jump ahead where recordings were joined.
JOINED = ("mpegts", "mpeg")
# Whose length may be the time at which they end, wherever they begin.
LENGTH_IS_END = ("mov", "matroska", "flv", "asf")


def is_video(data: bytes) -> str | None:
    """FFmpeg's name of the container format that begins with these bytes, HEAD of them or all there are; or None."""
    if looks_like_image(data):  # some of them in an MP4 container
        return None
    for name, marks in _MARKS.items():
        if any(data[at : at + len(mark)] == mark for at, mark in marks):
            return name
    return "mpegts" if transport_packet(data) else None


def transport_packet(data: bytes) -> int | None:
    """The number of bytes of the packets of an MPEG-TS that begins so, or None.

    Recordings may begin within a packet: then more of them must follow.
    """
    for size in _PACKETS:
        for first in range(size):
            beats = data[first::size]
            wanted = 3 if first in (0, 4) else 8
            # Each has a payload or more of a header, which tells them from a text full of the letter G.
            if (
                len(beats) >= wanted
                and beats.count(b"\x47") == len(beats)
                and all(data[first + 3 :: size][i] & 0x30 for i in range(2))
            ):
                return size
    return None


def ends_early(file: BinaryIO, kind: str) -> bool:
    """Whether an open file of a container format is shorter than it says, or ends within one of its parts."""
    file.seek(0)
    head = file.read(HEAD)
    length = file.seek(0, SEEK_END)
    file.seek(max(0, length - _TAIL))
    tail = file.read()
    match kind:
        case "mpegts":
            size = transport_packet(head)
            return size is not None and length % size != 0
        case "matroska":
            return length < _matroska_length(head)
        case "asf":
            return length < _asf_length(head)
        case "flv":
            return not _ends_with_tag(file, length)
        case "ogg":
            return _ends_within_page(tail)
        case "mpeg":
            return _ends_within_packet(tail)
    return False


def _matroska_length(head: bytes) -> int:
    """Bytes of a Matroska file: its EBML header and the segment behind it; 0 if it does not say."""
    end = 0
    for mark in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[end : end + 4] != mark or len(head) < end + 12:
            return 0
        first = head[end + 4]
        count = 9 - first.bit_length()  # leading zeros are the number of bytes that follow
        size = int.from_bytes(head[end + 4 : end + 4 + count]) & ((1 << 7 * count) - 1)
        if count > 8 or size == (1 << 7 * count) - 1:  # unknown, of a stream
            return 0
        end += 4 + count + size
    return end


def _asf_length(head: bytes) -> int:
    """Bytes of an ASF file by its File Properties Object; 0 if it does not say."""
    at = head.find(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65")
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:  # broadcast: sizes are not valid
        return 0
    return int.from_bytes(head[at + 40 : at + 48], "little")


def _ends_with_tag(file: BinaryIO, length: int) -> bool:
    """Whether an FLV file ends with a whole tag, behind which its length is repeated."""
    file.seek(max(0, length - 4))
    size = int.from_bytes(file.read(4))
    if not 11 <= size <= length - 4:
        return False
    file.seek(length - 4 - size)
    return int.from_bytes(file.read(4)[1:]) == size - 11


def _ends_within_page(tail: bytes) -> bool:
    """Whether the last page of an Ogg file is incomplete, or not the last of its stream."""
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return at >= 0
    count = tail[at + 26]
    return len(tail) < at + 27 + count + sum(tail[at + 27 : at + 27 + count]) or not tail[at + 5] & 4


def _ends_within_packet(tail: bytes) -> bool:
    """Whether the last packet of an MPEG program stream is incomplete."""
    at = len(tail)
    while (at := tail.rfind(b"\0\0\x01", 0, at)) >= 0:
        # Start codes below are of the pictures within packets; a pack has no length, nor has the end.
        if len(tail) > at + 5 and tail[at + 3] >= 0xBB:
            return len(tail) < at + 6 + int.from_bytes(tail[at + 4 : at + 6])
    return False
