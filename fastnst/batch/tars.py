"""Items of WebDataset tars: pictures by their first bytes or names, clips by names, each to be read alone."""

import logging
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import closing

from fastnst.ahead import each_ahead
from fastnst.batch.items import Item, Ours, failed, is_clip_name, is_wanted_name, safe
from fastnst.decode.formats import MAGIC, looks_like_image
from fastnst.errors import InputError
from fastnst.files import printable
from fastnst.listing import is_clutter
from fastnst.storage.tars import Member, members

log = logging.getLogger(__name__)


def items_of_tar(place: str, ours: Ours) -> list[Item]:
    """The pictures and clips of a tar, called TARSTEM/MEMBER; of several members of one name the last, as tar has it.

    What is not usable, and a tar that is damaged, is an item with an error.
    """
    items: dict[str, Item] = {}
    others = 0
    try:
        for member in members(place):
            if is_clutter(member.name.replace("\\", "/")) or not _is_wanted(member):
                others += 1
            elif ours((item := _item(place, member)).kept):
                items[member.name] = item
    except InputError as error:
        damaged = failed(place, posixpath.basename(place), error)
        return [*items.values(), *([damaged] if ours(damaged.kept) else [])]
    if others:
        log.info("%s: %d members are no pictures and are left alone", printable(place), others)
    return list(items.values())


def _is_wanted(member: Member) -> bool:
    return is_wanted_name(member.name) or looks_like_image(member.head) in MAGIC


def _item(place: str, member: Member) -> Item:
    key = f"{place}::{member.name}"
    kept = f"{tar_stem(place)}/{member.name.lstrip('/')}"
    if member.problem:
        return failed(key, kept, InputError(f"{printable(key)} {member.problem}"))
    try:
        # Apart, so that ".." does not lead out of the tar's own folder either.
        kept = f"{tar_stem(place)}/{safe(member.name)}"
    except InputError as error:
        return failed(key, kept, error)
    return Item(key, place, kept, is_clip_name(member.name), member.start, member.length)


def tar_stem(place: str) -> str:
    """What the folder for what is in a file is called: its name without the suffix."""
    return safe(posixpath.splitext(posixpath.basename(place.replace("\\", "/")))[0] or "tar")


def items_of_tars(places: Iterable[str], ours: Ours) -> Iterator[Item]:
    """The items of several tars, in order; some are looked through at once, as most of the time is waiting."""
    with closing(each_ahead(lambda place: items_of_tar(place, ours), places, 8, 8)) as each:
        for items in each:
            yield from items
