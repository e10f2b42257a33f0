"""Writing files so that nobody ever sees half of one, and checking beforehand that they can be written."""

import errno
import os
import re
import secrets
import shutil
import stat
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

# What drives say that cannot do something or do not allow it: network shares, FUSE, foreign file systems, single files
# mounted into a container. A full or a broken disk says something else.
_REFUSALS = {
    *(errno.EPERM, errno.EACCES, errno.EROFS, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
    *(errno.EBUSY, errno.EXDEV, errno.EEXIST, errno.EMLINK, errno.ETXTBSY, errno.ENOTTY, errno.ENAMETOOLONG),
}
_PATIENCE = 1.0  # seconds for which a file that another program has open on Windows is waited for


def check_output(path: Path, *, overwrite: bool) -> None:
    """Fail before any work when the result could not be written to this path.

    Nothing is made yet: atomic_write makes missing folders.

    Raises OutputError if it exists and may not be overwritten, is a folder, or its folder cannot be made or written to.
    """
    if is_folder(path):
        raise OutputError(f"{printable(path)} is a folder; give the name of a file")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{printable(path)} exists already; add --overwrite or choose another name")
    place = _followed(path)
    folder = next((folder for folder in place.parents if os.path.lexists(folder)), place.parent)
    if not is_folder(folder):
        raise OutputError(f"cannot write {printable(path)}: {printable(folder)} is not a folder; choose another")
    if not (_takes_files(folder) or os.access(place, os.W_OK)):
        raise OutputError(f"cannot write to the folder {printable(folder)}; choose another or change its permissions")


def _takes_files(folder: Path) -> bool:
    """Whether files can be made in a folder."""
    if os.access(folder, os.W_OK | os.X_OK):
        return True
    try:  # what a network share or Windows says of permissions may not be what it does
        file, path = _temporary(folder)
    except OSError:
        return False
    file.close()
    path.unlink()
    return True


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
    A link stays, and what it leads to is written. Where nothing can be put beside or in the place of a file that can be
    written, and for pipes and devices, the finished file is copied into it. OSError becomes OutputError.
    """
    place, temporary = _followed(path), None
    make_folder(place.parent)
    try:
        file, temporary = _temporary_for(place)
        stopped = None
        with file:
            try:
                yield file
            except Interrupted as error:
                if interrupted is None:
                    raise
                stopped = error
            sync(file)
        move(temporary, place if stopped is None else _followed(interrupted or path))
        if stopped is not None:
            raise stopped
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {printable(path)}: {error.strerror or error}") from error
        raise


def _followed(path: Path) -> Path:
    """The path, or where it leads if it is a link, which may be nothing yet; OutputError for links in a circle."""
    if not os.path.islink(path) or _is_special(path):  # noqa: PTH114 (no error for a folder that may not be read)
        return path
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OutputError(f"cannot write {printable(path)}: it is a link that leads back to itself; remove it")
    return place


def _is_special(path: Path) -> bool:
    """Whether this is a pipe or a device, which cannot be replaced by a file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _temporary(folder: Path) -> tuple[BinaryIO, Path]:
    """A new file in a folder, with the permissions that the umask leaves."""
    # Not derived from the target's name, which may already be as long as a file system allows. Not from tempfile, whose
    # files only get these permissions later, from a drive that may have none to give.
    path = folder / f".fastnst.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    return open(path, "xb"), path


def _temporary_for(place: Path) -> tuple[BinaryIO, Path]:
    """A new file beside a path, or among the system's temporary files where none can be made there."""
    if not _is_special(place):
        try:
            return _temporary(place.parent)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
    handle, name = tempfile.mkstemp(prefix=f".fastnst.{os.getpid()}.", suffix=".tmp")
    return os.fdopen(handle, "wb"), Path(name)


def sync(file: BinaryIO) -> None:
    """Flush a file to the disk, where the drive can; OSError if the disk is full or broken."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise


def move(source: Path, target: Path) -> None:
    """Put a file in the place of another: at once, or where the drive refuses that, by copying its content."""
    try:
        if _is_special(target):
            raise OSError(errno.EINVAL, "is no file")
        _replace(source, target)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _copy(source, target)
        source.unlink()
    _sync_folder(target.parent)


def _replace(source: Path, target: Path) -> None:
    """os.replace; on Windows a virus scanner or a viewer may hold the target for a moment."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _copy(source: Path, target: Path) -> None:
    """Write the content of a file into another; one that is made for it does not stay if that fails."""
    made = not os.path.lexists(target)
    try:
        with open(source, "rb") as given, open(target, "wb") as file:
            shutil.copyfileobj(given, file)
            sync(file)
    except OSError:
        if made:
            with suppress(OSError):
                target.unlink()
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
            if match and time.time() - path.stat().st_mtime > 60 and not is_running(int(match[1])):
                path.unlink()


def is_running(process: int) -> bool:
    """Whether there is a process of this number; on Windows always."""
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


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
