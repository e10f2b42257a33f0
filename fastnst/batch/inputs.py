"""What the inputs of a batch stand for, item by item: folders, patterns, files, lists, tables and tars, anywhere."""

import glob
import logging
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from fastnst.ahead import each_ahead
from fastnst.batch.items import Item, failed, is_clip_name, is_wanted_name, name_problem, output_name, safe, suffix_of
from fastnst.batch.lists import Base, is_list, items_of_list
from fastnst.batch.tables import TABLES, items_of_table
from fastnst.batch.tars import items_of_tars
from fastnst.config import StylizeOptions
from fastnst.errors import InputError, UsageError
from fastnst.files import is_folder, printable
from fastnst.folder import each_folder_once, is_many, is_named_by_a_shell, listed, share_name
from fastnst.kinds import Kind, kind_of, why_unreadable
from fastnst.listing import each_below
from fastnst.shard import Shard
from fastnst.storage.addresses import exists, is_remote, join, local_path
from fastnst.storage.lists import SUFFIXES as LISTS
from fastnst.storage.lists import braced
from fastnst.storage.remote_files import files_at
from fastnst.storage.tars import is_packed
from fastnst.video.jobs import clip_suffix

log = logging.getLogger(__name__)

_MANY = (*TABLES, ".tar")  # suffixes of files that hold many pictures
_AT_ONCE, _THREADS = 256, 4  # files that a thread looks into, one after the other: much of that may be waiting


def items_of(inputs: Sequence[str], output: str, options: StylizeOptions, column: str | None = None) -> Iterator[Item]:
    """Every picture and clip of the inputs that is in the shard of the options, as it is found; each once.

    Folders, patterns and files of this machine have what folder.plan takes of them, decided by their first bytes; at
    addresses names decide, until the bytes are read. What lies in the output folder is left out. What is named, and
    cannot be painted, is an item with an error. Little is kept of each item: about 250 bytes.

    Raises UsageError for two inputs that become one output, a table without such a column, and compressed tars;
    InputError if there is nothing to paint, also for other shards; StorageError and UnavailableError for stores that
    do not answer or need a package.
    """
    listing = _Listing(inputs, output, options, column)
    seen, found, remote = _Seen(), False, is_remote(output)
    for item in listing.items():
        name = None if item.error is not None else output_name(item, options)
        if name is not None and (problem := name_problem(name, remote=remote)):
            item = failed(item.key, item.kept, InputError(f"{printable(item.key)} {problem}; give it another name"))
            name = None
        if not seen.is_new(item.key if is_remote(item.key) else os.path.abspath(item.key)):  # noqa: PTH100
            log.info("%s is there more than once", printable(item.key))
            continue
        if name is not None and not seen.is_free(name):
            listing.refuse_two(item, name)
        found = True
        yield item
    if not (found or listing.ours.others):
        raise InputError(listing.nothing())


class _Seen:
    """Names and outputs that there were: the digest of a key, and of an output a number that is nearly unique."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()
        self._outputs: set[int] = set()

    def is_new(self, key: str) -> bool:
        digest = blake2b(key.encode(errors="surrogateescape"), digest_size=16).digest()
        before = len(self._keys)
        self._keys.add(digest)
        return len(self._keys) > before

    def is_free(self, output: str) -> bool:
        before = len(self._outputs)
        self._outputs.add(hash(output))
        return len(self._outputs) > before


def _is_missing(name: str) -> bool:
    """Whether this would be one local file, but nothing is there."""
    several = is_remote(name) or is_many(name) or is_packed(name) or len(braced(name)) > 1
    return not several and not os.path.lexists(local_path(name))


@dataclass
class _Ours:
    """Whether names are in the shard of this run; `others` is set once one is not."""

    shard: Shard | None
    others: bool = False

    def __call__(self, kept: str, /) -> bool:
        if self.shard is None or self.shard.has(share_name(kept)):
            return True
        self.others = True
        return False


@dataclass
class _Listing:
    """The inputs of a run, which can be gone through more than once."""

    inputs: Sequence[str]
    output: str
    options: StylizeOptions
    column: str | None
    ours: _Ours = field(init=False)
    left: str | None = None  # a file of many pictures in a folder, which is left alone there

    def __post_init__(self) -> None:
        self.ours = _Ours(None if self.options.shard is None else Shard.parse(self.options.shard))

    def items(self) -> Iterator[Item]:
        """Every item, in the order of the inputs; some perhaps more than once."""
        if "-" in self.inputs:
            raise UsageError("standard input is one picture, which fastnst stylize paints; give files or folders")
        if len(self.inputs) == 1 and _is_missing(self.inputs[0]):
            raise InputError(f"{printable(self.inputs[0])} is not there; give files or folders with pictures")
        names = [name for given in self.inputs for name in self._named(given)]
        once = set(each_folder_once([name for name in names if not is_remote(name)]))
        tars: list[str] = []
        for name in names:
            if _is_tar(name):
                tars.append(name)  # several are looked into at once
                continue
            yield from items_of_tars(tars, self.ours)
            tars = []
            if is_remote(name):
                yield from self._remote(name, alone=len(names) == 1)
            elif name in once:
                yield from self._local(name, alone=len(names) == 1)
        yield from items_of_tars(tars, self.ours)

    def _named(self, given: str) -> Iterator[str]:
        """What an input names: itself, or all that its braces and patterns of tars, lists and tables stand for."""
        given = given if is_remote(given) else local_path(given)
        there = not is_remote(given) and os.path.lexists(given)
        for name in [given] if there else braced(given):
            _refuse_packed(name)
            if not there and suffix_of(name) in (*LISTS, *_MANY) and _has_magic(name):
                yield from self._matching(name)
            else:
                yield name

    def _matching(self, pattern: str) -> Iterator[str]:
        """The files that fit a pattern of tars, lists or tables; itself if there are none."""
        if is_remote(pattern):
            found = [file.address for file in files_at(pattern, self._left_out(pattern))]
        else:
            found = [os.fspath(path) for path in listed(pattern, self._folder, alone=True).files]
        yield from sorted(found) or [pattern]

    @property
    def _folder(self) -> Path:
        """The output folder, which is nowhere on this machine if it is remote."""
        return Path(os.devnull if is_remote(self.output) else local_path(self.output))

    def _left_out(self, name: str) -> Callable[[str], bool]:
        """Which addresses below a folder or in a pattern are this run's own: its output, if that is in there."""
        root = re.split(r"[*?\[]", name, maxsplit=1)[0] if _has_magic(name) else name.rstrip("/") + "/"
        output = self.output.rstrip("/")
        if not output.startswith(root):
            return lambda _: False
        return lambda address: address == output or address.startswith(output + "/")

    def _local(self, name: str, *, alone: bool) -> Iterator[Item]:
        if not is_many(name) and (within := self._within(name, alone=alone)) is not None:
            yield from within
            return
        nothing = True
        with closing(self._looked_into(self._each_file(name, alone=alone), name if is_folder(name) else None)) as items:
            for item in items:
                nothing = False
                yield item
        if nothing:
            paths = (os.fspath(path) for path, _ in self._each_file(name, alone=alone))
            self.left = next((path for path in paths if suffix_of(path) in _MANY), None)

    def _each_file(self, name: str, *, alone: bool) -> Iterator[tuple[Path, str | None]]:
        """Local files that an input stands for, and what could not be followed, and why."""
        if is_folder(name) and (alone or not is_named_by_a_shell(name, self._folder)):
            yield from each_below(Path(name), [self._folder])
            return
        found = listed(name, self._folder, alone=alone)
        yield from ((path, None) for path in found.files)
        yield from found.unreadable.items()

    def _looked_into(self, paths: Iterable[tuple[Path, str | None]], folder: str | None) -> Generator[Item]:
        """The items among files, below a folder or in none."""
        kept = partial(_kept, folder=folder)
        found = ((path, why, kept(path) if why is None else path.as_posix()) for path, why in paths)
        ours = (one for one in found if self.ours(one[2]))
        portions = iter(lambda: list(islice(ours, _AT_ONCE)), [])
        with closing(each_ahead(_local_items, portions, _THREADS, _THREADS + 1)) as each:
            for items in each:
                yield from items

    def _within(self, name: str, *, alone: bool) -> Iterator[Item] | None:
        """The items of a file that has many, None if it is no such file."""
        suffix = suffix_of(name)
        if suffix in TABLES:
            return self._rows(name, alone=alone)
        if suffix in LISTS and (is_remote(name) or kind_of(Path(name)) is Kind.OTHER) and is_list(name):
            return items_of_list(name, self.ours)
        return None

    def _rows(self, place: str, *, alone: bool) -> Iterator[Item]:
        """The rows of a table; if it is damaged, others go on."""
        try:
            yield from items_of_table(place, self.column, self.ours)
        except InputError as error:
            if alone:
                raise
            if self.ours(place):
                yield failed(place, place, error)

    def _remote(self, name: str, *, alone: bool) -> Iterator[Item]:
        """The items at an address: of one that ends like a file, a pattern, or a folder."""
        as_file = not (_has_magic(name) or name.endswith("/"))
        if as_file and is_wanted_name(name):
            item = Base(name.rpartition("/")[0] + "/").item(name)
            yield from [item] if self.ours(item.kept) else []
            return
        if as_file and (within := self._within(name, alone=alone)) is not None:
            yield from within
            return
        nothing = True
        for file in files_at(name, self._left_out(name)):
            nothing = False
            if is_wanted_name(file.name):
                yield from self._remote_item(file.address, file.name)
            elif suffix_of(file.name) in _MANY:
                self.left = file.address
        if nothing and as_file and exists(name):
            yield from self._remote_item(name, name.rpartition("/")[2])

    def _remote_item(self, address: str, name: str) -> Iterator[Item]:
        try:
            item = Item(address, address, safe(name), is_clip_name(name))
        except InputError as error:
            item = failed(address, name, error)
        if self.ours(item.kept):
            yield item

    def refuse_two(self, item: Item, name: str) -> None:
        """UsageError if there is an input before this item that becomes the same output."""
        for other in _Listing(self.inputs, self.output, self.options, self.column).items():
            if other.key == item.key:
                return  # what seemed to be the same was not
            if other.error is None and output_name(other, self.options) == name:
                both = f"{printable(other.key)} and {printable(item.key)}"
                place = printable(join(self.output, name))
                raise UsageError(f"{both} would both become {place}; paint them into different folders")

    def nothing(self) -> str:
        """What to say if there is nothing to paint."""
        names = ", ".join(map(printable, self.inputs))
        if self.left is not None:
            return f"no pictures lie open in {names}; name files that have many, such as {printable(self.left)}"
        brackets = any("[" in name for name in self.inputs)
        hint = " (in a pattern [...] stands for one character, and [[] for a bracket)" if brackets else ""
        return f"no pictures in {names}; give files or folders with pictures{hint}"


def _is_tar(name: str) -> bool:
    return suffix_of(name) == ".tar" and not _has_magic(name) and not (not is_remote(name) and is_folder(name))


def _has_magic(name: str) -> bool:
    if name.startswith(("http://", "https://")):  # where "?" begins what is asked for
        return "*" in name
    return glob.has_magic(name.partition("://")[2] or name) and (is_remote(name) or not os.path.lexists(name))


def _refuse_packed(name: str) -> None:
    if is_packed(name) and (is_remote(name) or not is_folder(name)):
        raise UsageError(f"{printable(name)} is a compressed tar, which cannot be read in parts; unpack it to a .tar")


def _kept(path: Path, folder: str | None) -> str:
    return path.name if folder is None else path.relative_to(folder).as_posix()


def _local_items(files: Iterable[tuple[Path, str | None, str]]) -> list[Item]:
    """What becomes of local files, which are called so in the output folder, or cannot be read for a reason."""
    items = []
    for path, why, kept in files:
        name = os.fspath(path)
        if why is not None:
            error = InputError(f"{printable(path)} is left out: {why}; make it readable, or remove it")
            items.append(failed(name, kept, error))
            continue
        match kind_of(path, lambda path: clip_suffix(path) is not None):
            case Kind.PICTURE:
                items.append(Item(name, name, kept))
            case Kind.CLIP:
                items.append(Item(name, name, kept, clip=True))
            case Kind.UNREADABLE:
                items.append(failed(name, kept, why_unreadable(path)))
            case Kind.OTHER:
                log.info("%s is neither a picture nor a clip and is left alone", printable(path))
    return items
