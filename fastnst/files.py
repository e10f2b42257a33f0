"""Writing files so that nobody ever sees half of one, and checking beforehand that they can be written."""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fastnst.errors import Interrupted, OutputError, UsageError

# One letter before the colon is a drive of Windows.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
_FOLDED = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)", re.IGNORECASE)  # what Path leaves of the slashes


def check_output(path: Path, *, overwrite: bool) -> None:
    """Fail before any work when the result could not be written to this path.

    Nothing is made yet: atomic_write makes missing folders.

    Raises OutputError if it exists and may not be overwritten, is a folder, or its folder cannot be made or written to.
    """
    if is_folder(path):
        raise OutputError(f"{printable(path)} is a folder; give the name of a file")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{printable(path)} exists already; add --overwrite or choose another name")
    folder = next((folder for folder in path.parents if os.path.lexists(folder)), path.parent)
    if not is_folder(folder):
        raise OutputError(f"cannot write {printable(path)}: {printable(folder)} is not a folder; choose another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to the folder {printable(folder)}; choose another or change its permissions")


def is_folder(path: Path | str) -> bool:
    """Whether a folder is there; unlike Path.is_dir before Python 3.14 no error for a name that is too long."""
    return os.path.isdir(path)  # noqa: PTH112


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; OutputError if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {printable(folder)}: {error.strerror or error}") from error


@contextmanager
def atomic_write(path: Path, interrupted: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside the path that takes its place, flushed to disk, when the block ends well.

    Otherwise the temporary file is removed and the old one, if any, stays; but a block that ends with Interrupted has
    made what is worth keeping, in the place of `interrupted`, in the same folder, if given. Missing folders are made.
    OSError becomes OutputError.
    """
    make_folder(path.parent)
    # Not derived from the target's name, which may already be as long as a file system allows.
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".fastnst.{os.getpid()}.", suffix=".tmp", dir=path.parent)
        stopped = None
        with os.fdopen(handle, "wb") as file:
            try:
                yield file
            except Interrupted as error:
                if interrupted is None:
                    raise
                stopped = error
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path if stopped is None else interrupted or path)
        temporary = None
        _sync_folder(path.parent)
        if stopped is not None:
            raise stopped
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {printable(path)}: {error.strerror or error}") from error
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as file:
        file.write(data)


def write_stdout(data: bytes) -> None:
    """Write all of it to standard output."""
    rest = memoryview(data)
    while rest:  # with PYTHONUNBUFFERED a write may take only a part
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that were killed while they wrote; those of the last minute may be in use."""
    for path in folder.glob(".fastnst.*.tmp"):
        match = re.match(r"\.fastnst\.(\d+)\.", path.name)
        with suppress(OSError, OverflowError):
            # On a shared disk the process may run on another machine.
            if match and time.time() - path.stat().st_mtime > 60 and not _runs(int(match[1])):
                path.unlink()


def _runs(process: int) -> bool:
    if sys.platform == "win32":  # where os.kill(process, 0) is Ctrl-C, and an open file cannot be deleted anyway
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def printable(path: object) -> str:
    """A path as it may be printed: control characters and undecodable bytes escaped, nothing else changed."""
    text = os.fsdecode(os.fspath(path)) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def refuse_address(path: str | os.PathLike[str]) -> None:
    """UsageError for a web address in the place of a file, unless there is a file of that name."""
    text = str(path)
    if isinstance(path, Path):
        text = _FOLDED.sub(lambda match: match[1] + (":///" if match[1] == "file" else "://"), text, count=1)
    if _ADDRESS.match(text) and not os.path.lexists(path):
        raise UsageError(f"{printable(text)} is an address, and addresses are not fetched or written to; give a file")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
