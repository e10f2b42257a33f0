"""Batches in this process or in one of their own, and what is left of them."""

import os
import sys
from pathlib import Path

from fastnst.batch.run import Hooks, Outcome, run_batch
from fastnst.batch.spec import spec_of
from fastnst.config import BatchOptions, ClipOptions, StylizeOptions
from helpers.material import PHOTOS, ROOT

sys.path.append(str(ROOT / "scripts"))
from batch_load import files, make_pictures, manifest

__all__ = ["files", "manifest", "mixed", "painted", "paintings"]


def mixed(folder: Path, count: int = 20, damaged: float = 0.2) -> Path:
    """The folder with so many pictures of several sizes, formats and folders, some of them damaged."""
    make_pictures(PHOTOS, folder, count, damaged)
    return folder


def paintings(folder: Path, output: Path, style: object, options: StylizeOptions | None = None) -> dict[str, bytes]:
    """What `fastnst stylize` makes of a folder: names and bytes of files."""
    from fastnst.folder import plan, run
    from fastnst.stylize import Stylizer

    options = options or StylizeOptions()
    jobs = plan([str(folder)], str(output), options)
    for _ in run(Stylizer.open(os.fspath(style)), jobs, options):
        pass
    return files(output)


def painted(
    inputs: object,
    output: object,
    style: object,
    *,
    batch: BatchOptions | None = None,
    hooks: Hooks | None = None,
    clip: ClipOptions | None = None,
    **options: object,
) -> Outcome:
    """A batch in this process, without Ray; other keywords are options of pictures."""
    given = [str(one) for one in (inputs if isinstance(inputs, list) else [inputs])]
    batch = batch or BatchOptions(address="none", block_size=4)
    spec = spec_of(str(output), [str(style)], StylizeOptions(**options), clip or ClipOptions(), batch.store)
    return run_batch(given, spec, batch, hooks or Hooks())
