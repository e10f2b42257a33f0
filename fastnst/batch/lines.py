"""Lines that are safe as soon as they are appended: a local file, or objects of many lines where nothing appends."""

import io
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastnst.batch.manifest import journal_objects
from fastnst.errors import FastnstError, OutputError
from fastnst.files import make_folder, printable, sync
from fastnst.storage.addresses import local_path, remove, write

log = logging.getLogger(__name__)

_SYNC_EVERY = 1.0  # seconds: what a power cut may cost; a process that dies costs nothing
_ROWS, _SECONDS = 1000, 15.0  # of an object
_BLOCK = 1 << 16  # bytes that are read at once to find the last line


class LocalLines:
    """A file that lines are appended to; the beginning of one that a process did not finish is cut off."""

    def __init__(self, place: str) -> None:
        self.path = Path(local_path(place))
        self._synced, self._is_safe = time.monotonic(), True
        make_folder(self.path.parent)
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 (open as long as this is)
            self._size = _whole_lines(self._file)
            self._file.truncate(self._size)
        except OSError as error:
            raise self._problem(error) from error

    def objects(self) -> list[str]:
        """The files that have the lines, in order."""
        return [str(self.path)] if self._size else []

    def append(self, line: bytes, rows: int) -> None:  # noqa: ARG002 (the same as of RemoteLines)
        """Add a line: after this it survives the process, and within about a second a power cut."""
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # on a broken disk; reading leaves the beginning of a line out, too
                self._file.truncate(self._size)
            raise self._problem(error) from error
        self._size += len(line)
        self._is_safe = False
        if time.monotonic() - self._synced > _SYNC_EVERY:
            self.flush()

    def flush(self) -> None:
        """Make all lines survive a power cut."""
        if self._is_safe:
            return
        try:
            sync(self._file)
        except OSError as error:
            raise self._problem(error) from error
        self._synced, self._is_safe = time.monotonic(), True

    def close(self) -> None:
        """End; a file without lines does not stay."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()
            if not self._size:
                with suppress(OSError):
                    self.path.unlink()

    def remove(self) -> None:
        """The lines are no longer needed."""
        self._size = 0
        self.close()

    def _problem(self, error: OSError) -> OutputError:
        reason = error.strerror or error
        return OutputError(f"cannot write {printable(self.path)}: {reason}; what is painted stays: run it again")


def _whole_lines(file: io.FileIO) -> int:
    """How many bytes of a file lie before and at its last end of a line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


class RemoteLines:
    """Objects of up to 1000 rows or 15 seconds, in the order of their names, written by a thread as time passes."""

    def __init__(self, place: str, clock: Callable[[], float] = time.monotonic, seconds: float = _SECONDS) -> None:
        self.place, self._clock, self._every = place, clock, seconds
        self._objects = journal_objects(place)
        self._next = int((self._objects or ["/00000000-"])[-1].rpartition("/")[2].partition("-")[0]) + 1
        self._waiting, self._rows, self._since = bytearray(), 0, 0.0
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._error: FastnstError | None = None
        self._thread = threading.Thread(target=self._flush_now_and_then, daemon=True)
        self._thread.start()

    def objects(self) -> list[str]:
        """The addresses that have the lines, in order."""
        return list(self._objects)

    def append(self, line: bytes, rows: int) -> None:
        """Add a line, which is safe within 15 seconds, or with `flush`."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._since = self._since if self._waiting else self._clock()
            self._waiting += line
            self._rows += rows
            if self._rows >= _ROWS or self._clock() - self._since >= self._every:
                self.flush()

    def flush(self) -> None:
        """Make all lines safe."""
        with self._lock:
            if not self._waiting:
                return
            # No other run, not even one that should not be, writes to the same name.
            address = f"{self.place}/{self._next:08d}-{secrets.token_hex(4)}.jsonl"
            write(address, bytes(self._waiting))
            self._objects.append(address)
            self._next += 1
            self._waiting, self._rows = bytearray(), 0

    def _flush_now_and_then(self) -> None:
        while not self._closed.wait(self._every / 4):
            with self._lock:
                try:
                    if self._clock() - self._since >= self._every:
                        self.flush()
                    self._error = None
                except FastnstError as error:
                    self._error = error
                    log.warning("%s", error)

    def close(self) -> None:
        """End, with everything safe."""
        self._closed.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.flush()

    def remove(self) -> None:
        """The lines are no longer needed."""
        self.close()
        for address in self._objects:
            remove(address)
        self._objects.clear()
