"""The photographs of a training run, opened by all of its processes together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastnst.config import TrainConfig
from fastnst.crops import Crops
from fastnst.errors import FastnstError
from fastnst.nets.spec import PRESETS
from fastnst.stream.content import open_content, reader
from fastnst.train.ranks import Ranks

_ALONE = Ranks()


def open_photographs(config: TrainConfig, leave_out: Sequence[Path], ranks: Ranks = _ALONE) -> Crops[Any]:
    """What --content names, in crops of --size and the network's margin on all sides; what is in tars is kept beside
    the checkpoint. Raises what open_content raises.
    """

    def share(make: Callable[[], bytes]) -> bytes:
        return ranks.share(make() if ranks.first else b"")

    return open_content(
        config.content,
        PRESETS[config.preset].crop_side(config.size),
        config.seed,
        config.held_out,
        buffer=config.shuffle_buffer << 20,
        leave_out=leave_out,
        beside=config.output.parent,
        share=share if ranks.count > 1 else None,
    )


def named_photographs(config: TrainConfig, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Those of these photographs of a run that can still be read: what a checkpoint calls them, and their bytes."""
    try:
        read = reader(config.content, config.output.parent)
    except FastnstError:
        return
    for name in names:
        try:
            data = read(name)
        except FastnstError:
            continue
        yield name, data
