"""What is said to somebody who begins with no command: the command that was meant, or all there are."""

import difflib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from cyclopts import UnknownCommandError

from fastnst.errors import UsageError
from fastnst.files import is_folder, printable, refuse_address

_VALUED = ("-o", "--output", "-s", "--style")  # flags that a name follows


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether it is help COMMAND..., or COMMAND help where no file has that name."""
    return words[0].lower() == "help" or (len(words) > 1 and words[-1] == "help" and not os.path.lexists("help"))


def explain(error: UnknownCommandError, words: Sequence[str]) -> str:
    """One sentence about a command line that names no command: what was given and what to type."""
    given = (error.unused_tokens or words)[0]
    before = " ".join(error.command_chain or ())
    if not before and (advice := _advice(words if given.startswith("-") else [given], words)) is not None:
        return advice
    names = sorted(name for name in error.app or () if not name.startswith("-"))
    at = f"fastnst {before}".strip()
    if given.startswith("-"):
        return f"{printable(given)} comes before any command; begin with one of {', '.join(names)}"
    if close := difflib.get_close_matches(given.lower(), [*names, "--help", "--version"], n=1, cutoff=0.7):
        return f"{printable(given)} is no command of {at}; did you mean {at} {close[0]}? {at} --help lists all"
    return f"{printable(given)} is no command of {at}; give one of {', '.join(names)}"


def _advice(candidates: Sequence[str], words: Sequence[str]) -> str | None:
    """What to type for the first picture, clip, folder or style of these words; None if there is none."""
    for before, word in zip(["", *candidates], candidates, strict=False):
        try:
            refuse_address(word)
        except UsageError as error:
            return str(error)
        if before in _VALUED or (meant := _meant(word)) is None:
            continue
        what, command = meant
        if command[0] == "stylize" and any(word.partition("=")[0] in ("-o", "--output") for word in words):
            command = ["stylize", *words]  # as it was typed
        return f"{printable(word)} is a {what}, not a command; type: fastnst {printable(shlex.join(command))}"
    return None


def _meant(word: str) -> tuple[str, list[str]] | None:
    """What a word is the name of, and a command for that."""
    from fastnst.kinds import CLIP_SUFFIXES, PICTURE_SUFFIXES, Kind, kind_of
    from fastnst.styles import bundled_names

    suffix = Path(word).suffix.lower()
    if suffix in (".safetensors", ".onnx"):
        return "style", ["info", word]
    if word in bundled_names():
        return "style", ["stylize", "photo.jpg", "-o", "painting.jpg", "--style", word]
    if word == "-":
        return "picture", ["stylize", word, "-o", "-"]
    if is_folder(word):
        return "folder", ["stylize", word, "-o", "paintings"]
    if suffix in CLIP_SUFFIXES:
        return "video", ["stylize", word, "-o", "painting.mp4"]
    if suffix in PICTURE_SUFFIXES or kind_of(Path(word)) is Kind.PICTURE:
        return "picture", ["stylize", word, "-o", "painting.jpg"]
    return None
