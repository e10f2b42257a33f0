"""Training: from one style image and a folder of photographs to a checkpoint."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnst.config import TrainConfig
    from fastnst.logs import StepReport
    from fastnst.train.loop import train

__all__ = ["StepReport", "TrainConfig", "train"]

_MODULES = {"StepReport": "fastnst.logs", "TrainConfig": "fastnst.config", "train": "fastnst.train.loop"}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line asks for the ranks before it is known whether torch is needed."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'fastnst.train' has no attribute {name!r}")
