"""Items of a list: a text file with one path or address a line; and what a path in it, or in a table, stands for."""

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from fastnst.batch.items import Item, Ours, failed, is_clip_name, is_wanted_name, safe
from fastnst.errors import InputError, UsageError
from fastnst.files import printable
from fastnst.storage.addresses import is_remote, local_path
from fastnst.storage.lists import numbered, place_of
from fastnst.storage.remote import ADDRESS

_LOOKED_AT = 20  # lines of a file that tell whether it is a list


@dataclass(frozen=True)
class Base:
    """The folder where relative paths in a list or a table begin: "" is the current one, else it ends with a slash."""

    folder: str

    @classmethod
    def of(cls, place: str) -> "Base":
        """The folder of a local or remote file."""
        if is_remote(place):
            return cls(place.rpartition("/")[0] + "/")
        folder = os.path.normpath(os.path.dirname(local_path(place)))  # noqa: PTH120
        return cls("" if folder == "." else os.path.join(folder, ""))  # noqa: PTH118

    def item(self, name: str) -> Item:
        """The picture or clip that a path or an address in the file means; InputError for what cannot be one."""
        place = self.place(name)
        return Item(place, place, safe(self._kept(place)), is_clip_name(place))

    def place(self, name: str) -> str:
        """Where a path or an address leads; InputError if that is nowhere."""
        if not name or "\0" in name:
            raise InputError(f"{printable(name)!r} is no path; give the path or the address of a picture")
        try:
            if is_remote(name):
                return name
        except UsageError as error:
            raise InputError(str(error)) from error
        name = local_path(name)
        if is_remote(self.folder) and not name.startswith("/"):
            scheme, root = self._root()
            path = posixpath.normpath(posixpath.join("/", self.folder[len(scheme) + len(root) :].lstrip("/"), name))
            return f"{scheme}{root}{path}"
        return os.path.normpath(os.path.join(self.folder, name))  # noqa: PTH118

    def _root(self) -> tuple[str, str]:
        """The scheme of a remote folder and the bucket or host, above which nothing leads."""
        match = ADDRESS.match(self.folder)
        scheme = match[0] if match else ""
        return scheme, self.folder[len(scheme) :].partition("/")[0]

    def _kept(self, place: str) -> str:
        """The path below the folder of the file, else the whole path."""
        if is_remote(place):
            return _without_scheme(place, len(self.folder) if self.folder and place.startswith(self.folder) else 0)
        leads_up = place.startswith(os.pardir + os.sep)
        if self.folder and place.startswith(self.folder) and not is_remote(self.folder):
            return place[len(self.folder) :]
        if not (leads_up or os.path.isabs(place)):  # noqa: PTH117
            return place
        folder, whole = os.path.abspath(self.folder or "."), os.path.abspath(place)  # noqa: PTH100
        below = os.path.join("" if is_remote(self.folder) else folder, "")  # noqa: PTH118
        return whole[len(below) :] if below and whole.startswith(below) else whole


def _without_scheme(address: str, skipped: int) -> str:
    """Host or bucket, and path, or what follows so many characters; on the web "?..." comes before the suffix."""
    match = ADDRESS.match(address)
    scheme = match[0] if match else ""
    rest = address[skipped or len(scheme) :]
    if not scheme.lower().startswith("http"):
        return rest
    path, _, query = rest.partition("#")[0].partition("?")
    stem, suffix = posixpath.splitext(path)
    return stem + ("-" + query.replace("/", "-") if query else "") + suffix


def items_of_list(place: str, ours: Ours) -> Iterator[Item]:
    """What is listed in a text file, as storage.lists reads it. Whether it is there is not looked at."""
    base = Base.of(place)
    for number, name in numbered(place):
        try:
            item = base.item(name)
        except InputError as error:
            item = failed(f"{place}::{number}", f"{posixpath.basename(place)}-{number}", error)
        if ours(item.kept):
            yield item


def is_list(place: str) -> bool:
    """Whether a text file is a list of pictures, by its first lines: others lie beside pictures as well."""
    for _, name in islice(numbered(place), _LOOKED_AT):
        if "\0" in name:
            return False
        if is_wanted_name(name) or is_remote(name) or (not is_remote(place) and os.path.exists(place_of(place, name))):  # noqa: PTH110
            return True
    return False
