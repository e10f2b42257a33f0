"""Tars as WebDataset has them, and as they should not be."""

import io
import tarfile


def tar_of(contents: "dict[str, bytes | tarfile.TarInfo | Entry]", format: int = tarfile.PAX_FORMAT) -> bytes:
    """The bytes of a tar with files of these names, or other entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content in contents.items():
            if isinstance(content, tuple):
                name, content = content
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


Entry = tuple[str, bytes]  # a file under another name than its key, so that a name may be there twice


def entry(name: str, content: bytes) -> Entry:
    return name, content


def special(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    """A link, a folder or a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info
