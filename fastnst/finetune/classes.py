"""Pictures in a folder of folders, which are their classes: which are trained on, which are held out, in what order."""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fastnst.data import Photographs
from fastnst.errors import FastnstError, InputError
from fastnst.files import printable
from fastnst.image import Pixels
from fastnst.listing import entries_in

log = logging.getLogger(__name__)

SMALLEST_CLASS = 4  # pictures

T = TypeVar("T")


@dataclass(frozen=True)
class LabeledPictures:
    """Usable pictures, the number of each one's class, and which are trained on and held out, by their index."""

    photographs: Photographs
    classes: list[str]
    files: list[Path]
    labels: Tensor  # (N,)
    training: list[int]
    held_out: list[int]

    @classmethod
    def of(cls, photographs: Photographs, classes: list[str], held_out: float) -> "LabeledPictures":
        """Those that did not turn out damaged, a share of each class held out; InputError if one lost too many."""
        files = [path for path in in_classes(photographs, classes) if path not in photographs.unusable]
        names = [photographs.name(path) for path in files]
        check_classes(classes, names, photographs.folder)
        labels = [classes.index(class_of(name)) for name in names]
        return cls(photographs, classes, files, torch.tensor(labels), *split(labels, held_out, photographs.seed))

    def batches(self, steps: int, size: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Epoch, from 1, and pictures of each step: all that are trained on, in the epoch's order."""
        orders = ((epoch, np.random.default_rng([self.photographs.seed, epoch])) for epoch in count(1))
        batches = (
            (epoch, batch)
            for epoch, random in orders
            for batch in in_batches(random.permutation(self.training).tolist(), size)
        )
        return islice(batches, steps)

    def crop(self, place: tuple[int, int]) -> Pixels:
        """A picture, by its index, as it is cropped in an epoch: uint8 (size, size, 3)."""
        epoch, index = place
        random = np.random.default_rng([self.photographs.seed, epoch, index])
        return self.photographs.random_crop(self.files[index], random)

    def counts(self, indices: Sequence[int]) -> list[int]:
        """How many of these pictures each class has."""
        return torch.bincount(self.labels[indices], minlength=len(self.classes)).tolist()


def class_names(photographs: Photographs) -> list[str]:
    """Names of the folders in a folder, which are its classes; links lead to others that are elsewhere."""
    left_out = [path.resolve() for path in (photographs.folder, *photographs.leave_out)]
    folders = [path for path in entries_in(photographs.folder) if path.is_dir() and path.resolve() not in left_out]
    seen = {path.resolve() for path in folders if not path.is_symlink()}
    names = []
    for path in folders:
        if path.is_symlink() and path.resolve() in seen:
            log.warning("%s is a link to another class and left out", printable(path))
        else:
            seen.add(path.resolve())
            names.append(path.name)
    return names


def class_of(name: str) -> str:
    """The first folder of a path inside the folder of classes; empty for a file that is in none."""
    first, slash, _ = name.partition("/")
    return first if slash else ""


def in_classes(photographs: Photographs, classes: Sequence[str]) -> list[Path]:
    """The pictures that are in a class."""
    return [path for path in photographs.files if class_of(photographs.name(path)) in classes]


def check_classes(classes: Sequence[str], names: Sequence[str], folder: Path) -> None:
    """InputError unless there are several classes with enough pictures each, whose names are paths in the folder."""
    if len(classes) < 2:
        number = f"only the class {printable(classes[0])}" if classes else "no classes"
        raise InputError(
            f"{printable(folder)} has {number}; give a folder with a folder of pictures for each of two or more"
        )
    counts = Counter(map(class_of, names))
    if few := [name for name in classes if counts[name] < SMALLEST_CLASS]:
        listed = ", ".join(f"{printable(name)} has {counts[name]}" for name in few)
        raise InputError(
            f"each class in {printable(folder)} needs at least {SMALLEST_CLASS} usable pictures, but {listed}; "
            "add pictures, or remove the folder"
        )


def warn_of_strays(photographs: Photographs) -> None:
    """Say how many pictures lie beside the folders."""
    if strays := [path for path in photographs.files if not class_of(photographs.name(path))]:
        log.warning("in no class and left out: %d files right in %s", len(strays), printable(photographs.folder))


def middle_if_usable(photographs: Photographs, path: Path) -> Pixels | None:
    """The largest square in the middle of a picture; None, with the reason in `unusable`, if it is damaged."""
    try:
        return photographs.middle(path)
    except FastnstError as error:
        photographs.unusable[path] = str(error)
        return None


def split(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold out: of each class the same share, rounded, but at least one and all but two."""
    training, held_out = [], []
    for label in sorted(set(labels)):
        members = [index for index, other in enumerate(labels) if other == label]
        number = min(max(math.floor(share * len(members) + 0.5), 1), len(members) - 2)
        order = np.random.default_rng([seed, label]).permutation(len(members)).tolist()
        held_out += [members[place] for place in order[:number]]
        training += [members[place] for place in order[number:]]
    return sorted(training), sorted(held_out)


def in_batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in order, in batches of this size; the last may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]
