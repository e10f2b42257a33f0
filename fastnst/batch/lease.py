"""One run an output: a lock on a local disk, and at an address an object that its owner writes again and again."""

import json
import logging
import os
import platform
import secrets
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastnst.errors import FastnstError, InputError, OutputError
from fastnst.files import is_running, printable
from fastnst.interrupt import only_run
from fastnst.storage.addresses import exists, is_remote, local_path, read, remove, write

log = logging.getLogger(__name__)

_EVERY = 15.0  # seconds after which an owner writes it again
_DEAD = 3  # times as long without that, and nobody owns it any more

_held: set[str] = set()  # what runs of this process own


@contextmanager
def only_batch(place: str, every: float = _EVERY) -> Iterator[None]:
    """Keep other runs from writing the same manifest; OutputError if one does.

    At an address, an owner writes its object every 15 seconds. What a dead process of this machine left is taken at
    once, all else if it does not change in 45 seconds. That keeps apart what is started twice by mistake, but, as
    stores have no locks, not for certain what begins in the same second.
    """
    if is_remote(place):
        with _lease(f"{place}.lock", place, every):
            yield
        return
    path = Path(local_path(place))
    with only_run(path.with_name(f".{path.name}.lock"), printable(place)):
        yield


@contextmanager
def _lease(address: str, place: str, every: float) -> Iterator[None]:
    owner: dict[str, Any] = {"machine": _machine(), "process": os.getpid(), "run": secrets.token_hex(8), "times": 0}
    if _is_owned(address, place, every):
        raise _taken(place)
    write(address, json.dumps(owner).encode())
    if (_read(address) or owner)["run"] != owner["run"]:
        raise _taken(place)
    _held.add(owner["run"])
    ended = threading.Event()

    def stay() -> None:
        while not ended.wait(every):
            owner["times"] += 1
            try:
                write(address, json.dumps(owner).encode())
            except FastnstError as error:
                log.info("%s", error)

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _held.discard(owner["run"])
        try:
            remove(address)
        except FastnstError as error:
            log.info("%s", error)


def _taken(place: str) -> OutputError:
    return OutputError(f"another run is writing {printable(place)}; wait for it, or choose another name")


def _machine() -> str:
    return f"{platform.node()} {uuid.getnode():x}"


def _is_owned(address: str, place: str, every: float) -> bool:
    """Whether somebody owns it; of another machine only time can tell."""
    found = _read(address)
    if found is None:
        return False
    if found["run"] in _held:
        return True
    if found.get("machine") == _machine() and (
        found.get("process") == os.getpid() or not is_running(int(found.get("process", 0)))
    ):
        return False
    log.warning("a run on %s may be writing %s; waiting to see", printable(found.get("machine")), printable(place))
    end = time.monotonic() + _DEAD * every
    while time.monotonic() < end:
        time.sleep(every / 15)
        now = _read(address)
        if now != found:
            return now is not None
    return False


def _read(address: str) -> "dict[str, Any] | None":
    """Who owns it; None if nobody does, or it is nothing that this program wrote."""
    if not exists(address):
        return None
    try:
        found = json.loads(read(address))
    except (InputError, ValueError):  # gone in between, or damaged
        return None
    return found if isinstance(found, dict) and isinstance(found.get("run"), str) else None
