"""What the owner of a folder put there, and below, all or by a pattern: in a stable order, links followed, once.

Left out is what programs leave beside pictures, such as thumbnails, and what fastnst itself wrote.
"""

import glob
import os
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

# Names, in lower case, that network disks, Windows, macOS, Picasa and FrontPage give to what nobody asked for.
_CLUTTER = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "#recycle", "#snapshot", "synofile_thumb"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found", "__macosx", "resource.frk", "_vti_cnf"),
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "zbthumbnail.info", "desktop.ini", "picasa.ini", "icon\r"),
}
_BROKEN = "it is a link to what is not there, or cannot be reached"
_METRICS = "metrics.jsonl"
_OWN_LOGS = re.compile(r"previews|metrics\.jsonl|report\.html|bad_images\.txt|diverged\.json|events\.out\.tfevents\..*")
_SNAPSHOT = re.compile(r"\d{6}\.\w+")  # of a picture that is being optimized


@dataclass(frozen=True)
class Listing:
    """Files below a folder, sorted; and of folders and links that could not be followed, why."""

    files: list[Path] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)


def files_below(folder: Path, leave_out: Iterable[Path] = ()) -> Listing:
    """All files in a folder and below, each folder once, however many links lead there; none lead up.

    `leave_out` names files and folders below it that are none of the owner's, such as the output of this very run.
    """
    listing = Listing()
    for path, problem in each_below(folder, leave_out):
        if problem is None:
            listing.files.append(path)
        else:
            listing.unreadable[path] = problem
    listing.files.sort()
    return listing


def each_below(folder: Path, leave_out: Iterable[Path] = ()) -> Iterator[tuple[Path, str | None]]:
    """The same folder by folder, with names alone in memory: files, or what could not be followed, and why."""
    own = {identity for path in leave_out if (identity := _identity(path)) is not None}
    seen = (own | _above(folder)) - {_identity(folder)}
    folders, links = deque([folder]), deque[Path]()  # links wait, so that what they lead to is found under its own name
    while folders or links:
        current = folders.popleft() if folders else links.popleft()
        if (identity := _identity(current)) in seen:
            continue
        if identity is not None:
            seen.add(identity)
        try:
            names = _names(current, hidden=False)
        except OSError as error:
            yield current, _folder_problem(error)
            continue
        for path in map(current.joinpath, names):
            if path.is_symlink() and _identity(path) is None:
                yield path, _BROKEN
            elif os.path.isdir(path):  # noqa: PTH112 (for what is_dir raises before Python 3.14)
                (links if path.is_symlink() else folders).append(path)
            elif not own or _identity(path) not in own:
                yield path, None


def files_matching(pattern: str, leave_out: Collection[Path] = ()) -> Listing:
    """Files that fit a pattern of *, ?, [...] and ** (any folders), where the same are left out as in files_below.

    What is there under a name means that name, whatever is in it; and so do brackets that fit nothing.
    """
    parts = Path(pattern).parts
    listing = Listing()
    _match(Path(), parts, leave_out, listing)
    if not (listing.files or listing.unreadable) and "[" in pattern:
        _match(Path(), [part.replace("[", "[[]") for part in parts], leave_out, listing)
    return listing


def _match(folder: Path, parts: Sequence[str], leave_out: Collection[Path], listing: Listing) -> None:
    """Add the files in a folder that fit the parts of a pattern."""
    part, *rest = parts
    if part == "**":
        below = files_below(folder, leave_out)
        listing.files.extend(path for path in below.files if fits(path.relative_to(folder).parts, parts))
        fitting = {path: why for path, why in below.unreadable.items() if fits(path.relative_to(folder).parts, parts)}
        folders = {path: why for path, why in below.unreadable.items() if why != _BROKEN}  # what fits may be in there
        listing.unreadable.update(fitting | folders)
        return
    named = os.path.lexists(folder / part) or not glob.has_magic(part)
    try:
        names = [part] if named else [path.name for path in _entries(folder, hidden=part.startswith("."))]
    except OSError as error:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            listing.unreadable[folder] = _folder_problem(error)
        return
    paths = [folder / name for name in names if named or fnmatch(name, part)]
    seen = {_identity(path) for path in leave_out} - {None}
    # Links last, so that what they lead to is found under its own name.
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path)):
        identity = _identity(path)
        if identity is None:
            if not rest and path.is_symlink():
                listing.unreadable[path] = _BROKEN
        elif os.path.isdir(path):  # noqa: PTH112
            up = path.is_symlink() and not named and identity in {_identity(folder), *_above(folder)}
            if rest and identity not in seen and not up:
                seen.add(identity)
                _match(path, rest, leave_out, listing)
        elif not rest and (named or identity not in seen):
            listing.files.append(path)


def fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the names of folders and of a file in them are what the parts of a pattern ask for."""
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    if parts[0] == "**":
        return fits(names, parts[1:]) or fits(names[1:], parts)
    return fnmatch(names[0], parts[0]) and fits(names[1:], parts[1:])


def entries_in(folder: Path) -> list[Path]:
    """What lies right in a folder, sorted, without clutter and what fastnst wrote; OSError if it cannot be read."""
    return _entries(folder, hidden=False)


def is_clutter(name: str) -> bool:
    """Whether a path with slashes, as archives and stores have them, is hidden or leads through what is left out."""
    return any(is_left_out(part) for part in name.split("/") if part not in (".", ".."))


def _entries(folder: Path, hidden: bool) -> list[Path]:
    return [folder / name for name in _names(folder, hidden)]


def _names(folder: Path, hidden: bool) -> list[str]:
    """The same names, with hidden ones if these are asked for; companions, which macOS hides so, are ._x.jpg."""
    names = os.listdir(folder)
    there = set(names)
    return [name for name in sorted(names) if not is_left_out(name, hidden=hidden) and not _is_own(folder, name, there)]


def is_left_out(name: str, *, hidden: bool = False) -> bool:
    """Whether a file or folder of this name is hidden, unless hidden ones are asked for, or clutter."""
    return (not hidden and name.startswith(".")) or name.lower() in _CLUTTER


def _is_own(folder: Path, name: str, beside: Collection[str]) -> bool:
    """Whether fastnst wrote it: in a log folder, also one that is full of photographs, or the sheet of a sweep."""
    if _METRICS in beside and _OWN_LOGS.fullmatch(name):
        return True
    if _METRICS in beside and "previews" not in beside and _SNAPSHOT.fullmatch(name):
        return True
    stem, dot, _ = name.rpartition(".")
    return bool(dot) and stem in beside and (folder / stem / "sweep.json").is_file()


def _above(folder: Path) -> set[tuple[int, int] | None]:
    """The folders that a folder is in."""
    return {_identity(parent) for parent in Path(os.path.realpath(folder)).parents}


def _folder_problem(error: OSError) -> str:
    return f"the folder cannot be read: {error.strerror or error}"


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file or folder this is, whatever the way there; None if there is none, or it cannot be reached."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
