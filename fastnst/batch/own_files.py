"""What a batch keeps beside paintings in its output folder: found by the beginning of its names, among millions."""

import inspect
import os
from typing import Any

from fastnst.errors import InputError
from fastnst.storage.addresses import is_remote, local_path
from fastnst.storage.remote import asked, is_not_there, store_of

SETTINGS = "batch.json"  # what the pictures of a folder were painted with


def names_in(folder: str, beginning: str) -> list[str]:
    """Sorted posix names of files right in a local folder that begin so, or anywhere below an address.

    A folder that is not there has none.

    Raises InputError if it cannot be read, StorageError if the store does not answer.
    """
    if not is_remote(folder):
        return sorted(
            name
            for name in asked(folder, lambda: _listed(local_path(folder)), InputError)
            if name.startswith(beginning)
        )
    store, path = store_of(folder.rstrip("/") + "/x")
    root = path[:-1]

    def found() -> list[str]:
        try:
            return _found(store, root, beginning)
        except Exception as error:
            if is_not_there(error):
                return []
            raise

    names = [name.lstrip("/").removeprefix(root.lstrip("/")) for name in asked(folder, found, InputError)]
    return sorted(name for name in names if name.startswith(beginning))


def _listed(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH112


def _found(store: Any, root: str, beginning: str) -> list[str]:
    if "prefix" in inspect.signature(getattr(store, "_find", store.find)).parameters:
        return list(store.find(root.rstrip("/"), prefix=beginning))  # of all names only these are sent
    first = beginning.partition("/")[0]
    names: list[str] = []
    for entry in store.ls(root, detail=True):
        if entry["name"].rstrip("/").rpartition("/")[2].startswith(first):
            names += store.find(entry["name"]) if entry["type"] == "directory" else [entry["name"]]
    return names
