"""Options of publishing the page to a static host."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fastnst.config.shared import OverwriteOption


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SiteOptions(OverwriteOption):
    """Where the page is written."""

    output: Annotated[Path, Parameter(alias="-o")]
    """the folder; one that holds anything but an earlier site needs --overwrite, and keeps it"""
