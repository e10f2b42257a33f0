"""The same as fastnst.storage.addresses."""

from fastnst.storage.addresses import (
    exists,
    fetch,
    is_remote,
    join,
    list_files,
    local_path,
    open_input,
    read,
    remove,
    upload,
    write,
)

__all__ = [
    "exists",
    "fetch",
    "is_remote",
    "join",
    "list_files",
    "local_path",
    "open_input",
    "read",
    "remove",
    "upload",
    "write",
]
