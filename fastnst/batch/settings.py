"""What all pictures of an output folder were painted with, in its batch.json: other settings need another folder."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fastnst
from fastnst.batch.lease import only_batch
from fastnst.batch.manifest import JOURNAL, journal_objects, manifests_in
from fastnst.batch.own_files import SETTINGS
from fastnst.batch.parts import parts_in, tag_of
from fastnst.errors import InputError, OutputError, UsageError
from fastnst.files import printable
from fastnst.interrupt import only_run
from fastnst.storage.addresses import exists, is_remote, join, local_path, read, remove, write

FORMAT = 1  # of batch.json, manifests and journals; a fastnst leaves folders of higher ones alone

_PATIENCE = 30.0  # seconds for which shards that begin at once wait for each other


def begin(
    output: str, settings: Mapping[str, Any], *, place: str, tag: str = "", overwrite: bool = False
) -> "dict[str, Any] | None":
    """The batch.json of an output folder, or None if there is none: then what is there must not be overwritten.

    `settings` are names and JSON values: what the user would call them -> what they are. `place` is that of the run's
    manifest, `tag` that of a shard, "3-of-8". With `overwrite` what earlier runs left is removed, manifests,
    journals and parts: all of it if the settings are others or the run is no shard, else only what this shard wrote.
    Call it within only_batch(place).

    Raises UsageError that says which settings are others; InputError for a batch.json that is damaged or of a newer
    fastnst; OutputError if another run is writing there.
    """
    if not overwrite:
        known = _read(output)
        if known is not None:
            _compare(output, known, settings)
        return known
    with _alone(output):
        known = _read(output)
        same = known is not None and not _others(known, settings)
        _remove(output, place, tag if same else None)
        _write(output, settings)
    return {"settings": dict(settings)}


def save(output: str, settings: Mapping[str, Any]) -> None:
    """Write batch.json, once it is known that the outputs of a new folder overwrite nothing."""
    _write(output, settings)


def _write(output: str, settings: Mapping[str, Any]) -> None:
    content = {"format": FORMAT, "fastnst": fastnst.__version__, "settings": dict(settings)}
    write(join(output, SETTINGS), json.dumps(content, indent=2).encode() + b"\n")


def _read(output: str) -> "dict[str, Any] | None":
    place = join(output, SETTINGS)
    if not exists(place):
        return None
    try:
        found = json.loads(read(place))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise InputError(f"{printable(place)} is damaged; add --overwrite to begin anew, or choose another folder")
    if found["format"] > FORMAT:
        raise InputError(
            f"{printable(place)} was written by a newer fastnst, {printable(found.get('fastnst'))}; update fastnst, or "
            "choose another folder"
        )
    if not isinstance(found.get("settings"), dict):
        raise InputError(f"{printable(place)} has no settings; add --overwrite to begin anew, or choose another folder")
    return found


def _compare(output: str, known: "Mapping[str, Any]", settings: Mapping[str, Any]) -> None:
    if others := _others(known, settings):
        was, now = known["settings"], _plain(settings)
        told = ", ".join(f"{name} ({_short(was.get(name))}, now {_short(now.get(name))})" for name in others)
        raise UsageError(
            f"{printable(output)} was painted with other settings: {told}; choose another folder, or add --overwrite "
            "to begin anew"
        )


def _others(known: "Mapping[str, Any]", settings: Mapping[str, Any]) -> list[str]:
    """The names of settings that are not what they were."""
    was, now = known["settings"], _plain(settings)
    return [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]


def _plain(settings: Mapping[str, Any]) -> "dict[str, Any]":
    """As JSON gives them back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return plain


def _short(value: Any) -> str:
    text = printable(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= 40 else text[:37] + "..."


@contextmanager
def _alone(output: str) -> Iterator[None]:
    """Let one run at a time look at what is there and remove it."""
    if is_remote(output):
        yield
        return
    end = time.monotonic() + _PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(only_run(Path(local_path(output), f".{SETTINGS}.lock"), printable(output)))
                break
            except OutputError as error:
                if "another run" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.05)
        yield


def _remove(output: str, place: str, tag: str | None) -> None:
    """Remove the manifests, journals and parts of one shard, or of everybody (None, or "" of a run that is none)."""
    own = [place, place + JOURNAL]
    found = [*own, *(manifests_in(output) if not tag else [])]
    with ExitStack() as stack:
        for other in sorted({name.removesuffix(JOURNAL) for name in found} - {place}):
            stack.enter_context(only_batch(other))
        for name in found:
            for part in journal_objects(name) if name.endswith(JOURNAL) else [name]:
                remove(part)
        for part in parts_in(output):
            if not tag or tag_of(part) == tag:
                remove(join(output, part))
