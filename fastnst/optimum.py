"""The best that is possible: the total loss where L-BFGS on the pixels stands still; remembered.

What one pass reaches says little without it: of a loss of 1.5, 0.5 may be left when nothing can be better.
"""

import hashlib
import json
import logging
import math
import os
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fastnst.device import autocast
from fastnst.errors import OutputError
from fastnst.files import printable, write_bytes
from fastnst.image import Array
from fastnst.losses import PerceptualLoss
from fastnst.optimize.descent import descend_lbfgs
from fastnst.scores import LossSettings, Optimum

log = logging.getLogger(__name__)

PATIENCE = 20  # iterations in which the loss falls by less than STILL: it stands still
STILL = 0.005
MOST = 1000  # iterations
_VERSION = 1  # of how it is found


def find_optimum(
    loss: PerceptualLoss,
    settings: LossSettings,
    style_image: Array,
    photo: Array,
    dtype: torch.dtype = torch.float32,
) -> Optimum:
    """The optimum for a photo by L-BFGS from it, or as remembered; both pictures are (1, 3, H, W) 0..1.

    `dtype` is that of the convolutions; losses at the photo and at the end are in float32. It is the best that this
    descent finds, no bound.
    """
    path = cache_folder() / f"{_key(settings, style_image, photo, dtype)}.json"
    if (known := _read(path)) is not None:
        return known
    device = loss.style_roughness.device
    content = torch.from_numpy(photo).to(device, memory_format=torch.channels_last)
    with torch.no_grad(), autocast(device, dtype):
        targets = loss.targets(content)

    def total(picture: torch.Tensor) -> torch.Tensor:
        with autocast(device, dtype):
            return loss(picture, targets).total  # type: ignore[no-any-return]

    recent: deque[float] = deque(maxlen=PATIENCE + 1)
    for iterate in descend_lbfgs(total, content, MOST):
        recent.append(iterate.loss)
        if len(recent) > PATIENCE and recent[-1] > (1 - STILL) * recent[0]:
            break
    with torch.no_grad():
        before, after = (float(loss(picture, content).total) for picture in (content, iterate.picture))
    found = Optimum(before, after, iterate.iteration)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(asdict(found)).encode())
    except (OSError, OutputError) as error:
        log.warning("an optimum is not remembered: %s", error)
    return found


def cache_folder() -> Path:
    """Where optima are remembered: below XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "fastnst" / "optima"


def _key(settings: LossSettings, style_image: Array, photo: Array, dtype: torch.dtype) -> str:
    given = {"version": _VERSION, "dtype": str(dtype), "settings": asdict(settings)}
    if (vgg := Path(settings.vgg)).is_file():
        given["vgg"] = hashlib.sha256(vgg.read_bytes()).hexdigest()
    sha = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    for picture in (style_image, photo):
        sha.update(repr(picture.shape).encode() + picture.tobytes())
    return sha.hexdigest()


def _read(path: Path) -> Optimum | None:
    """What was remembered; None if nothing was, or it is damaged."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        found = Optimum(float(values["photo"]), float(values["best"]), int(values["iterations"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not (math.isfinite(found.photo) and math.isfinite(found.best)):
        log.warning("%s is damaged; its optimum is found again", printable(path))
        return None
    return found
