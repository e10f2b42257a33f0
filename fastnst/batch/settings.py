"""What all pictures of an output folder were painted with, in its batch.json: other settings need another folder."""

from collections.abc import Mapping
from typing import Any


def begin(output: str, settings: Mapping[str, Any], *, place: str, whole: bool = True, overwrite: bool = False) -> bool:
    """Whether the output folder is new, that is without batch.json; nothing is written for now.

    `settings` are names and JSON values: what the user would call them -> what they are. With `overwrite` what
    earlier runs left, manifests and parts, is removed: everything if the settings are others or the run is no shard
    (`whole`), else only what belongs to the manifest at `place`; then the folder counts as known, and what is there
    gets overwritten.

    Raises UsageError that says which settings are others; InputError for a batch.json that is damaged or of a newer
    fastnst; OutputError if another run is writing there.
    """
    raise NotImplementedError


def save(output: str, settings: Mapping[str, Any]) -> None:
    """Write batch.json, once the outputs of a new folder are checked."""
    raise NotImplementedError
